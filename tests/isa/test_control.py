"""Register instructions and branches: engines, costs from the core's figures, limits."""

from __future__ import annotations

import pytest

from emuron.errors import HardwareLimitError
from emuron.isa.control import LoopBranch, RegisterLoad, RegisterMove, RegisterStore
from emuron.isa.instruction import FormTable
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.numerics.dtypes import int32


def view(region, shape=(1, 1)):
    return AccessPattern(Tensor("t", shape, int32, region))


REGISTER = view(MemoryRegion.register)


@pytest.mark.parametrize("region", [MemoryRegion.sbuf, MemoryRegion.private_hbm])
def test_a_load_takes_the_time_of_a_read_from_memory(chip, region):
    table = FormTable(chip.core)
    for form in (
        table.form(RegisterLoad, (REGISTER, view(region))),
        table.form(RegisterStore, (view(region), REGISTER)),
    ):
        ns = chip.core.engine("sync").ps(form.cost.cycles) / 1000
        assert (form.engine, ns) == (
            "sync",
            pytest.approx(chip.core.timing.register_load_ns, abs=0.01),
        )


def test_a_move_takes_the_time_of_an_instruction_without_data(chip):
    form = FormTable(chip.core).form(RegisterMove, (REGISTER, 3.0))
    ns = chip.core.engine("sync").ps(form.cost.cycles) / 1000
    assert ns == pytest.approx(chip.core.timing.semaphore_instruction_ns, abs=0.01)


def test_a_branch_runs_on_its_engine(chip):
    for engine in chip.core.engines:
        form = FormTable(chip.core).form(LoopBranch, (REGISTER,), (engine.name,))
        assert (form.engine, form.cost.cycles) == (engine.name, chip.core.timing.branch_cycles)


@pytest.mark.parametrize(
    "operands",
    [
        (REGISTER, view(MemoryRegion.psum)),
        (REGISTER, view(MemoryRegion.sbuf, (1, 2))),
        (view(MemoryRegion.sbuf), view(MemoryRegion.sbuf)),
    ],
)
def test_a_load_refuses_what_is_no_element_or_register(chip, operands):
    with pytest.raises(HardwareLimitError, match="register_load"):
        FormTable(chip.core).form(RegisterLoad, operands)
