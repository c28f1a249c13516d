"""What an instruction computes, forbids and costs; a Program is instructions in order.

Importing the package registers every instruction class.
"""

from emuron.isa import (  # noqa: F401
    collectives,
    dma,
    gpsimd_engine,
    gpsimd_search,
    microscaling,
    normalization,
    permutes,
    random_numbers,
    rank_collectives,
    scalar_engine,
    tensor_engine,
    variable_collectives,
    vector_copies,
    vector_engine,
    vector_reductions,
    vector_search,
    vector_selects,
)
