"""Two cores, and collectives of ranks."""

import emuron.nki.collectives as ncc
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import DeadlockError, RaceError, UsageError
from tests.illegal.table import Table
from tests.illegal.tiles import hbm, psum, sbuf

TABLE = Table("NKI 0.6, nki.isa.sendrecv")


@TABLE.refuses(
    "send_to_rank is a core of the launch.",
    "sendrecv: send_to_rank=1 … one core … kernel[2]",
)
def a_message_to_a_core_that_is_not_there():
    nisa.sendrecv(src=sbuf(4, 4), dst=sbuf(4, 4), send_to_rank=1, recv_from_rank=1, pipe_id=0)


@TABLE.refuses(
    "send_to_rank is 0 or 1.",
    "sendrecv: send_to_rank=3 … 2 cores … from 0 to 1",
    cores=2,
)
def a_message_to_a_third_core():
    nisa.sendrecv(src=sbuf(4, 4), dst=sbuf(4, 4), send_to_rank=3, recv_from_rank=0, pipe_id=0)


@TABLE.refuses(
    "Both tiles lie in SBUF.",
    "sendrecv: src … must lie in sbuf … shared_hbm … Copy it",
    cores=2,
)
def a_message_from_hbm():
    other = 1 - nl.program_id(0)
    nisa.sendrecv(
        src=hbm(4, 4), dst=sbuf(4, 4), send_to_rank=other, recv_from_rank=other, pipe_id=0
    )


@TABLE.refuses(
    "Both sides have the same shape and dtype.",
    "sendrecv on pipe 0 … [4, 4] … [4, 5] … same shape",
    UsageError,
    cores=2,
)
def a_message_of_another_shape():
    me = nl.program_id(0)
    tile = sbuf(4, 4 + me)
    nisa.sendrecv(src=tile, dst=tile, send_to_rank=1 - me, recv_from_rank=1 - me, pipe_id=0)


@TABLE.refuses(
    "gpsimd_dma moves at most 1024 bytes a partition of 32-bit types.",
    "sendrecv: dma_engine=gpsimd_dma … 1024 bytes … 2048 … Use dma_engine=dma",
    cores=2,
)
def a_message_too_large_for_gpsimd():
    other, tile = 1 - nl.program_id(0), sbuf(4, 512)
    nisa.sendrecv(
        src=tile,
        dst=tile,
        send_to_rank=other,
        recv_from_rank=other,
        pipe_id=0,
        dma_engine=nisa.dma_engine.gpsimd_dma,
    )


@TABLE.refuses(
    "Operations of one pipe meet in order.",
    "No core can go on … core 0 … pipe 0 … core 1 … pipe 1 … same order",
    DeadlockError,
    is_placed=False,
    cores=2,
)
def messages_on_different_pipes():
    me, tile = nl.program_id(0), sbuf(4, 4)
    nisa.sendrecv(src=tile, dst=tile, send_to_rank=1 - me, recv_from_rank=1 - me, pipe_id=me)


@TABLE.refuses(
    "All cores come to a barrier.",
    "No core can go on … waits in core_barrier … core 1 has ended … same order",
    DeadlockError,
    is_placed=False,
    source="NKI 0.6, nki.isa.core_barrier",
    cores=2,
)
def a_barrier_that_one_core_misses():
    if nl.program_id(0) == 0:
        nisa.core_barrier(hbm(4, 4), (0, 1))


@TABLE.refuses(
    "A barrier needs both cores.",
    "core_barrier: cores=[0, 1] … one core … kernel[2]",
    source="NKI 0.6, nki.isa.core_barrier",
)
def a_barrier_of_one_core():
    nisa.core_barrier(hbm(4, 4), (0, 1))


@TABLE.refuses(
    "cores is (0, 1).",
    "core_barrier: cores=[0, 1, 2] … 2 cores … cores=(0, 1)",
    cores=2,
    source="NKI 0.6, nki.isa.core_barrier",
)
def a_barrier_of_three_cores():
    nisa.core_barrier(hbm(4, 4), (0, 1, 2))


@TABLE.refuses(
    "Two physical cores form a logical one from Trainium2 on.",
    "two_cores_on_inferentia2[2] … 2 physical cores … inferentia2 have 1",
    UsageError,
    is_placed=False,
    target="inf2",
    source="NKI 0.6, logical NeuronCores",
    cores=2,
)
def two_cores_on_inferentia2():
    hbm(4, 4)


@TABLE.refuses(
    "A shared tensor is one for both cores.",
    "Tensor number 1 … [4, 4] … [4, 5] … allocate the same",
    UsageError,
    source="NKI 0.6, logical NeuronCores",
    cores=2,
)
def shared_tensors_of_different_shape():
    nl.ndarray((4, 4 + nl.program_id(0)), nl.float32, buffer=nl.shared_hbm)


@TABLE.refuses(
    "A group names ranks of the launch.",
    "all_reduce … rank 1 … one rank … simulate_ranks",
    UsageError,
    source="NKI 0.6, nki.collectives.all_reduce",
)
def a_collective_of_ranks_that_are_not_there():
    ncc.all_reduce([hbm(4, 4)], [hbm(4, 4)], ncc.ReplicaGroup([[0, 1]]), nl.add)


