from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench
from tests.isa.generations import on_every_generation


@on_every_generation(
    "rand2",
    examples=16,
    low=st.integers(-50, 40),
    width=st.integers(1, 30),
    kind=st.sampled_from(["float32", "int8"]),
)
def test_numbers_lie_in_the_range(core, low, width, kind):
    bench = Bench(core)
    dst = bench.empty((8, 20), kind)
    bench.run("rand2", dst=dst, min=float(low), max=float(low + width))
    values = bench.values(dst)
    assert low <= values.min()
    assert values.max() <= low + width
    assert len(np.unique(values)) > 1


def test_numbers_are_uniform(trn3):
    dst = trn3.empty((128, 500))
    trn3.run("rand2", dst=dst, min=0.0, max=1.0)
    counts = np.histogram(trn3.values(dst), bins=16, range=(0, 1))[0]
    # Chi-squared with 15 degrees of freedom: 50 is far in its tail.
    assert ((counts - 4000) ** 2 / 4000).sum() < 50


def test_each_partition_may_have_its_range(trn3):
    low = np.arange(8.0)[:, None] * 10
    dst = trn3.empty((8, 50))
    trn3.run("rand2", dst=dst, min=trn3.tile(low), max=trn3.tile(low + 1))
    assert ((trn3.values(dst) >= low) & (trn3.values(dst) <= low + 1)).all()


@pytest.mark.parametrize(
    ("low", "high", "match"),
    [(1.0, 1.0, "min must be below max"), (None, 1.0, "min is missing")],
)
def test_an_empty_range_is_refused(trn3, low, high, match):
    with pytest.raises(HardwareLimitError, match=match):
        trn3.form("rand2", dst=trn3.empty((4, 4)), min=low, max=high)


@pytest.mark.parametrize("earlier", ["trn1", "trn2"])
def test_it_exists_from_v4_on(earlier, request):
    bench = request.getfixturevalue(earlier)
    with pytest.raises(HardwareLimitError, match="exists from NeuronCore-v4 on"):
        bench.form("rand2", dst=bench.empty((4, 4)), min=0.0, max=1.0)


def test_four_numbers_take_a_cycle(trn3):
    form = trn3.form("rand2", dst=trn3.empty((4, 2048)), min=0.0, max=1.0)
    assert form.cost.cycles == 512  # A4
