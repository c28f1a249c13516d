# Generated from the instruction classes by `python -m emuron.nki.isa_stub`; do not edit.
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from emuron.isa.instruction import REGISTRY as REGISTRY
from emuron.isa.tensor import AccessPattern
from emuron.nki.enums import dge_mode as dge_mode
from emuron.nki.enums import dma_engine as dma_engine
from emuron.nki.enums import engine as engine
from emuron.nki.enums import matmul_perf_mode as matmul_perf_mode
from emuron.nki.enums import nc_version as nc_version
from emuron.nki.enums import oob_mode as oob_mode
from emuron.nki.enums import reduce_cmd as reduce_cmd
from emuron.nki.registers import VirtualRegister as VirtualRegister
from emuron.nki.registers import register_alloc as register_alloc
from emuron.nki.registers import register_load as register_load
from emuron.nki.registers import register_move as register_move
from emuron.nki.registers import register_store as register_store
from emuron.nki.scheduling import NkiInstruction as NkiInstruction

constants: SimpleNamespace
tensor_engine: engine
vector_engine: engine
scalar_engine: engine
gpsimd_engine: engine
unknown_engine: engine

def get_nc_version() -> nc_version: ...
def get_nc_sub_version() -> int: ...
def activate2(
    dst: AccessPattern,
    op: str,
    data: AccessPattern,
    imm0: AccessPattern | float | None,
    imm1: AccessPattern | float | None,
    op0: str,
    op1: str,
    relu_param: AccessPattern | float | None = ...,
    reverse0: bool = ...,
    reverse1: bool = ...,
    reduce_op: str | None = ...,
    reduce_res: AccessPattern | None = ...,
    reduce_cmd: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def activation(
    dst: AccessPattern,
    op: str,
    data: AccessPattern,
    bias: AccessPattern | float | None = ...,
    scale: AccessPattern | float | None = ...,
    reduce_op: str | None = ...,
    reduce_res: AccessPattern | None = ...,
    reduce_cmd: str = ...,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def activation_reduce(
    dst: AccessPattern,
    op: str,
    data: AccessPattern,
    reduce_op: str,
    reduce_res: AccessPattern,
    bias: AccessPattern | float | None = ...,
    scale: AccessPattern | float | None = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def affine_select(
    dst: AccessPattern,
    pattern: Any,
    channel_multiplier: int,
    on_true_tile: AccessPattern,
    on_false_value: float,
    cmp_op: str = ...,
    offset: AccessPattern | float | None = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def bn_aggr(
    dst: AccessPattern,
    data: AccessPattern,
    name: str | None = ...,
) -> NkiInstruction: ...
def bn_stats(
    dst: AccessPattern,
    data: AccessPattern,
    name: str | None = ...,
) -> NkiInstruction: ...
def core_barrier(
    data: AccessPattern,
    cores: Any,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def dma_compute(
    dst: AccessPattern,
    srcs: Sequence[AccessPattern],
    reduce_op: str,
    scales: Sequence[float] | None = ...,
    unique_indices: bool = ...,
    oob_mode: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def dma_copy(
    dst: AccessPattern,
    src: AccessPattern,
    priority: int | None = ...,
    oob_mode: str = ...,
    dge_mode: str = ...,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def dma_transpose(
    dst: AccessPattern,
    src: AccessPattern,
    axes: Any = ...,
    priority: int | None = ...,
    dge_mode: str = ...,
    oob_mode: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def dropout(
    dst: AccessPattern,
    data: AccessPattern,
    prob: AccessPattern | float | None,
    name: str | None = ...,
) -> NkiInstruction: ...
def exponential(
    dst: AccessPattern,
    src: AccessPattern,
    max_value: AccessPattern | float | None = ...,
    reduce_res: AccessPattern | None = ...,
    reduce_cmd: str = ...,
    reduce_init: AccessPattern | float | None = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def iota(
    dst: AccessPattern,
    pattern: Any,
    offset: AccessPattern | float | None = ...,
    channel_multiplier: int = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def local_gather(
    dst: AccessPattern,
    src_buffer: AccessPattern,
    index: AccessPattern,
    num_elem_per_idx: int = ...,
    num_valid_indices: int | None = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def max8(
    dst: AccessPattern,
    src: AccessPattern,
    name: str | None = ...,
) -> NkiInstruction: ...
def memset(
    dst: AccessPattern,
    value: float,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def nc_find_index8(
    dst: AccessPattern,
    data: AccessPattern,
    vals: AccessPattern,
    name: str | None = ...,
) -> NkiInstruction: ...
def nc_match_replace8(
    dst: AccessPattern,
    data: AccessPattern,
    vals: AccessPattern,
    imm: float,
    dst_idx: AccessPattern | None = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def nc_matmul(
    dst: AccessPattern,
    stationary: AccessPattern,
    moving: AccessPattern,
    is_stationary_onezero: bool = ...,
    is_moving_onezero: bool = ...,
    is_transpose: bool = ...,
    accumulate: bool | None = ...,
    tile_position: Any = ...,
    tile_size: Any = ...,
    perf_mode: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def nc_matmul_mx(
    dst: AccessPattern,
    stationary: AccessPattern,
    moving: AccessPattern,
    stationary_scale: AccessPattern,
    moving_scale: AccessPattern,
    tile_position: Any = ...,
    tile_size: Any = ...,
    accumulate: bool | None = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def nc_n_gather(
    dst: AccessPattern,
    data: AccessPattern,
    indices: AccessPattern,
    name: str | None = ...,
) -> NkiInstruction: ...
def nc_stream_shuffle(
    dst: AccessPattern,
    src: AccessPattern,
    shuffle_mask: Any,
    name: str | None = ...,
) -> NkiInstruction: ...
def nc_transpose(
    dst: AccessPattern,
    data: AccessPattern,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def nonzero_with_count(
    dst: AccessPattern,
    src: AccessPattern,
    index_offset: int = ...,
    padding_val: int = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def quantize_mx(
    dst: AccessPattern,
    src: AccessPattern,
    dst_scale: AccessPattern,
    ocp_scale: bool = ...,
    clears_rows: bool = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def rand2(
    dst: AccessPattern,
    min: AccessPattern | float | None,
    max: AccessPattern | float | None,
    name: str | None = ...,
) -> NkiInstruction: ...
def rand_get_state(
    dst: AccessPattern,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def rand_set_state(
    src_seeds: AccessPattern,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def range_select(
    dst: AccessPattern,
    on_true_tile: AccessPattern,
    comp_op0: str,
    comp_op1: str,
    bound0: AccessPattern,
    bound1: AccessPattern,
    reduce_cmd: str = ...,
    reduce_res: AccessPattern | None = ...,
    reduce_op: str = ...,
    range_start: int = ...,
    on_false_value: float = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def reciprocal(
    dst: AccessPattern,
    data: AccessPattern,
    name: str | None = ...,
) -> NkiInstruction: ...
def rng(
    dst: AccessPattern,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def scalar_tensor_tensor(
    dst: AccessPattern,
    data: AccessPattern,
    op0: str,
    operand0: AccessPattern | float | None,
    op1: str,
    operand1: AccessPattern,
    reverse0: bool = ...,
    reverse1: bool = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def select_reduce(
    dst: AccessPattern,
    predicate: AccessPattern,
    on_true: AccessPattern,
    on_false: AccessPattern | float | None,
    reduce_res: AccessPattern | None = ...,
    reduce_cmd: str = ...,
    reduce_op: str = ...,
    reverse_pred: bool = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def sendrecv(
    src: AccessPattern,
    dst: AccessPattern,
    send_to_rank: int,
    recv_from_rank: int,
    pipe_id: int,
    dma_engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def sequence_bounds(
    dst: AccessPattern,
    segment_ids: AccessPattern,
    name: str | None = ...,
) -> NkiInstruction: ...
def set_rng_seed(
    src_seeds: AccessPattern,
    name: str | None = ...,
) -> NkiInstruction: ...
def tensor_copy(
    dst: AccessPattern,
    src: AccessPattern,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def tensor_copy_predicated(
    dst: AccessPattern,
    src: AccessPattern | float | None,
    predicate: AccessPattern,
    reverse_pred: bool = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def tensor_partition_reduce(
    dst: AccessPattern,
    op: str,
    data: AccessPattern,
    name: str | None = ...,
) -> NkiInstruction: ...
def tensor_reduce(
    dst: AccessPattern,
    op: str,
    data: AccessPattern,
    axis: Any,
    negate: bool = ...,
    keepdims: bool = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def tensor_scalar(
    dst: AccessPattern,
    data: AccessPattern,
    op0: str,
    operand0: AccessPattern | float | None = ...,
    reverse0: bool = ...,
    op1: str | None = ...,
    operand1: AccessPattern | float | None = ...,
    reverse1: bool = ...,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def tensor_scalar_cumulative(
    dst: AccessPattern,
    src: AccessPattern,
    op0: str,
    op1: str,
    imm0: AccessPattern | float | None,
    imm1: AccessPattern | float | None = ...,
    reduce_cmd: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def tensor_scalar_reduce(
    dst: AccessPattern,
    data: AccessPattern,
    op0: str,
    operand0: AccessPattern | float | None,
    reduce_op: str,
    reduce_res: AccessPattern | None = ...,
    reverse0: bool = ...,
    reduce_cmd: str = ...,
    reduce_init: AccessPattern | float | None = ...,
    reduce_res_negate: bool = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def tensor_tensor(
    dst: AccessPattern,
    data1: AccessPattern,
    data2: AccessPattern,
    op: str,
    engine: str = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def tensor_tensor_scan(
    dst: AccessPattern,
    data0: AccessPattern,
    data1: AccessPattern,
    initial: AccessPattern | float | None,
    op0: str,
    op1: str,
    reverse0: bool = ...,
    reverse1: bool = ...,
    name: str | None = ...,
) -> NkiInstruction: ...
def topk(
    val_dst: AccessPattern,
    idx_dst: AccessPattern,
    src: AccessPattern,
    n: int,
    name: str | None = ...,
) -> NkiInstruction: ...