@TABLE.refuses(
    "op is add, minimum or maximum.",
    "all_reduce: op=multiply … is not possible … Use add",
    source="NKI 0.6, nki.collectives.all_reduce",
)
def a_product_of_ranks():
    group = ncc.ReplicaGroup([[0]])
    ncc.all_reduce([hbm(4, 4)], [hbm(4, 4)], group, nl.multiply)


@TABLE.refuses(
    "HBM or SBUF, not mixed.",
    "all_reduce: … SBUF and HBM … copy one side",
    source="NKI 0.6, nki.collectives.all_reduce",
)
def a_collective_between_memories():
    group = ncc.ReplicaGroup([[0]])
    ncc.all_reduce([sbuf(4, 4)], [hbm(4, 4)], group, nl.add)


@TABLE.refuses(
    "srcs is a list of tensors.",
    "all_reduce: srcs … list of tensors … srcs=[x]",
    UsageError,
    source="NKI 0.6, nki.collectives.all_reduce",
)
def a_collective_of_a_single_tensor():
    group = ncc.ReplicaGroup([[0]])
    ncc.all_reduce(hbm(4, 4), hbm(4, 4), group, nl.add)


@TABLE.refuses(
    "There is a destination for each source.",
    "all_reduce: … 1 srcs … 2 dsts … one for each",
    UsageError,
    source="NKI 0.6, nki.collectives.all_reduce",
)
def a_collective_of_unequal_lists():
    group = ncc.ReplicaGroup([[0]])
    ncc.all_reduce([hbm(4, 4)], [hbm(4, 4), hbm(4, 4)], group, nl.add)


@TABLE.refuses(
    "Tensors lie in HBM or SBUF.",
    "all_reduce: src … sbuf or … psum … Copy it",
    source="NKI 0.6, nki.collectives.all_reduce",
)
def a_collective_in_psum():
    group = ncc.ReplicaGroup([[0]])
    ncc.all_reduce([psum(4, 4)], [psum(4, 4)], group, nl.add)


@TABLE.refuses(
    "The destination holds all parts.",
    "all_gather: dst is [4, 8] … [4, 4] … Give it that shape",
    source="NKI 0.6, nki.collectives.all_gather",
)
def a_gather_into_the_wrong_shape():
    group = ncc.ReplicaGroup([[0]])
    ncc.all_gather([hbm(4, 4)], [hbm(4, 8)], group, 0)


@TABLE.refuses(
    "In HBM the parts lie along dimension 0.",
    "all_gather: collective_dim=1 … HBM … 0",
    source="NKI 0.6, nki.collectives.all_gather",
)
def a_gather_along_columns_in_hbm():
    group = ncc.ReplicaGroup([[0]])
    ncc.all_gather([hbm(4, 4)], [hbm(4, 4)], group, 1)


@TABLE.refuses(
    "The destination holds a part.",
    "reduce_scatter: dst is [2, 4] … [5, 4] … Give it that shape",
    source="NKI 0.6, nki.collectives.reduce_scatter",
)
def a_scatter_into_the_wrong_shape():
    group = ncc.ReplicaGroup([[0]])
    ncc.reduce_scatter([hbm(5, 4)], [hbm(2, 4)], group, 0, nl.add)


@TABLE.refuses(
    "A rank sends to one other.",
    "collective_permute: … source of two … [[0, 1], [0, 0]] … Each rank sends",
    source="NKI 0.6, nki.collectives.collective_permute",
)
def a_rank_that_sends_twice():
    ncc.collective_permute([hbm(4, 4)], [hbm(4, 4)], [[0, 1], [0, 0]])


@TABLE.refuses(
    "At most 4 channels.",
    "collective_permute_implicit: channel_ids=[0, 1, 2, 3, 4] … at most … 4",
    source="NKI 0.6, nki.collectives.collective_permute_implicit",
)
def five_channels():
    group = ncc.ReplicaGroup([[0]])
    tensors = [[hbm(4, 4)]] * 5
    ncc.collective_permute_implicit(tensors, tensors, group, channel_ids=[0, 1, 2, 3, 4])


@TABLE.refuses(
    "A rank is in one group, once.",
    "ReplicaGroup([[0, 0]]) … one group … once",
    UsageError,
    source="NKI 0.6, nki.collectives.ReplicaGroup",
)
def a_rank_twice_in_a_group():
    ncc.ReplicaGroup([[0, 0]])


@TABLE.refuses(
    "Reads and writes of shared memory by two cores are ordered by a barrier.",
    "core 0 writes … (dma_copy at cores.py: … core 1 reads 64 … put nisa.core_barrier",
    RaceError,
    source="NKI 0.6, logical NeuronCores",
    cores=2,
    is_placed=False,
)
def a_read_of_what_the_other_core_writes():
    shared = hbm(4, 4)
    if nl.program_id(0) == 0:
        nisa.dma_copy(dst=shared, src=sbuf(4, 4))
    else:
        nisa.dma_copy(dst=sbuf(4, 4), src=shared)


@TABLE.refuses(
    "Writes of shared memory by two cores are ordered by a barrier.",
    "core 0 writes … (dma_copy at cores.py: … core 1 writes other values … put nisa.core_barrier",
    RaceError,
    source="NKI 0.6, logical NeuronCores",
    cores=2,
    runs=True,
    is_placed=False,
)
def a_write_of_what_the_other_core_writes():
    nisa.dma_copy(dst=hbm(4, 4), src=sbuf(4, 4, value=nl.program_id(0)))
