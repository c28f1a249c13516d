"""Registers and dynamic loops: values, what they bound and address, recording without data."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import FrozenRegisterError, HardwareLimitError, OutOfBoundsError, UsageError


def mnemonics(program):
    return [program.forms[f].mnemonic for block, _ in program.leaves() for f in block.form]


def test_a_new_register_holds_zero_an_int_or_an_element(active, in_sbuf):
    # 0.2: int, None or a one-element tensor; uninitialised ones are used as 0 (nki_api §7.37).
    tile = in_sbuf(np.array([[3, 5]], np.int32))
    assert nisa.register_alloc().value == 0
    assert nisa.register_alloc(-7).value == -7
    with pytest.warns(DeprecationWarning, match=r"register_alloc\(tensor\)"):
        assert nisa.register_alloc(tile[0, 1]).value == 5
    assert nisa.register_alloc(nisa.register_alloc(4)).value == 4


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.int32, -(2**31) + 3),
        (np.int32, 2**24 + 1),
        (np.uint32, 2**32 - 1),
        (np.int16, -5),
        (np.uint8, 200),
        (np.float32, 1.25),
    ],
)
def test_load_and_store_keep_every_bit(active, in_sbuf, in_hbm, dtype, value):
    source = np.array([[value]], dtype)
    register = nisa.register_alloc()
    nisa.register_load(register, in_sbuf(source))
    assert register.value == value
    for buffer in (nl.sbuf, nl.private_hbm):
        made = nl.ndarray((1, 1), source.dtype, buffer)
        nisa.register_store(made, register)
        assert active.contents(made).tolist() == source.tolist()


def test_move_takes_numbers_registers_and_the_keyword_of_0_2(active):
    a, b = nisa.register_alloc(), nisa.register_alloc(9)
    nisa.register_move(a, b)
    assert a.value == 9
    nisa.register_move(a, 2**31 - 1)
    assert a.value == 2**31 - 1
    with pytest.warns(DeprecationWarning, match="src="):
        nisa.register_move(a, imm=-4)
    assert a.value == -4
    assert b.value == 9


def test_only_one_element_outside_psum_is_loaded(active, in_sbuf):
    register = nisa.register_alloc()
    with pytest.raises(HardwareLimitError, match=r"src .* \[1, 2\]"):
        nisa.register_load(register, in_sbuf(np.array([[3, 5]], np.int32)))
    with pytest.raises(HardwareLimitError, match="psum"):
        nisa.register_load(register, nl.zeros((1, 1), nl.float32, nl.psum))
    with pytest.raises(UsageError, match="is no register"):
        nisa.register_load(3, in_sbuf(np.array([[3]], np.int32)))


def test_a_register_stands_for_its_value_in_arithmetic(active):
    r, s = nisa.register_alloc(7), nisa.register_alloc(2)
    found = [r + 1, 10 - r, r * s, r // s, r % 4, abs(-r), int(r), r == 7, r < 7, r >= s, r != 7]
    assert found == [8, 3, 14, 3, 3, 7, 7, True, False, True, False]
    assert list(range(r))[s:4] == [2, 3]
    assert f"{r + 0}" == "7"


def test_a_register_addresses_hbm_and_tiles(active, in_hbm, in_sbuf):
    source = np.arange(24, dtype=np.float32).reshape(4, 6)
    register = nisa.register_alloc(2)
    row = nl.ndarray((1, 6), nl.float32)
    nisa.dma_copy(row, in_hbm(source).ap([[6, 1], [1, 6]], scalar_offset=register))
    column = nl.ndarray((4, 1), nl.float32)
    nisa.tensor_copy(column, in_sbuf(source)[:, register])
    pair = nl.ndarray((4, 2), nl.float32)
    nisa.tensor_copy(pair, in_sbuf(source)[:, nl.ds(register, 2)])
    assert active.contents(row).tolist() == [source[2].tolist()]
    assert active.contents(column).ravel().tolist() == source[:, 2].tolist()
    assert active.contents(pair).tolist() == source[:, 2:4].tolist()
    nisa.register_move(register, 5)
    with pytest.raises(OutOfBoundsError, match="legal indices are 0 to 3"):
        nisa.dma_copy(row, in_hbm(source).ap([[6, 1], [1, 6]], scalar_offset=register))


@pytest.mark.parametrize(
    "bounds", [(4,), (1, 5), (2, 11, 3), (3, 3), ("r4",), (1, "r5"), ("r2", "r11", 3)]
)
def test_dynamic_range_counts_as_range_does(active, bounds):
    def bound(b):
        return nisa.register_alloc(int(b[1:])) if isinstance(b, str) else b

    plain = [int(b[1:]) if isinstance(b, str) else b for b in bounds]
    assert [i.value for i in nl.dynamic_range(*map(bound, bounds))] == list(range(*plain))


def test_every_engine_branches_before_each_iteration_and_at_the_end(active):
    for _ in nl.dynamic_range(nisa.register_alloc(2)):
        pass
    forms = [active.program.forms[f] for block, _ in active.program.leaves() for f in block.form]
    branches = [form for form in forms if form.mnemonic == "loop_branch"]
    engines = [engine.name for engine in active.core.engines]
    assert [form.engine for form in branches] == engines * 3
    assert {form.cost.cycles for form in branches} == {active.core.timing.branch_cycles}


def test_the_counter_of_a_loop_cannot_be_written(active, in_sbuf):
    tile = in_sbuf(np.array([[3]], np.int32))
    for i in nl.dynamic_range(1):
        for write in (nisa.register_load, nisa.register_move):
            with pytest.raises(FrozenRegisterError, match="cannot be written"):
                write(i, tile if write is nisa.register_load else 3)
        assert issubclass(FrozenRegisterError, AssertionError)


@pytest.mark.parametrize("step", [0, -1, "register"])
def test_the_step_is_a_positive_int(active, step):
    # nki-dynamic-loops: passing a VirtualRegister raises an AssertionError.
    with pytest.raises(AssertionError, match="step="):
        nl.dynamic_range(0, 4, nisa.register_alloc(1) if step == "register" else step)


def test_while_goes_on_until_the_register_is_zero(active, in_sbuf):
    left = in_sbuf(np.array([[3]], np.int32))
    condition = nisa.register_alloc()
    nisa.register_load(condition, left)
    turns = 0
    while condition:
        nisa.tensor_scalar(left, left, nl.subtract, 1)
        nisa.register_load(condition, left)
        turns += 1
    assert turns == 3


def test_fori_loop_and_while_loop_call_their_bodies(active, in_sbuf):
    seen = []
    nl.fori_loop(1, nisa.register_alloc(6), lambda i: seen.append(i.value), step=2)
    assert seen == [1, 3, 5]

    left = in_sbuf(np.array([[2]], np.int32))

    def body(register):
        seen.append(register.value)
        nisa.tensor_scalar(left, left, nl.subtract, 1)
        nisa.register_load(register, left)
        return register

    nl.while_loop(nisa.register_alloc(2), body)
    assert seen[3:] == [2, 1]
    with pytest.raises(UsageError, match="what its body returns"):
        nl.while_loop(nisa.register_alloc(1), lambda r: None)


def test_dynamic_loops_are_refused_inside_of_no_reorder(active):
    with nl.no_reorder(), pytest.raises(UsageError, match="into the loop's body"):
        nl.dynamic_range(3)
    for _ in nl.dynamic_range(1):
        with nl.no_reorder():
            nl.zeros((1, 1), nl.float32)


@nki.jit
def copy_some_tiles(source, count):
    made = nl.ndarray(source.shape, source.dtype, buffer=nl.shared_hbm)
    trips = nl.ndarray((1, 1), nl.int32)
    nisa.dma_copy(trips, count)
    stop = nisa.register_alloc()
    nisa.register_load(stop, trips)
    nisa.dma_copy(made, source)
    for i in nl.dynamic_range(0, stop, 2):
        tile = nl.ndarray((2, 4), nl.float32)
        nisa.dma_copy(tile, source.ap([[4, 2], [1, 4]], scalar_offset=i))
        nisa.activation(tile, nl.square, tile)
        nisa.dma_copy(made.ap([[4, 2], [1, 4]], scalar_offset=i), tile)
    return made


SOURCE = np.arange(32, dtype=np.float32).reshape(8, 4)


def test_a_loop_bounded_by_data_runs_and_is_timed():
    one, three = (
        nki.run_kernel(copy_some_tiles, (SOURCE, np.array([[n]], np.int32))) for n in (2, 6)
    )
    wanted = np.concatenate([SOURCE[:6] ** 2, SOURCE[6:]])
    assert three.outputs.tolist() == wanted.tolist()
    assert three.timing.total_ps > one.timing.total_ps


def test_recording_without_data_needs_the_values_that_data_decides():
    arguments = (SOURCE, nki.ShapeDtype((1, 1), "int32"))
    with pytest.raises(UsageError, match=r"test_registers\.py:\d+: The register loaded at") as told:
        nki.run_kernel(copy_some_tiles, arguments, execute=False)
    place = str(told.value).split("loaded at ")[1].split()[0]
    with_data = nki.run_kernel(copy_some_tiles, (SOURCE, np.array([[6]], np.int32)))
    for values in (6, {place: 6}):
        with nki.assume_registers(values):
            without = nki.run_kernel(copy_some_tiles, arguments, execute=False)
        assert mnemonics(without.program) == mnemonics(with_data.program)
        assert without.timing.total_ps == with_data.timing.total_ps


@nki.jit
def count_down(start):
    made = nl.ndarray((1, 1), nl.int32, buffer=nl.shared_hbm)
    left = nl.ndarray((1, 1), nl.int32)
    nisa.dma_copy(left, start)
    outer = nisa.register_alloc(2)
    for _ in nl.dynamic_range(outer):
        condition = nisa.register_alloc(1)
        nisa.register_load(condition, left)
        while condition:
            nisa.tensor_scalar(left, left, nl.subtract, 1)
            nisa.register_load(condition, left)
    nisa.register_move(outer, 3)
    nisa.register_store(made, outer)
    return made


def test_an_assumed_condition_holds_as_often_as_stated():
    with nki.assume_registers(4):
        run = nki.run_kernel(count_down, (nki.ShapeDtype((1, 1), "int32"),), execute=False)
    # Twice (a register moved as a number needs no assumption), four times round the while.
    assert mnemonics(run.program).count("tensor_scalar") == 8
