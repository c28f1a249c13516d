"""Registers and dynamic loops."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import FrozenRegisterError, UninitializedReadError, UsageError, WrongCallError
from tests.illegal.table import Table
from tests.illegal.tiles import psum, sbuf

TABLE = Table("NKI 0.6, nki.isa.register_alloc and its companions")


@TABLE.refuses(
    "The induction variable cannot be written.",
    "The register that counts … cannot be written … Move its value",
    FrozenRegisterError,
    source="NKI 0.4 release notes",
)
def a_write_to_the_counter_of_a_loop():
    for i in nl.dynamic_range(4):
        nisa.register_move(i, 3)


@TABLE.refuses(
    "A register is loaded from one element.",
    "register_load: src … [1, 2] … one element … [1, 1]",
)
def a_register_of_two_elements():
    nisa.register_load(nisa.register_alloc(), sbuf(1, 2, nl.int32))


@TABLE.refuses(
    "A register is loaded from SBUF or HBM.",
    "register_load: src … sbuf or … psum … Copy it",
)
def a_register_from_psum():
    nisa.register_load(nisa.register_alloc(), psum(1, 1, nl.int32))


@TABLE.refuses(
    "A register is stored into one element.",
    "register_store: dst … [1, 2] … one element … [1, 1]",
)
def a_register_stored_in_two_elements():
    nisa.register_store(sbuf(1, 2, nl.int32), nisa.register_alloc(1))


@TABLE.refuses(
    "What is loaded has been written.",
    "register_load reads src … never written … Write all",
    UninitializedReadError,
    runs=True,
    source="NKI 0.6, nki.simulate: fresh memory is poisoned",
)
def a_register_from_what_nothing_wrote():
    nisa.register_load(nisa.register_alloc(), nl.ndarray((1, 1), nl.int32))


@TABLE.refuses(
    "The destination is a register.",
    "register_move: 5 … no register … register_alloc()",
    UsageError,
)
def a_number_for_a_register():
    nisa.register_move(5, 3)


@TABLE.refuses(
    "A register holds a number.",
    "register_move … str … It takes register_move(dst, src",
    WrongCallError,
)
def a_text_in_a_register():
    nisa.register_move(nisa.register_alloc(), "a")


@TABLE.refuses(
    "A register holds a number.",
    "register_alloc … str … It takes register_alloc(x",
    WrongCallError,
)
def a_register_of_text():
    nisa.register_alloc("x")


@TABLE.refuses(
    "The step is a positive int.",
    "dynamic loop … step=0 … at least 1",
    FrozenRegisterError,
    source="NKI 0.6, nki.language.dynamic_range",
)
def a_loop_that_does_not_advance():
    for _ in nl.dynamic_range(0, 4, 0):
        pass


@TABLE.refuses(
    "Bounds are ints or registers.",
    "dynamic loop's bound … sbuf … an int or a register … register_load",
    WrongCallError,
    source="NKI 0.6, nki.language.dynamic_range",
)
def a_loop_bounded_by_a_tile():
    for _ in nl.dynamic_range(sbuf(1, 1, nl.int32)):
        pass


@TABLE.refuses(
    "Dynamic loops inside no_reorder are not allowed.",
    "dynamic loop … no_reorder() … not supported … Put no_reorder",
    UsageError,
    source="NKI 0.6, scheduling guide",
)
def a_dynamic_loop_in_program_order():
    with nl.no_reorder():
        for _ in nl.dynamic_range(4):
            pass
