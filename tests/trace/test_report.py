import io
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from emuron.errors import UsageError
from emuron.trace.charts import Ceilings, RooflinePoint
from emuron.trace.report import Cost, Fidelity, Figure, RunReport, render_html, to_html
from emuron.trace.terminal import to_rich
from emuron.trace.trace import TraceBuilder
from tests.trace.traces import model_trace

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "link", "img", "br", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Collects tags, attributes and script texts; checks that elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.scripts, self.open, self.words = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] == "script" else self.words).append(data)


def full_report(trace, text="BERT base"):
    return RunReport(
        title=text,
        subject=text,
        instance="inf2.xlarge",
        trace=trace,
        options={text: text},
        throughput=1234.5,
        memory_per_core_bytes=276 * 2**20,
        memory_per_core_limit_bytes=16 * 2**30,
        usd_per_million_on_demand=0.1706,
        usd_per_million_reserved=0.0774,
        figures=(Figure(text, text, text),),
        costs=(Cost(text, 0.7582, 0.1706, text), Cost("Spot", 0.1991, None)),
        fidelity=(Fidelity(text, text, text, text, True), Fidelity("b", "c", "d", "e", False)),
        notes=(text,),
        warnings=(text,),
    )


@pytest.mark.parametrize("repeated", [False, True])
def test_page_is_well_formed_and_asks_for_nothing_outside_itself(repeated):
    text = render_html(full_report(model_trace(repeated=repeated)))
    page = Page(text)
    assert page.open == []
    assert not re.search(r"https?:|//cdn|@import|url\(", text)
    names = {name for name, _ in page.attributes}
    assert "src" not in names
    assert [value for name, value in page.attributes if name == "href"] == ["#content"]
    assert "default-src 'none'" in text


def test_hostile_names_are_text_everywhere():
    builder = TraceBuilder({"pe_peak_tflops": 90.0, "hbm_gb_per_s": 400.0})
    builder.add(HOSTILE, HOSTILE, 0, 1000, group=HOSTILE, flops=10)
    builder.add("dma0", HOSTILE, 0, 1000, group=HOSTILE, bytes=10)
    builder.counter(HOSTILE, 0, 5.0)
    page = Page(render_html(full_report(builder.finish(), HOSTILE)))
    assert page.open == []
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert json.loads(page.scripts[0])["labels"] == [HOSTILE]


def test_headline_figures_are_on_the_page_and_in_the_terminal():
    report = full_report(model_trace())
    stream = io.StringIO()
    Console(file=stream, width=120).print(to_rich(report))
    for text in (render_html(report), stream.getvalue()):
        for words in ("3.18 ms", "276 MiB", "$0.171", "$0.0774", "Tensor (PE) bound", "67.0 %"):
            assert words in text


def test_terminal_shows_markup_in_names_as_text():
    builder = TraceBuilder()
    builder.add("[bold]tensor", "x", 0, 10, group="[red]layer[/red]")
    stream = io.StringIO()
    Console(file=stream, width=120).print(to_rich(builder.finish()))
    assert "[red]layer[/red]" in stream.getvalue()
    assert "[bold]tensor" in stream.getvalue()


def test_a_bare_or_empty_trace_makes_a_page(tmp_path):
    for trace in (model_trace(1), TraceBuilder().finish()):
        to_html(trace, tmp_path / "r.html")
        assert Page((tmp_path / "r.html").read_text(encoding="utf-8")).open == []
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_a_page_that_cannot_be_written_is_an_error_of_the_user(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        to_html(TraceBuilder().finish(), tmp_path / "no" / "r.html")


def test_slices_drawn_are_few_and_stand_for_all_events():
    builder = TraceBuilder()
    for i in range(50_000):
        builder.add(f"dma{i % 4}", "load", i * 10, i * 10 + 7)
    builder.add("tensor", "long", 0, 500_000)
    page = Page(render_html(builder.finish()))
    data = json.loads(page.scripts[0])
    assert len(data["start"]) <= 12_000
    assert sum(data["n"]) == 50_001
    assert "long" in {data["labels"][i] for i in data["label"]}


def test_repeats_too_many_to_draw_are_marked():
    builder = TraceBuilder()
    builder.add("tensor", "x", 0, 5)
    builder.repeat(0, 10, 10**7, first=0, stop=1)
    data = json.loads(Page(render_html(builder.finish())).scripts[0])
    assert data["repeats"] == [[10, (10**7 - 1) * 10, 10**7]]


def test_given_roofline_points_are_shown_with_their_part_of_the_roof():
    report = RunReport(
        "t",
        "s",
        "i",
        model_trace(1),
        points=(RooflinePoint("half of the slope", 100.0, 100.0, 500.0),),
        ceilings=Ceilings((("BF16", 90.0),), (("HBM", 400.0),)),
    )
    text = render_html(report)
    # One FLOP a byte under 400 GB/s allows 0.4 TFLOP/s; 100 FLOP in 500 ps are 0.2.
    assert "half of the slope" in text
    assert re.search(r"half of the slope</th>.*50\.0 %", text)
