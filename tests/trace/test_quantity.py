import pytest

from emuron.trace import quantity


@pytest.mark.parametrize(
    ("ps", "text"),
    [(0, "0 s"), (1, "1.00 ps"), (1500, "1.50 ns"), (3_183_110_346, "3.18 ms"), (12e12, "12.0 s")],
)
def test_durations_take_the_unit_that_fits(ps, text):
    assert quantity.duration_text(ps) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1,023 B"), (2**20, "1.00 MiB"), (17 * 2**30, "17.0 GiB")]
)
def test_bytes_are_in_binary_units(size, text):
    assert quantity.bytes_text(size) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "–"), (0, "0.0 %"), (0.0005, "< 0.1 %"), (0.6066, "60.7 %"), (float("nan"), "–")],
)
def test_shares_are_per_cent(share, text):
    assert quantity.share_text(share) == text


@pytest.mark.parametrize(
    ("usd", "text"), [(None, "–"), (0.07741, "$0.0774"), (19.335, "$19.34"), (1234.5, "$1,234.50")]
)
def test_money_has_cents_from_one_dollar_on(usd, text):
    assert quantity.money_text(usd) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 FLOP"), (999, "999 FLOP"), (4.8e9, "4.80 GFLOP")]
)
def test_counts_are_in_decimal_units(count, text):
    assert quantity.count_text(count, "FLOP") == text


def test_axis_labels_lose_zeros_after_the_point_only():
    assert quantity.trimmed("8.00 MiB") == "8 MiB"
    assert quantity.trimmed("1.50 ms") == "1.5 ms"
    assert quantity.trimmed("200 GB/s") == "200 GB/s"
