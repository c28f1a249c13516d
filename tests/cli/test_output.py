"""What commands print with."""

from __future__ import annotations

import json

import pytest

from emuron.cli.output import print_json, print_table, progress


def test_json_is_one_document_that_reads_back(capsys):
    document = {"rows": [1, 2.5, None], "name": "größer"}
    print_json(document)
    assert json.loads(capsys.readouterr().out) == document


def test_json_refuses_a_number_that_json_does_not_have():
    with pytest.raises(ValueError, match="Out of range float"):
        print_json({"latency_ms": float("nan")})


def test_a_table_aligns_figures_right_and_shows_none_as_a_dash(capsys):
    print_table(["chip", "cores"], [["trn2", 8], ["new", None]], right=["cores"], title="Chips")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "Chips"
    body = [line for line in lines if "trn2" in line or "new" in line]
    assert "    8" in body[0]
    assert "–" in body[1]


def test_a_table_prints_brackets_as_they_are(capsys):
    print_table(["shape"], [["[128, 512]"]])
    assert "[128, 512]" in capsys.readouterr().out


def test_a_progress_bar_is_silent_when_nobody_watches(capsys):
    with progress() as bar:
        task = bar.add_task("Compiling", total=2)
        bar.advance(task)
    assert capsys.readouterr() == ("", "")
