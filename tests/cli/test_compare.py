"""`emuron compare`: the table, its JSON and its page."""

from __future__ import annotations

import pytest


def test_compare_lists_every_instance_and_batch(emuron, folder):
    done = emuron("compare", folder, "--seq", 16, "--on", "inf2.xlarge,trn1.2xlarge")
    assert done.code == 0
    for word in ("inf2.xlarge", "trn1.2xlarge", "$/M", "*"):
        assert word in done.out


def test_compare_as_json_names_the_best(emuron, folder):
    found = emuron(
        "compare", folder, "--seq", 16, "--on", "inf2.xlarge", "--batch", "1,2", "--json"
    ).json()
    assert [c["batch"] for c in found["candidates"]] == [1, 2]
    assert found["best"]["latency"] == {"instance": "inf2.xlarge", "batch": 1}
    assert found["best"]["price"]["batch"] == 2
    assert found["candidates"][0]["bound_by"]


def test_compare_writes_a_page_of_bars(emuron, folder, tmp_path):
    page = tmp_path / "compare.html"
    emuron("compare", folder, "--seq", 16, "--on", "inf2.xlarge", "--report", page)
    text = page.read_text(encoding="utf-8")
    assert "inf2.xlarge, batch 1" in text
    assert "A million inferences, on demand" in text
    assert "http://" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch", "0"), "whole numbers from 1 on"),
        (("--batch", "two"), "whole numbers from 1 on"),
        (("--on", ","), "--on lists nothing"),
        (("--on", "inf9.xlarge"), "inf9.xlarge"),
    ],
)
def test_wrong_options_are_told(emuron, folder, arguments, message):
    done = emuron("compare", folder, *arguments)
    assert done.code == 2
    assert message in done.err
