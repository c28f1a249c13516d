"""`emuron kernel profile` and `emuron kernel diff`: tables, JSON, files, and errors."""

import json
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "kernels"
NAIVE = ("kernel", "profile", EXAMPLES / "matmul.py", "--case", "naive 1024", "--no-data")


def test_people_see_lines_with_their_source_and_what_to_fix(emuron):
    done = emuron(*NAIVE)
    assert done.code == 0
    assert "matmul_naive (naive 1024) on one core of trainium2" in done.out
    assert "nisa.nc_matmul(product, lhs_tile" in done.out
    assert "single-buffered" in done.out
    assert "Gain up to" in done.out
    assert "roofline" in done.out


def test_json_is_complete_and_adds_up(emuron):
    document = emuron(*NAIVE, "--json").json()
    assert set(document) == {
        *(
            "format",
            "kernel",
            "case",
            "target",
            "cores",
            "cores_shown",
            "time_us",
            "instructions",
            "dma_bytes",
        ),
        *("hbm_bytes", "flops", "memory", "verdict", "engines", "bounds", "roofline"),
        *("critical_path", "hints", "lines", "tensors"),
    }
    parts = document["critical_path"]["parts"]
    on_path = sum(part["busy_us"] + part["latency_us"] for part in parts)
    assert abs(on_path - document["time_us"]) < 1e-6
    by_line = sum(line["critical_us"] + line["latency_us"] for line in document["lines"])
    assert abs(by_line - document["time_us"]) < 1e-6
    matmul = next(line for line in document["lines"] if "nc_matmul" in line["source"])
    assert matmul["path"] == str(EXAMPLES / "matmul.py")
    assert matmul["instructions"] == {"nc_matmul": 128}
    assert matmul["waits"][0]["for_engine"] == "dma"
    assert document["flops"] == 2 * 512 * 512 * 1024
    assert document["hints"][0]["rule"] == "single-buffered"


def test_a_hint_followed_makes_the_run_faster_and_goes_away(emuron, tmp_path):
    for name in ("naive 1024", "tiled 1024"):
        path = tmp_path / f"{name.split()[0]}.json"
        path.write_text(emuron(*NAIVE[:3], "--case", name, "--no-data", "--json").out)
    found = emuron("kernel", "diff", tmp_path / "naive.json", tmp_path / "tiled.json", "--json")
    document = found.json()
    assert document["totals"]["time_us"]["difference"] < -100
    assert any("single-buffered" in hint for hint in document["hints_gone"])
    shown = emuron("kernel", "diff", tmp_path / "naive.json", tmp_path / "tiled.json")
    assert shown.code == 0
    assert "Fixed: single-buffered" in shown.out
    against = emuron(*NAIVE, "--against", tmp_path / "tiled.json", "--json").json()
    assert against["diff"]["totals"]["time_us"]["difference"] > 100


def test_report_and_trace_are_written(emuron, tmp_path):
    done = emuron(*NAIVE, "--report", tmp_path / "r.html", "--trace", tmp_path / "t.json")
    assert done.code == 0
    page = (tmp_path / "r.html").read_text()
    assert "What to fix first" in page
    assert "nisa.nc_matmul(product, lhs_tile" in page
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]


def test_a_profile_takes_one_case(emuron):
    done = emuron("kernel", "profile", EXAMPLES / "matmul.py", "--case", "naive")
    assert done.code == 2
    assert "one case" in done.err
    assert "naive 1024" in done.err


def test_a_file_that_is_no_profile_is_refused(emuron, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    done = emuron("kernel", "diff", tmp_path / "a.json", tmp_path / "a.json")
    assert done.code == 2
    assert "is no profile" in done.err
    assert "Traceback" not in done.err
