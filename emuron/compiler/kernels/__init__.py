"""The compiler's own kernels, written with `nki.isa` like kernels by hand."""
