"""Calls, loops and branches of StableHLO."""

from __future__ import annotations

from emuron.compiler.frontends import recipes
from emuron.compiler.frontends.stablehlo_call import Call, stablehlo
from emuron.compiler.graph import Value
from emuron.errors import UnsupportedOpError

_MOST_TURNS = 4096


@stablehlo("func.call")
def _call(c: Call, *operands: Value) -> list[Value]:
    return c.inline(c.text("callee"), *operands)


@stablehlo("composite")
def _composite(c: Call, *operands: Value) -> list[Value]:
    return c.inline(c.text("decomposition"), *operands)


@stablehlo("custom_call")
def _custom_call(c: Call, *operands: Value) -> list[Value]:
    target = c.text("call_target_name")
    if target in ("Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"):
        return list(operands)
    raise UnsupportedOpError(f"the custom call {target!r}, whose code is not in the file")


@stablehlo("while")
def _while(c: Call, *operands: Value) -> list[Value]:
    """Write out a loop whose number of turns follows from constants."""
    state = list(operands)
    for _ in range(_MOST_TURNS):
        (going,) = c.inline(c.regions[0], *state)
        known = c.known.array(going)
        if known is None:
            raise UnsupportedOpError(
                "the number of turns of a loop depends on the values of a tensor"
            )
        if not bool(known):
            return state
        state = c.inline(c.regions[1], *state)
    raise UnsupportedOpError(f"a loop of more than {_MOST_TURNS} turns is not written out")


@stablehlo("case", "if")
def _case(c: Call, which: Value) -> list[Value]:
    regions = list(c.regions)
    if c.name == "if":
        regions.reverse()
    known = c.known.array(which)
    if known is not None:
        place = int(known)
        return c.inline(regions[place if 0 <= place < len(regions) else -1])
    results = [c.inline(region) for region in regions]
    return recipes.choose(c.b, which, results)
