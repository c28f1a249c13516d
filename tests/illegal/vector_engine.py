"""Element-wise instructions: copies, fillings, operators on tiles."""

import numpy as np

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UnknownNameError, UsageError, WrongCallError
from tests.illegal.table import Table
from tests.illegal.tiles import hbm, psum, sbuf

TABLE = Table("NKI 0.6, nki.isa.tensor_tensor")


@TABLE.refuses(
    "Not both inputs are in PSUM.",
    "tensor_tensor: data1 … data2 … both lie in PSUM … at most one … Copy one",
)
def two_inputs_in_psum():
    nisa.tensor_tensor(sbuf(128, 8), psum(128, 8), psum(128, 8), nl.add)


@TABLE.refuses(
    "All operands have equally many elements in each partition.",
    "tensor_tensor: … 8 elements … 128 of 4 … must be equal",
)
def inputs_of_different_size():
    nisa.tensor_tensor(sbuf(128, 8), sbuf(128, 8), sbuf(128, 4), nl.add)


@TABLE.refuses(
    "All operands have equally many partitions.",
    "tensor_tensor: … 128 partitions … 64 of 8 … must be equal",
)
def inputs_of_different_partitions():
    nisa.tensor_tensor(sbuf(128, 8), sbuf(64, 8), sbuf(128, 8), nl.add)


@TABLE.refuses(
    "Operators are those of the table.",
    "Unknown ALU operator … exp … Known: ",
    UnknownNameError,
    source="NKI 0.6, supported math operators",
)
def a_function_for_an_operator():
    nisa.tensor_tensor(sbuf(128, 8), sbuf(128, 8), sbuf(128, 8), nl.exp)


@TABLE.refuses(
    "Binary operators only.",
    "tensor_tensor: op=rsqrt … one operand … Use tensor_scalar",
)
def an_operator_of_one_operand():
    nisa.tensor_tensor(sbuf(128, 8), sbuf(128, 8), sbuf(128, 8), nl.rsqrt)


@TABLE.refuses(
    "Bit-vector operators take integers.",
    "tensor_tensor: dst … float32 … integer dtype … View it",
)
def bits_of_floats():
    nisa.tensor_tensor(sbuf(128, 8), sbuf(128, 8), sbuf(128, 8), nl.bitwise_and)


@TABLE.refuses(
    "Bit-vector operators run on the vector engine.",
    "tensor_tensor: … bitwise_and … gpsimd … Use engine=vector",
)
def bits_on_gpsimd():
    bits = sbuf(128, 8, nl.int32)
    nisa.tensor_tensor(bits, bits, bits, nl.bitwise_and, engine=nisa.engine.gpsimd)


@TABLE.refuses(
    "Bit-vector operators do not convert.",
    "tensor_tensor: … int32 … int16 … same dtype",
)
def bits_of_different_width():
    bits = sbuf(128, 8, nl.int32)
    nisa.tensor_tensor(bits, bits, sbuf(128, 8, nl.int16), nl.bitwise_or)


@TABLE.refuses(
    "power runs on GpSimd.",
    "tensor_tensor: op=power … vector … Use engine=gpsimd",
)
def a_power_on_the_vector_engine():
    nisa.tensor_tensor(
        sbuf(128, 8), sbuf(128, 8), sbuf(128, 8), nl.power, engine=nisa.engine.vector
    )


@TABLE.refuses(
    "GpSimd cannot access PSUM.",
    "tensor_tensor: data1 … PSUM … gpsimd … Copy it to SBUF",
)
def gpsimd_in_psum():
    nisa.tensor_tensor(sbuf(128, 8), psum(128, 8), sbuf(128, 8), nl.add, engine=nisa.engine.gpsimd)


@TABLE.refuses(
    "tensor_tensor runs on the vector engine or GpSimd.",
    "tensor_tensor: engine=tensor … cannot run it … It runs on vector or gpsimd",
)
def an_engine_without_the_instruction():
    nisa.tensor_tensor(sbuf(128, 8), sbuf(128, 8), sbuf(128, 8), nl.add, engine=nisa.engine.tensor)


@TABLE.refuses(
    "Engines work on SBUF and PSUM.",
    "tensor_tensor: data1 … sbuf or psum … shared_hbm … Copy it",
)
def an_input_in_hbm():
    nisa.tensor_tensor(sbuf(128, 8), hbm(128, 8), sbuf(128, 8), nl.add)


@TABLE.refuses(
    "Both inputs are tiles.",
    "tensor_tensor: data2 … must be a tensor … 2.0",
    UsageError,
)
def a_number_for_a_tile():
    nisa.tensor_tensor(sbuf(128, 8), sbuf(128, 8), 2.0, nl.add)


