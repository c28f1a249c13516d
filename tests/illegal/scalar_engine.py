"""Activations."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UninitializedReadError
from tests.illegal.table import Table
from tests.illegal.tiles import sbuf

TABLE = Table("NKI 0.6, nki.isa.activation")


@TABLE.refuses(
    "op is an activation function.",
    "activation: op=add … Known: … vector engine",
)
def an_operator_for_a_function():
    nisa.activation(sbuf(4, 8), nl.add, sbuf(4, 8))


@TABLE.refuses(
    "op is an activation function.",
    "activation: op=exponent … Known: … tanh",
)
def an_unknown_function():
    nisa.activation(sbuf(4, 8), "exponent", sbuf(4, 8))


@TABLE.refuses(
    "bias is a number or [P, 1].",
    "activation: bias … [4, 2] … [4, 1]",
)
def a_bias_of_two_columns():
    nisa.activation(sbuf(4, 8), nl.exp, sbuf(4, 8), bias=sbuf(4, 2))


@TABLE.refuses(
    "bias is of any float type except tfloat32.",
    "activation: bias … tfloat32 … Use float32",
)
def a_bias_of_tfloat32():
    nisa.activation(sbuf(4, 8), nl.exp, sbuf(4, 8), bias=sbuf(4, 1, nl.tfloat32))


@TABLE.refuses(
    "A number as bias exists from Trainium2 on.",
    "activation: bias … 1.0 … NeuronCore-v2 … Fill a tile",
    target="inf2",
)
def a_number_as_bias_on_inferentia2():
    nisa.activation(sbuf(4, 8), nl.exp, sbuf(4, 8), bias=1.0)


@TABLE.refuses(
    "reciprocal has no bias on Inferentia2.",
    "activation: op=reciprocal … NeuronCore-v2 … Add it beforehand",
    target="inf2",
)
def a_reciprocal_with_bias_on_inferentia2():
    nisa.activation(sbuf(4, 8), nl.reciprocal, sbuf(4, 8), bias=sbuf(4, 1))


@TABLE.refuses(
    "reduce_op is add.",
    "activation_reduce: reduce_op=maximum … is not possible … Use add",
    source="NKI 0.6, nki.isa.activation_reduce",
)
def a_reduction_by_maximum():
    nisa.activation_reduce(sbuf(4, 8), nl.exp, sbuf(4, 8), nl.maximum, sbuf(4, 1))


@TABLE.refuses(
    "reduce_res is [P, 1].",
    "activation_reduce: reduce_res … [4, 8] … [4, 1]",
    source="NKI 0.6, nki.isa.activation_reduce",
)
def a_sum_in_eight_columns():
    nisa.activation_reduce(sbuf(4, 8), nl.exp, sbuf(4, 8), nl.add, sbuf(4, 8))


@TABLE.refuses(
    "reduce_cmd is idle, reset, reduce or reset_reduce.",
    "activation: reduce_cmd=load_reduce … is not possible … Use idle",
)
def a_command_that_the_scalar_engine_lacks():
    nisa.activation(
        sbuf(4, 8),
        nl.exp,
        sbuf(4, 8),
        reduce_op=nl.add,
        reduce_res=sbuf(4, 1),
        reduce_cmd=nisa.reduce_cmd.load_reduce,
    )


@TABLE.refuses(
    "After idle the accumulator is undefined.",
    "activation … accumulator registers … nothing has set … Start with",
    UninitializedReadError,
    runs=True,
)
def a_sum_that_was_never_started():
    nisa.activation(
        sbuf(4, 8),
        nl.exp,
        sbuf(4, 8),
        reduce_op=nl.add,
        reduce_res=sbuf(4, 1),
        reduce_cmd=nisa.reduce_cmd.reduce,
    )


@TABLE.refuses(
    "dst and data have equally many elements.",
    "activation: … 8 elements … 4 of 4 … must be equal",
)
def an_activation_of_another_size():
    nisa.activation(sbuf(4, 8), nl.exp, sbuf(4, 4))


@TABLE.refuses(
    "activate2 exists from Trainium3 on.",
    "activate2: … NeuronCore-v4 … NeuronCore-v3 … Choose a later chip",
    source="NKI 0.6, nki.isa.activate2",
)
def three_stages_before_trainium3():
    nisa.activate2(sbuf(4, 8), nl.copy, sbuf(4, 8), 1.0, 1.0, nl.multiply, nl.add)


@TABLE.refuses(
    "There are six pairs of op0 and op1.",
    "activate2: op0=add … op1=multiply … The pairs are",
    target="trn3",
    source="NKI 0.6, nki.isa.activate2",
)
def a_pair_of_operators_that_does_not_exist():
    nisa.activate2(sbuf(4, 8), nl.copy, sbuf(4, 8), 1.0, 1.0, nl.add, nl.multiply)
