"""Kernels by hand: the NKI language over the instruction set."""
