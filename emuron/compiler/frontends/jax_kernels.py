"""NKI kernels in JAX programs: `nki_call` is a primitive of its own, and stands in the graph whole.

@nki.jit
def scaled(x, factor): ...

def model(x):
    return jnp.tanh(nki_call(scaled, x, factor=2.0, out_shape=jax.ShapeDtypeStruct(...)))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emuron.compiler.frontends.jax_call import Call, jaxpr
from emuron.compiler.graph import Value
from emuron.errors import UsageError, missing_extra
from emuron.nki.kernel import simulate

try:
    import jax
    from jax.extend.core import Primitive
except ImportError as error:
    raise missing_extra(error, "Calling a kernel from JAX") or error from error

_nki_call_p = Primitive("nki_call")
_nki_call_p.multiple_results = True


def nki_call(kernel: Callable[..., Any], *operands: Any, out_shape: Any, **attributes: Any) -> Any:
    """Return what an NKI kernel gives for arrays and numbers; in JAX it runs on the simulator.

    `out_shape` is a ShapeDtypeStruct, or a sequence of them for a kernel of several results, as
    for `jax.ffi.ffi_call`. Raises UsageError where the kernel returns other shapes or dtypes.
    """
    several = isinstance(out_shape, Sequence)
    shapes = tuple(out_shape) if several else (out_shape,)
    results = _nki_call_p.bind(
        *operands,
        kernel=kernel,
        results=tuple((tuple(s.shape), str(np.dtype(s.dtype))) for s in shapes),
        attributes=tuple(sorted(attributes.items())),
    )
    return tuple(results) if several else results[0]


@_nki_call_p.def_abstract_eval  # type: ignore[untyped-decorator]
def _abstract(*operands: Any, results: Any, **params: Any) -> list[Any]:
    return [jax.core.ShapedArray(shape, np.dtype(dtype)) for shape, dtype in results]


@_nki_call_p.def_impl  # type: ignore[untyped-decorator]
def _simulated(*operands: Any, kernel: Any, results: Any, attributes: Any) -> list[Any]:
    given = [np.array(x) for x in operands]
    returned = simulate(kernel, backend="numpy")(*given, **dict(attributes))
    found = returned if isinstance(returned, tuple | list) else (returned,)
    made = [(tuple(f.shape), str(f.dtype)) for f in found]
    if made != list(results):
        raise UsageError(f"the kernel returns {made}, out_shape says {list(results)}")
    return [jax.numpy.asarray(f) for f in found]


@jaxpr("nki_call")
def _call_kernel(c: Call, *operands: Value) -> list[Value]:
    attributes: Mapping[str, Any] = dict(c["attributes"])
    return list(c.b.kernel_call(c["kernel"], list(operands), c.outs, **attributes))
