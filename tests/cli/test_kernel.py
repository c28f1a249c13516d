"""`emuron kernel run`: tables, JSON, files written, and errors in one paragraph."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from emuron.cli.main import run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "kernels"

KERNEL_FILE = """
import numpy as np
import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl

@nki.jit
def scaled(x, factor=2.0):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    tile = nl.load(x)
    nisa.tensor_scalar(tile, tile, nl.multiply, factor)
    nl.store(out, tile)
    return out

@nki.jit
def broken(x):
    return nl.load(x) / 2
"""
CASES = """
X = np.ones((2, 3), np.float32)

def cases():
    return [
        nki.Case("right", scaled, (X,), expected=lambda x: 2 * x),
        nki.Case("wrong", scaled, (X,), expected=lambda x: 3 * x),
        nki.Case("broken", broken, (X,)),
        nki.Case("python", lambda x: x.no_such_method(), (X,)),
    ]
"""


@pytest.fixture
def emuron(capsys):
    """Run the command; return its exit code, stdout and stderr."""

    def call(*arguments: object):
        with pytest.raises(SystemExit) as left:
            run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return call


@pytest.fixture
def file(tmp_path):
    """A kernel file with cases."""
    path = tmp_path / "my_kernel.py"
    path.write_text(KERNEL_FILE + CASES)
    return path


def test_a_table_shows_time_engines_memory_and_error(emuron):
    code, out, _ = emuron("kernel", "run", EXAMPLES / "softmax.py", "--case", "256x1024")
    assert code == 0
    assert "trainium2" in out
    for word in ("256x1024", "µs", "Vector", "Scalar", "DMA bytes", "SBUF peak", "error"):
        assert word in out
    assert "PE" not in out  # columns of engines that did nothing are left out


def test_json_has_the_same_figures(emuron, file):
    code, out, _ = emuron("kernel", "run", file, "--case", "right", "--json", "--target", "inf2")
    document = json.loads(out)
    (case,) = document["cases"]
    assert code == 0
    assert document["target"] == "inferentia2"
    assert case["passed"] is True
    assert case["max_error"] == 0.0
    assert case["time_us"] > 0
    assert set(case["busy"]) == {"tensor", "vector", "scalar", "gpsimd", "dma"}


def test_a_wrong_result_exits_with_1_and_says_so(emuron, file):
    code, out, _ = emuron("kernel", "run", file, "--case", "wrong")
    assert code == 1
    assert "WRONG" in out


def test_without_data_nothing_is_checked(emuron, file):
    code, out, _ = emuron("kernel", "run", file, "--case", "wrong", "--no-data", "--json")
    assert code == 0
    assert json.loads(out)["cases"][0]["passed"] is None


def test_a_kernel_without_a_case_runs_on_made_up_inputs(emuron, file):
    code, out, _ = emuron(
        *("kernel", "run", file, "--kernel", "scaled", "--json"),
        *("--input", "x=bf16[128,64]", "--input", "factor=0.5"),
    )
    assert code == 0
    # Loaded and stored once, two bytes an element.
    assert json.loads(out)["cases"][0]["dma_bytes"] == 2 * 128 * 64 * 2


def test_trace_and_report_are_written(emuron, file, tmp_path):
    trace, report = tmp_path / "t.json.gz", tmp_path / "r.html"
    emuron("kernel", "run", file, "--case", "right", "--trace", trace, "--report", report)
    assert "traceEvents" in json.loads(gzip.decompress(trace.read_bytes()))
    assert "scaled" in report.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--case", "broken"], 2, ["my_kernel.py:17", "no Python operators", "nl.multiply"]),
        (["--case", "python"], 2, ["AttributeError", "no_such_method"]),
        (["--case", "missing"], 2, ["Unknown case 'missing'", "right"]),
        (["--kernel", "missing"], 2, ["missing", "scaled"]),
        (["--kernel", "scaled", "--input", "x"], 2, ["--input x", "f32[128,512]"]),
        (["--kernel", "scaled", "--input", "x=f7[2]"], 2, ["dtype", "f7"]),
        (["--kernel", "scaled", "--input", "y=f32[2,2]"], 2, ["scaled(x, factor=2.0)", "y"]),
        (["--trace", "t.json"], 2, ["--case", "'right'"]),
        (["--case", "right", "--target", "trn9"], 2, ["trn9", "trn2"]),
    ],
)
def test_an_error_is_one_paragraph(emuron, file, arguments, code, words):
    found, _, err = emuron("kernel", "run", file, *arguments)
    assert found == code
    assert "Traceback" not in err
    assert [word for word in words if word not in err] == []


def test_a_hardware_limit_exits_with_1(emuron, tmp_path):
    path = tmp_path / "limit.py"
    path.write_text(KERNEL_FILE + "\n@nki.jit\ndef copies(x):\n    nisa.tensor_copy(x, x)\n")
    code, _, err = emuron("kernel", "run", path, "--kernel", "copies", "--input", "x=f32[2,2]")
    assert code == 1
    assert "limit.py:21: tensor_copy" in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import emuron.nki as nki\n", ["no function cases()", "--kernel"]),
        ("1 / 0\n", ["bare.py:1", "ZeroDivisionError"]),
        ("def f(:\n", ["SyntaxError"]),
        (None, ["There is no file"]),
    ],
)
def test_a_file_that_cannot_run_is_explained(emuron, tmp_path, text, words):
    path = tmp_path / "bare.py"
    if text is not None:
        path.write_text(text)
    code, _, err = emuron("kernel", "run", path)
    assert code == 2
    assert [word for word in words if word not in err.replace("\n", " ")] == []


OLD_FILE = """
import numpy as np
import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl

