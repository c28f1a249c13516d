"""Print how fast the timing engine is: flat and with skipping, plain and compiled.

The goals are those of the core performance study: 20 M instructions/s compiled and 1 M plain with
the waits given, and at most 1 % of the instructions of a long loop nest executed.
"""

from __future__ import annotations

import argparse
import time
from math import ceil

from emuron.hardware.catalog import chip
from emuron.hardware.chip import Chip
from emuron.isa import dma, scalar_engine, tensor_engine, vector_copies
from emuron.isa.affine import Affine, LoopIndex
from emuron.isa.instruction import flat_operands, instruction_class
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.numerics.dtypes import dtype
from emuron.sim.compiled import has_numba
from emuron.sim.dependencies import schedule
from emuron.sim.sites import Sites
from emuron.sim.timing import TimingSimulator, simulate
from emuron.sim.timing_code import CoreCode
from emuron.sim.timing_tables import Queues, build_tables

REGISTERED = (dma, scalar_engine, tensor_engine, vector_copies)
BANKS = 4  # PSUM banks that one load of the moving operand feeds
GOALS = {"plain": 1.0, "compiled": 20.0}  # million instructions a second, flat


def issue(
    program: Program, block: Block, nki: str, *operands: AccessPattern | float | None
) -> None:
    """Add an instruction to a block."""
    attributes = ("exp",) if nki == "activation" else ()
    form = program.table.form(instruction_class(nki), operands, attributes)
    numbers = [(program.tensor_number(o.tensor), o.offset) for o in flat_operands(operands)]
    block.append(form.id, program.group_number(nki), numbers)


def matmul(target: Chip, size: int, *, softmax_like: bool) -> Program:
    """Return a tiled size³ matmul: a row of tiles loaded, multiplied, evicted, stored."""
    program = Program(f"matmul {size}", target.core)
    bf16, fp32 = dtype("bfloat16"), dtype("float32")

    def tensor(name: str, shape: tuple[int, int], where: str, role: str = "temporary") -> Tensor:
        kind = fp32 if where == "psum" else bf16
        return Tensor(name, shape, kind, MemoryRegion(where), role=role)

    weights = tensor("weights", (size, size), "shared_hbm", "parameter")
    x = tensor("x", (size, size), "shared_hbm", "input")
    y = tensor("y", (size, size), "shared_hbm", "output")
    chunks, width = ceil(size / 128), BANKS * 512
    m, n, k = (LoopIndex(*e) for e in (("m", chunks), ("n", size // width), ("k", chunks)))
    rows, columns, depth = Affine.of(m) * 128, Affine.of(n) * width, Affine.of(k) * 128
    left = tensor("left", (128, size), "sbuf")
    right, out = tensor("right", (128, width), "sbuf"), tensor("out", (128, width), "sbuf")
    banks = [tensor(f"psum{i}", (128, 512), "psum") for i in range(BANKS)]
    start, inner, end = Block(), Block(), Block()
    program.body.append(Loop(m, [start, Loop(n, [Loop(k, [inner]), end])]))
    strip = AccessPattern(weights, (128, size), (size, 1), rows * size)
    issue(program, start, "dma_copy", AccessPattern(left), strip)
    tile = AccessPattern(x, (128, width), (size, 1), depth * size + columns)
    issue(program, inner, "dma_copy", AccessPattern(right), tile)
    stationary = AccessPattern(left, (128, 128), (size, 1), depth)
    for i, bank in enumerate(banks):
        part = [AccessPattern(t, (128, 512), (width, 1), i * 512) for t in (right, out)]
        issue(program, inner, "nc_matmul", AccessPattern(bank), stationary, part[0])
        if softmax_like:
            issue(program, end, "activation", part[1], AccessPattern(bank), None, 1.0, None)
        else:
            issue(program, end, "tensor_copy", part[1], AccessPattern(bank))
    result = AccessPattern(y, (128, width), (size, 1), rows * size + columns)
    issue(program, end, "dma_copy", result, AccessPattern(out))
    return program.freeze()


def flat(program: Program, compiled: bool) -> float:
    """Return CPU seconds of the engine alone, the waits given."""
    sites = Sites(program)
    queues = Queues([CoreCode(sites, schedule(sites), search=False)])
    tables = build_tables(queues, program.core, 1 << 40)
    begin = time.process_time()
    simulate(tables, compiled, queues)
    return time.process_time() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    target, size = chip("trn2"), parser.parse_args().size
    for softmax_like in (False, True):
        program = matmul(target, size, softmax_like=softmax_like)
        print(f"{program.name}{' with exp' if softmax_like else ''}: {len(program)} instructions")
        for name in ("plain", "compiled") if has_numba() else ("plain",):
            compiled = name == "compiled"
            if compiled:
                flat(matmul(target, 2048, softmax_like=softmax_like), compiled)
            rate = len(program) / flat(program, compiled) / 1e6
            print(f"  {name:9} flat     {rate:9.2f} M instr/s   (goal {GOALS[name]:.0f})")
            begin = time.process_time()
            result = TimingSimulator(target, numba=compiled).run(program, collect=False)
            seconds = time.process_time() - begin
            share = result.executed / result.instructions
            print(
                f"  {name:9} skipping {result.instructions / seconds / 1e6:9.2f} M instr/s with "
                f"dependencies; {share:.2%} executed (goal 1 %)"
            )


if __name__ == "__main__":
    main()
