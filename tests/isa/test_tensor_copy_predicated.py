from __future__ import annotations

import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    places,
    shapes,
)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("number", [False, True])
def test_a_predicated_copy_leaves_the_rest_alone(bench, reverse, number):
    old, new, predicate = integers((3, 4)), integers((3, 4), 1), integers((3, 4), 2, 0, 2)
    dst = bench.tile(old)
    bench.run(
        "tensor_copy_predicated",
        dst=dst,
        src=7.0 if number else bench.tile(new),
        predicate=bench.tile(predicate, "uint8"),
        reverse_pred=reverse,
    )
    for p in range(3):
        for i in range(4):
            chosen = (predicate[p, i] != 0) != reverse
            expected = (7 if number else new[p, i]) if chosen else old[p, i]
            assert bench.values(dst)[p, i] == expected


def test_a_predicated_copy_refuses_a_float_predicate(bench):
    with pytest.raises(HardwareLimitError, match=r"predicate .* is float32"):
        bench.form(
            "tensor_copy_predicated",
            dst=bench.empty((3, 4)),
            src=bench.empty((3, 4)),
            predicate=bench.empty((3, 4)),
        )


@on_every_generation(
    "tensor_copy_predicated",
    shape=shapes,
    kind=st.sampled_from(KINDS),
    mask=st.sampled_from(["uint8", "uint16", "uint32"]),
    reverse=st.booleans(),
    where=places,
    lay=st.tuples(layouts, layouts, layouts),
)
def test_chosen_elements_are_replaced(core, shape, kind, mask, reverse, where, lay):
    bench = Bench(core)
    old, new = small(shape, kind), small(shape, kind, 1)
    predicate = integers(shape, 2, 0, 3)
    dst = bench.lay(old, lay[0], kind)
    bench.run(
        "tensor_copy_predicated",
        dst=dst,
        src=bench.lay(new, lay[1], kind, where),
        predicate=bench.lay(predicate, lay[2], mask),
        reverse_pred=reverse,
    )
    for p in range(shape[0]):
        for i in range(shape[1]):
            chosen = (predicate[p, i] != 0) != reverse
            assert bench.seen(dst)[p, i] == (new if chosen else old)[p, i]


def test_a_predicated_copy_keeps_32_bit_integers(bench):
    dst = bench.tile([[2**24 + 1, 5]], "int32")
    src, predicate = bench.tile([[7, 2**31 - 1]], "int32"), bench.tile([[0, 1]], "uint8")
    bench.run("tensor_copy_predicated", dst=dst, src=src, predicate=predicate)
    assert bench.read(dst).tolist() == [[2**24 + 1, 2**31 - 1]]


def test_two_inputs_in_sbuf_take_two_cycles_an_element(bench):
    # ISA v2.26: 2N with both in SBUF, N with one in PSUM.
    def cycles(where):
        tiles = {"dst": bench.empty((4, 512)), "src": bench.empty((4, 512), where=where)}
        predicate = bench.empty((4, 512), "uint8")
        return bench.form("tensor_copy_predicated", **tiles, predicate=predicate).cost.cycles

    assert (cycles("sbuf"), cycles("psum")) == (1024, 512)