def old(x):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    if x is out:
        return None
    tile = nl.ndarray(x.shape, x.dtype, buffer="sbuf")
    nisa.dma_copy(tile, x)
    nisa.dma_copy(out, tile)
    return out

def cases():
    return [nki.Case("old", old, (np.ones((2, 3), np.float32),))]
"""


RACING_FILE = """\
import numpy as np

import emuron.nki as nki
import emuron.nki.language as nl


@nki.jit
def racing(x):
    nl.store(x, nl.full(x.shape, float(nl.program_id()), x.dtype))


def cases():
    return [nki.Case("racing", racing[2], (np.ones((2, 3), np.float32),))]
"""


def test_races_are_refused_warn_or_are_not_looked_for(emuron, tmp_path):
    file = tmp_path / "racing.py"
    file.write_text(RACING_FILE)
    code, _, err = emuron("kernel", "run", file)
    assert code == 1
    assert "Race: core 0 writes 'x'" in " ".join(err.split())
    code, _, err = emuron("kernel", "run", file, "--races", "warn")
    assert code == 0
    assert "Race: core 0 writes 'x'" in " ".join(err.split())
    code, out, err = emuron("kernel", "run", file, "--races", "off")
    assert (code, err) == (0, "")
    assert "racing.py on 2 cores of trainium2" in " ".join(out.split())


def test_outdated_forms_and_the_subset_warn_or_are_refused(emuron, tmp_path):
    file = tmp_path / "old.py"
    file.write_text(OLD_FILE)
    code, _, err = emuron("kernel", "run", file)
    assert code == 0
    assert err.count("Warning: old.py:11: a memory given as a string is of NKI 0.2") == 1
    code, _, err = emuron("kernel", "run", file, "--nki-version", "0.6")
    assert code == 2
    assert "held to NKI 0.6: name it, such as nl.sbuf" in " ".join(err.split())
    code, _, err = emuron("kernel", "run", file, "--subset", "warn")
    assert code == 0
    assert "Warning: old.py:9: `is` with anything but None is refused" in err
    code, _, err = emuron("kernel", "run", file, "--subset", "error")
    assert code == 2
    assert "Compare with ==" in " ".join(err.split())
