import json

import pytest

from emuron.cli.main import run
from emuron.hardware.catalog import chips


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as leaving:
        run(list(arguments))
    assert leaving.value.code == code
    printed = capsys.readouterr()
    return printed.out if code == 0 else printed.err


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_chips_lists_every_chip(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "chips")
    assert all(chip.name in text for chip in chips())
    assert "820" in text


def test_chips_describes_one_chip_by_its_short_name(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "chips", "inf2")
    assert "inferentia2" in text
    assert "128 x 192 KiB" in text
    assert "tensor 2.8" in text


def test_chips_prints_sources_and_alternatives_on_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "880.468" not in output(capsys, "chips", "inf2")
    text = output(capsys, "chips", "inf2", "--sources")
    assert "880.468" in text
    assert "A2 820 GB/s" in text
    assert "trainium_inferentia2_arch.rst" in text


def test_chips_prints_one_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(output(capsys, "chips", "trn2", "--json"))
    assert record["name"] == "trainium2"
    assert record["core"]["sources"]["engines.tensor.clock_ghz"].startswith("A3")
    listing = json.loads(output(capsys, "chips", "--json"))
    assert [entry["name"] for entry in listing["chips"]] == [chip.name for chip in chips()]
    assert record in listing["chips"]


def test_an_unknown_chip_is_a_usage_error_with_a_suggestion(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "Did you mean inferentia2" in output(capsys, "chips", "inferntia2", code=2)
