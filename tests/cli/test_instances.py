import json

import pytest

from emuron.cli.main import run
from emuron.hardware.catalog import instances


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as leaving:
        run(list(arguments))
    assert leaving.value.code == code
    printed = capsys.readouterr()
    return printed.out if code == 0 else printed.err


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_instances_lists_every_instance(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "instances")
    assert all(entry.name in text for entry in instances())


def test_instances_lists_one_family(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "instances", "--family", "inf2")
    assert "inf2.48xlarge" in text
    assert "trn1" not in text


def test_instances_prints_every_price_of_one_with_its_date(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = output(capsys, "instances", "inf2.xlarge")
    assert all(part in text for part in ("0.758", "0.7582", "2025-01-26", "sagemaker", "0.99"))


def test_instances_says_where_no_price_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No price is known" in output(capsys, "instances", "trn2u.48xlarge")


def test_instances_prints_sources_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "instances", "trn1n.32xlarge", "--sources")
    assert "release 2.10" in text
    assert "neuron-hardware" in text


def test_instances_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    listing = json.loads(output(capsys, "instances", "--family", "trn2", "--json"))
    assert [entry["cores"] for entry in listing["instances"]] == [8, 128, 128, 512]
    record = json.loads(output(capsys, "instances", "inf2.48xlarge", "--json"))
    assert record["neighbours"][0] == [1, 11]
    assert record["citations"]["HW"].startswith("about-neuron")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inf2.xlrge",), "Did you mean inf2.xlarge"),
        (("--family", "inf3"), "Did you mean inf2"),
        (("inf2.xlarge", "--family", "inf2"), "not both"),
    ],
)
def test_a_wrong_name_is_a_usage_error_that_helps(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert message in output(capsys, "instances", *arguments, code=2)


def test_names_are_whole_where_the_terminal_is_narrow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = output(capsys, "instances")
    assert all(entry.name in text for entry in instances())
    assert "144x8" in text
    assert "…" not in text