@TABLE.refuses(
    "Both inputs are tiles.",
    "tensor_tensor: data1 … must be a tensor … None",
    UsageError,
)
def none_for_a_tile():
    nisa.tensor_tensor(sbuf(128, 8), None, sbuf(128, 8), nl.add)


@TABLE.refuses(
    "Both inputs are tiles.",
    "tensor_tensor: data1 … must be a tensor … ndarray",
    UsageError,
)
def an_array_for_a_tile():
    nisa.tensor_tensor(sbuf(4, 2), np.zeros((4, 2), np.float32), sbuf(4, 2), nl.add)


@TABLE.refuses(
    "Unknown keywords are errors.",
    "tensor_tensor() … mode … It takes tensor_tensor(dst, data1",
    WrongCallError,
    source="NKI 0.2 release notes",
)
def an_unknown_keyword():
    nisa.tensor_tensor(sbuf(128, 8), sbuf(128, 8), sbuf(128, 8), nl.add, mode="fast")


@TABLE.refuses(
    "The operator has no default.",
    "tensor_tensor() … op … It takes tensor_tensor(dst, data1",
    WrongCallError,
)
def a_missing_argument():
    nisa.tensor_tensor(sbuf(128, 8), sbuf(128, 8), sbuf(128, 8))


@TABLE.refuses(
    "The signature.",
    "tensor_tensor() … 7 … It takes tensor_tensor(dst, data1",
    WrongCallError,
)
def too_many_arguments():
    nisa.tensor_tensor(sbuf(4, 8), sbuf(4, 8), sbuf(4, 8), nl.add, nisa.engine.vector, "a", 3)


@TABLE.refuses(
    "Bit-vector and arithmetic operators are not mixed.",
    "tensor_scalar: op0=bitwise_and … op1=add … Use two instructions",
    source="NKI 0.6, nki.isa.tensor_scalar",
)
def bits_and_arithmetic_in_one_instruction():
    bits = sbuf(128, 8, nl.int32)
    nisa.tensor_scalar(bits, bits, nl.bitwise_and, 3, op1=nl.add, operand1=1)


@TABLE.refuses(
    "A vector operand is [P, 1].",
    "tensor_scalar: operand0 … [128, 2] … [128, 1] … Give one row",
    source="NKI 0.6, nki.isa.tensor_scalar",
)
def two_numbers_for_a_partition():
    nisa.tensor_scalar(sbuf(128, 8), sbuf(128, 8), nl.add, sbuf(128, 2))


@TABLE.refuses(
    "op1 comes with operand1.",
    "tensor_scalar: operand1 … missing … needs a number",
    source="NKI 0.6, nki.isa.tensor_scalar",
)
def a_missing_second_operand():
    nisa.tensor_scalar(sbuf(128, 8), sbuf(128, 8), nl.add, 1.0, op1=nl.multiply)


@TABLE.refuses(
    "The scalar engine has multiply and add, multiply, or add.",
    "tensor_scalar: … scalar engine … maximum … use engine=vector",
    source="NKI 0.6, nki.isa.tensor_scalar",
)
def an_operator_that_the_scalar_engine_lacks():
    nisa.tensor_scalar(sbuf(128, 8), sbuf(128, 8), nl.maximum, 1.0, engine=nisa.engine.scalar)


@TABLE.refuses(
    "rsqrt runs on GpSimd.",
    "tensor_scalar: rsqrt … vector … Use engine=gpsimd",
    source="NKI 0.6, nki.isa.tensor_scalar",
)
def an_inverse_root_on_the_vector_engine():
    nisa.tensor_scalar(sbuf(128, 8), sbuf(128, 8), nl.rsqrt, None, engine=nisa.engine.vector)


@TABLE.refuses(
    "Immediates of bit-vector operators are integers.",
    "tensor_scalar: … 1.5 … left_shift … Give an integer",
    source="NKI 0.6, nki.isa.tensor_scalar",
)
def a_shift_by_a_fraction():
    bits = sbuf(128, 8, nl.int32)
    nisa.tensor_scalar(bits, bits, nl.left_shift, 1.5)


@TABLE.refuses(
    "square as an operator exists from Trainium3 on.",
    "tensor_scalar: … NeuronCore-v4 … NeuronCore-v3 … Choose a later chip",
    source="NKI 0.4 release notes",
)
def a_square_before_trainium3():
    nisa.tensor_scalar(sbuf(128, 8), sbuf(128, 8), nl.square, 0)


@TABLE.refuses(
    "data and operand1 are not both in PSUM.",
    "scalar_tensor_tensor: data … operand1 … both lie in PSUM … Copy one",
    source="NKI 0.6, nki.isa.scalar_tensor_tensor",
)
def two_tiles_in_psum():
    nisa.scalar_tensor_tensor(sbuf(128, 8), psum(128, 8), nl.add, 1.0, nl.add, psum(128, 8))


