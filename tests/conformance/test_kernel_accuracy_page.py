"""The page on the accuracy of kernels says what a table of device times and a run say."""

import runpy
from pathlib import Path

import pytest

from tools.conformance.records import CaseRecord

SCRIPT = Path(__file__).parents[2] / "docs" / "generate_kernel_accuracy.py"
TIMES = """\
id,kernel,table,lnc,params,time_us
k0,mlp,T,2,batch=1,80
k1,mlp,T,2,batch=2,100
k2,other,U,1,batch=1,50
"""


@pytest.fixture
def script():
    """Return the names of the script."""
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def rows(script, tmp_path):
    """Return the comparisons of two rows that ran and, left out, one of a file that did not."""
    times, cases = tmp_path / "times.csv", tmp_path / "cases.jsonl"
    times.write_text(TIMES, "utf-8")
    for batch, predicted_us in ((1, 100), (2, 90)):
        CaseRecord(
            "test_mlp.py",
            f"test[{batch}]",
            "mlp",
            params={"batch": batch},
            lnc=2,
            predicted_ps=predicted_us * 10**6,
        ).append_to(cases)
    return script["compared"](times, cases)


def test_every_row_of_a_file_that_ran_is_on_the_page(script, rows):
    page = script["page"](rows, {})
    assert "| k0 | mlp | 2 | 80 | 100 | +25.0% | batch=1 |" in page
    assert "| k1 | mlp | 2 | 100 | 90 | -10.0% | batch=2 |" in page
    assert "k2" not in page


def test_summaries_are_by_family(script, rows):
    assert "| mlp | 2 | 17.5% | 23.5% | -1.000 |" in script["page"](rows, {})


def test_a_family_left_out_has_the_error_of_its_own_run(script, rows):
    left_out = script["page"](rows, {"mlp": rows[:1]}).partition("### Families left out")[2]
    assert "| mlp | 1 | 25.0% | 25.0% | – |" in left_out


def test_figures_taken_from_kernels_are_listed_with_their_source(script, rows):
    assert "| `dma.transpose_sbuf_rate` |" in script["page"](rows, {})
