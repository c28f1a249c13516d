from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emuron.errors import UsageError
from emuron.hardware.price import Price, usd_per_million


def test_the_published_formula_by_hand() -> None:
    # 0.758 $/h at 2674.19 inferences/s: a million take 373.9 s = 0.10387 h, which cost 0.0787 $.
    assert usd_per_million(2674.19, 0.758) == pytest.approx(0.0787, abs=5e-5)


@given(st.integers(1, 10**7), st.integers(1, 10**4))
def test_a_million_cost_the_hours_they_take(throughput: int, cents_per_hour: int) -> None:
    hours = Fraction(10**6, throughput) / 3600
    expected = hours * Fraction(cents_per_hour, 100)
    # Three float operations of at most half an ULP each.
    assert usd_per_million(throughput, cents_per_hour / 100) == pytest.approx(
        float(expected), rel=4 * 2**-52
    )


@pytest.mark.parametrize("throughput", [0, -3.0])
def test_a_throughput_that_is_not_positive_is_refused(throughput: float) -> None:
    with pytest.raises(UsageError, match="give > 0"):
        usd_per_million(throughput, 1.0)


def test_a_price_was_stated_last_on_the_last_day_known() -> None:
    assert Price("on_demand", 1.0, "CSV2", date(2023, 4, 13), date(2023, 9, 28)).stated == date(
        2023, 9, 28
    )
    assert Price("on_demand", 1.0, "FMB", date(2025, 1, 26)).stated == date(2025, 1, 26)


@pytest.mark.parametrize(("kind", "usd"), [("spot", 1.0), ("on_demand", 0.0), ("on_demand", -1.0)])
def test_a_price_of_no_known_kind_or_not_positive_is_refused(kind: str, usd: float) -> None:
    with pytest.raises(UsageError):
        Price(kind, usd, "CSV2")