@TABLE.refuses(
    "Arithmetic only.",
    "scalar_tensor_tensor: op0=bitwise_and … bit-vector … Use an arithmetic",
    source="NKI 0.6, nki.isa.scalar_tensor_tensor",
)
def bits_with_a_second_tile():
    bits = sbuf(128, 8, nl.int32)
    nisa.scalar_tensor_tensor(bits, bits, nl.bitwise_and, 1, nl.add, bits)


@TABLE.refuses(
    "tensor_copy works on SBUF and PSUM.",
    "tensor_copy: src … sbuf or psum … shared_hbm … Copy it",
    source="NKI 0.6, nki.isa.tensor_copy",
)
def a_copy_from_hbm():
    nisa.tensor_copy(sbuf(128, 8), hbm(128, 8))


@TABLE.refuses(
    "GpSimd cannot access PSUM.",
    "tensor_copy: src … PSUM … gpsimd … Copy it to SBUF",
    source="NKI 0.6, nki.isa.tensor_copy",
)
def a_copy_of_psum_on_gpsimd():
    nisa.tensor_copy(sbuf(128, 8), psum(128, 8), engine=nisa.engine.gpsimd)


@TABLE.refuses(
    "The scalar engine has no tensor_copy on Inferentia2.",
    "tensor_copy: … scalar … NeuronCore-v2 … Use activation",
    target="inf2",
    source="NKI 0.6, nki.isa.tensor_copy",
)
def a_copy_on_the_scalar_engine_of_inferentia2():
    nisa.tensor_copy(sbuf(128, 8), sbuf(128, 8), engine=nisa.engine.scalar)


@TABLE.refuses(
    "The predicate is uint8, uint16 or uint32.",
    "tensor_copy_predicated: predicate … float32 … It must be one of",
    source="NKI 0.6, nki.isa.tensor_copy_predicated",
)
def a_predicate_of_floats():
    nisa.tensor_copy_predicated(sbuf(128, 8), sbuf(128, 8), sbuf(128, 8))


@TABLE.refuses(
    "src and dst have the same dtype.",
    "tensor_copy_predicated: dst … bfloat16 … float32 … same dtype",
    source="NKI 0.6, nki.isa.tensor_copy_predicated",
)
def a_predicated_copy_that_converts():
    nisa.tensor_copy_predicated(sbuf(128, 8, nl.bfloat16), sbuf(128, 8), sbuf(128, 8, nl.uint8))


@TABLE.refuses(
    "src and predicate are not both in PSUM.",
    "tensor_copy_predicated: src … predicate … both lie in PSUM … Copy one",
    source="NKI 0.6, nki.isa.tensor_copy_predicated",
)
def a_predicate_in_psum_beside_the_source():
    nisa.tensor_copy_predicated(sbuf(128, 8), psum(128, 8), psum(128, 8, nl.uint8))


@TABLE.refuses(
    "The value fits the category of the dtype.",
    "memset: … 1.5 … int32 … Give an integer",
    source="NKI 0.6, nki.isa.memset",
)
def a_fraction_in_an_integer_tile():
    nisa.memset(nl.ndarray((4, 4), nl.int32), 1.5)


@TABLE.refuses(
    "The value fits the dtype.",
    "memset: … 300 … uint8 … from 0 to 255",
    source="NKI 0.6, nki.isa.memset",
)
def a_value_beyond_the_dtype():
    nisa.memset(nl.ndarray((4, 4), nl.uint8), 300)


@TABLE.refuses(
    "Packed types take 0 only.",
    "memset: … 1 … float8_e4m3fn_x4 … Only 0",
    target="trn3",
    source="NKI 0.6, nki.isa.memset",
)
def a_packed_tile_of_ones():
    nisa.memset(nl.ndarray((4, 4), "float8_e4m3fn_x4"), 1)


@TABLE.refuses(
    "The value is a number.",
    "scalar operand … x … give a number",
    UsageError,
    source="NKI 0.6, nki.isa.memset",
)
def a_text_in_a_tile():
    nisa.memset(nl.ndarray((4, 4), nl.float32), "x")


@TABLE.refuses(
    "Engines work on SBUF and PSUM.",
    "memset: dst … sbuf or psum … shared_hbm",
    source="NKI 0.6, nki.isa.memset",
)
def hbm_filled_by_an_engine():
    nisa.memset(hbm(4, 4), 0)


@TABLE.refuses(
    "dst and data have equally many elements.",
    "reciprocal: … 4 elements … 128 of 8 … must be equal",
    source="NKI 0.6, nki.isa.reciprocal",
)
def a_reciprocal_of_another_size():
    nisa.reciprocal(sbuf(128, 4), sbuf(128, 8))
