"""`emuron serve` up to the moment that it listens, and what it refuses before."""

import importlib.util
import sys
from pathlib import Path

import pytest

from emuron.cli import main
from emuron.serving.listener import open_listener

EXAMPLE = Path(__file__).parents[2] / "examples" / "make_tiny_llama.py"

pytestmark = pytest.mark.serve
server_module = pytest.importorskip("emuron.serving.openai_server")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("tiny_llama_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = example
    spec.loader.exec_module(example)
    path = tmp_path_factory.mktemp("llama") / "tiny"
    example.write_model(path, example.parse_arguments([str(path)]))
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main.run(["serve", *map(str, arguments)])
    return ended.value.code


def test_the_panel_says_what_is_served_and_where(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server_module, "run_server", lambda *args, **options: None)
    assert run(folder, "--port", 0, "--max-num-seqs", 2, "--max-model-len", 300) == 0
    printed = capsys.readouterr().out
    assert "inf2.xlarge, tp 1, clock paced" in printed
    assert "prefill 128 256 300; decode 1 2" in printed
    assert "20 blocks of 32 tokens" in printed
    assert "http://127.0.0.1:" in printed
    assert "compiled for the instance" in printed


def test_a_model_is_served_by_several_cores(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server_module, "run_server", lambda *args, **options: None)
    assert run(folder, "--port", 0, "--tp", 2) == 0
    printed = capsys.readouterr().out
    assert "tp 2" in printed
    assert "compiled for the instance" in printed
    assert "MiB of weights on each core" in printed


def test_a_port_in_use_is_refused_before_the_model_is_looked_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open_listener("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert run("no/such/folder", "--port", port) == 1
    assert f"port {port} on 127.0.0.1 is in use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--tp", 9), 2, "2 logical cores of inf2.xlarge, got 9"),
        (("--on", "inf9"), 2, "Unknown instance 'inf9'"),
        (("--clock", "sun"), 2, "Unknown clock 'sun'"),
        (("--backend", "abacus"), 2, "abacus"),
        (("--autocast", "some"), 2, "Unknown auto-cast mode 'some'"),
        (("--max-model-len", 9999), 2, "exceeds the 1024 positions"),
        (("--max-model-len", 0), 2, "max_model_len must be positive"),
        (("--max-num-seqs", 0), 2, "max_num_seqs must be positive"),
        (("--block-size", 0), 2, "block_size must be positive"),
        (("--num-blocks", 3), 1, "needs 32 blocks of 32, but there are only 3"),
        (("--num-blocks", 10**9), 2, "blocks that fit beside the weights"),
        (("--host", "192.0.2.1"), 1, "cannot listen on 192.0.2.1"),
    ],
)
def test_a_bad_option_is_refused_by_name(
    folder: Path,
    options: tuple[object, ...],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(folder, "--port", 0, *options) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_folder_without_a_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--port", 0) == 1
    assert "config.json" in capsys.readouterr().err
