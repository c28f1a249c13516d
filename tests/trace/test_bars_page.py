"""Pages of bars: lengths, missing and infinite values, escaping."""

from __future__ import annotations

from emuron.trace.bars_page import Bar, BarChart, BarsPage, to_html


def test_bars_are_as_long_as_their_share_of_the_longest():
    bars = (Bar("a", 1.0), Bar("b", 4.0), Bar("c", None), Bar("d", float("inf")), Bar("e", 0.0))
    chart = BarChart("t", "", bars)
    assert [chart.width(bar) for bar in bars] == [25.0, 100.0, 0.0, 100.0, 0.0]
    assert [bar.text for bar in bars[2:4]] == ["–", "inf"]
    assert BarChart("t", "", (bars[4],)).width(bars[4]) == 0.0


def test_the_page_escapes_names_and_shows_notes(tmp_path):
    page = BarsPage("k", "<b>", "s", (BarChart("c", "l", (Bar("<i>", 2.0, True),)),), ("n&m",))
    to_html(page, tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in text
    assert "&lt;i&gt;" in text
    assert "n&amp;m" in text
    assert 'class="tensor"' in text
