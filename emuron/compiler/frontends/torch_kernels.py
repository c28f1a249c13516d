"""Custom operators of PyTorch whose implementation is an NKI kernel: the kernel joins the graph.

    @torch.library.custom_op("mine::scaled", mutates_args=())
    def scaled(x: torch.Tensor, scale: float) -> torch.Tensor:
        return nki.simulate(kernel)(x, scale=scale)

The implementation is called once, on empty tensors, with the launch diverted: it must hand its
tensors to one kernel and return what the kernel returns.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from emuron.compiler.frontends.torch_call import Call, Handler
from emuron.compiler.graph import TensorType, Value
from emuron.errors import UnsupportedOpError
from emuron.nki.kernel import Kernel, diverted_launches


def handler(torch: Any, target: Any) -> Handler | None:
    """Return the handler of a custom operator that Python implements, else None."""
    schema = getattr(target, "_schema", None)
    known = None if schema is None else torch._library.custom_ops.OPDEFS.get(schema.name)
    if schema is None or known is None:
        return None
    return partial(_call_kernel, _Implementation(torch, schema.name, known._init_fn))


@dataclass(frozen=True, slots=True)
class _Launch:
    """One launch of a kernel, its arguments by the names of its parameters, in their order."""

    kernel: Kernel
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Implementation:
    """The Python function behind a custom operator."""

    torch: Any
    name: str
    function: Callable[..., Any]

    def empty(self, type: TensorType) -> Any:
        """Return a tensor of a type, its data undefined."""
        dtype = getattr(self.torch, str(type.dtype).removesuffix("_"))
        return self.torch.empty(type.shape, dtype=dtype)

    def launch(self, args: Any, kwargs: Any, results: list[Any]) -> _Launch:
        """Return the one launch that a call makes; raise UnsupportedOpError if it does more."""
        made: list[_Launch] = []

        def note(kernel: Kernel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            bound = inspect.signature(kernel.func).bind(*args, **kwargs)
            made.append(_Launch(kernel, bound.arguments))
            return results[0] if len(results) == 1 else tuple(results)

        with diverted_launches(note):
            returned = self.function(*args, **kwargs)
        kept = returned if isinstance(returned, tuple | list) else (returned,)
        if len(made) != 1 or [id(r) for r in kept] != [id(r) for r in results]:
            raise UnsupportedOpError(
                f"the custom operator {self.name} is no single NKI kernel ({len(made)} launched); "
                "compute around the kernel outside of the operator"
            )
        return made[0]


def _call_kernel(
    implementation: _Implementation, c: Call, *args: Any, **kwargs: Any
) -> tuple[Value, ...]:
    stand_ins = [
        (implementation.empty(v.type), v) for v in (*args, *kwargs.values()) if isinstance(v, Value)
    ]
    values = {id(tensor): value for tensor, value in stand_ins}
    tensors = {value: tensor for tensor, value in stand_ins}
    given = [tensors.get(a, a) if isinstance(a, Value) else a for a in args]
    named = {k: tensors.get(a, a) if isinstance(a, Value) else a for k, a in kwargs.items()}
    results = [implementation.empty(out) for out in c.outs]
    launch = implementation.launch(given, named, results)
    is_tensor = implementation.torch.is_tensor
    operands = [v for v in launch.arguments.values() if is_tensor(v)]
    first = list(launch.arguments.values())[: len(operands)]
    if not all(map(is_tensor, first)) or any(id(v) not in values for v in operands):
        raise UnsupportedOpError(
            f"{implementation.name} must hand its own tensors to its kernel, before any numbers"
        )
    attributes = {k: v for k, v in launch.arguments.items() if not is_tensor(v)}
    return c.b.kernel_call(launch.kernel, [values[id(v)] for v in operands], c.outs, **attributes)
