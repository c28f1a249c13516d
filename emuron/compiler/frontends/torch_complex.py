"""ATen operators of complex numbers, which the graph holds as real and imaginary parts."""

from __future__ import annotations

from typing import Any

from emuron.compiler.frontends import torch_math, torch_moves, torch_places
from emuron.compiler.frontends.torch_call import TABLE, Call, Complex, aten
from emuron.compiler.graph import Value

_ARRANGED_BY = (torch_math, torch_moves, torch_places)
"""Modules whose handlers serve both parts alike."""

_ARRANGING = (
    *("view.default", "reshape.default", "_unsafe_view.default", "unsqueeze.default"),
    *("squeeze.dim", "squeeze.dims", "permute.default", "transpose.int", "expand.default"),
    *("slice.Tensor", "select.int", "index.Tensor", "index_select.default", "repeat.default"),
    *("alias.default", "clone.default", "neg.default", "sum.dim_IntList"),
)


def _arranging(name: str) -> None:
    @aten(name, of_complex=True)
    def arrange(c: Call, x: Complex, *arguments: Any, **options: Any) -> Complex:
        real, imag = (TABLE[name](c, part, *arguments, **options) for part in (x.real, x.imag))
        return Complex(real, imag)


for _name in _ARRANGING:
    _arranging(_name)


@aten("view_as_complex.default", of_complex=True)
def _from_pairs(c: Call, x: Value) -> Complex:
    last = x.type.rank - 1
    real, imag = (c.b.reshape(c.b.slice(x, last, i, i + 1), *x.shape[:-1]) for i in (0, 1))
    return Complex(real, imag)


@aten("view_as_real.default", of_complex=True)
def _to_pairs(c: Call, x: Complex) -> Value:
    parts = [c.b.reshape(v, *v.shape, 1) for v in (x.real, x.imag)]
    return c.b.concat(parts, len(c.out.shape) - 1)


@aten("complex.default", of_complex=True)
def _from_parts(c: Call, real: Value, imag: Value) -> Complex:
    return Complex(*(c.b.broadcast(v, c.out.shape) for v in (real, imag)))


@aten("polar.default", of_complex=True)
def _polar(c: Call, size: Value, angle: Value) -> Complex:
    return Complex(*(c.b.mul(size, c.b.apply(f, angle)) for f in ("cos", "sin")))


@aten("_conj.default", "_conj_physical.default", of_complex=True)
def _conjugate(c: Call, x: Complex) -> Complex:
    return Complex(x.real, c.b.apply("neg", x.imag))


@aten("abs.default", of_complex=True)
def _absolute(c: Call, x: Complex) -> Value:
    squares = (c.b.mul(v, v) for v in (x.real, x.imag))
    return c.b.apply("sqrt", c.b.add(*squares))


@aten("mul.Tensor", "mul.Scalar", of_complex=True)
def _product(c: Call, x: Any, y: Any) -> Complex:
    b = c.b
    if not isinstance(y, Complex):
        return Complex(b.mul(x.real, y), b.mul(x.imag, y))
    if not isinstance(x, Complex):
        return Complex(b.mul(x, y.real), b.mul(x, y.imag))
    real = b.sub(b.mul(x.real, y.real), b.mul(x.imag, y.imag))
    return Complex(real, b.add(b.mul(x.real, y.imag), b.mul(x.imag, y.real)))


def _by_parts(name: str, operator: str) -> None:
    @aten(name, of_complex=True)
    def combine(c: Call, x: Complex, y: Complex) -> Complex:
        parts = ((x.real, y.real), (x.imag, y.imag))
        return Complex(*(c.b.combine(operator, *pair) for pair in parts))


_by_parts("add.Tensor", "add")
_by_parts("sub.Tensor", "sub")
