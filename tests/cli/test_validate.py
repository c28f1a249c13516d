import json
from pathlib import Path

import pytest

from emuron.cli.main import run

TABLE = """\
id,model,task,instance,run_mode,tp,cores,batch,seq,dtype,metric,unit,value
a,all-MiniLM-L6-v2,Raw,inf2.xlarge,Data Parallel,,,1,128,FP32/Matmult-BF16,latency_p50,ms,0.4
b,all-MiniLM-L6-v2,Raw,inf2.xlarge,Data Parallel,,,1,128,FP32/Matmult-BF16,throughput,1/s,5000
c,alexnet,Image Classification,inf2.xlarge,Data Parallel,,,1,,FP32,latency_p50,ms,1
"""
OTHER_TABLE = """\
id,model,instance,tp,batch,seq,input,output,dtype,metric,value,unit,sdk,run_mode,kind,notes,source
x,all-minilm-l6-v2,inf2.xlarge,,1,128,,,FP32/Matmult-BF16,latency_p50,0.4,ms,2.2,Data Parallel,k,n,s
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "100")
    path = tmp_path / "measured.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def emuron(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    with pytest.raises(SystemExit) as leaving:
        run(["validate", *map(str, arguments)])
    printed = capsys.readouterr()
    assert leaving.value.code == code
    assert "Traceback" not in printed.err
    return printed.out if code == 0 else printed.err


def test_validate_prints_every_row_and_a_summary(
    capsys: pytest.CaptureFixture[str], table: Path
) -> None:
    text = emuron(capsys, table)
    assert "all-MiniLM-L6-v2 on inf2.xlarge" in text
    assert "alexnet on inf2.xlarge" in text
    assert "alexnet (task: Image Classification) is not among the native models" in text
    assert "2 of 3 rows predicted; error: median" in text


def test_validate_prints_one_object_for_programs(
    capsys: pytest.CaptureFixture[str], table: Path
) -> None:
    document = json.loads(emuron(capsys, table, "--json"))
    assert set(document) == {"rows", "summary"}
    assert [row["id"] for row in document["rows"]] == ["a", "b", "c"]
    names = {"id", "measured", "predicted", "relative_error", "note"}
    assert all(set(row) == names for row in document["rows"])
    first, second, third = document["rows"]
    assert first["relative_error"] == pytest.approx(first["predicted"] / 0.4 - 1)
    # One worker on each of two cores: throughput x latency is two inferences in flight.
    assert second["predicted"] * first["predicted"] / 1000 == pytest.approx(2)
    assert third["predicted"] is third["relative_error"] is None
    assert document["summary"] == {
        "rows": 3,
        "predicted": 2,
        "median_abs_error": pytest.approx(
            (abs(first["relative_error"]) + abs(second["relative_error"])) / 2
        ),
        "p90_abs_error": pytest.approx(
            0.9 * max(abs(first["relative_error"]), abs(second["relative_error"]))
            + 0.1 * min(abs(first["relative_error"]), abs(second["relative_error"]))
        ),
        "spearman": pytest.approx(1),
    }


def test_validate_reads_the_other_set_of_columns(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "extra.csv"
    path.write_text(OTHER_TABLE, encoding="utf-8")
    document = json.loads(emuron(capsys, path, "--json"))
    assert document["summary"]["predicted"] == 1
    assert document["summary"]["spearman"] is None


def test_validate_takes_matching_rows_up_to_a_limit(
    capsys: pytest.CaptureFixture[str], table: Path
) -> None:
    document = json.loads(emuron(capsys, table, "--json", "--match", "ALEXNET"))
    assert [row["id"] for row in document["rows"]] == ["c"]
    document = json.loads(emuron(capsys, table, "--json", "--limit", 1))
    assert [row["id"] for row in document["rows"]] == ["a"]


def test_validate_of_a_table_without_rows_is_an_empty_summary(
    capsys: pytest.CaptureFixture[str], table: Path
) -> None:
    table.write_text(TABLE.splitlines()[0] + "\n", encoding="utf-8")
    document = json.loads(emuron(capsys, table, "--json"))
    assert document["rows"] == []
    assert document["summary"]["rows"] == 0
    assert document["summary"]["median_abs_error"] is None
    assert "0 of 0 rows predicted" in emuron(capsys, table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("id,model\n", "has no column instance, batch, seq, metric, unit, value"),
        (TABLE.replace(",0.4", ",quick"), "line 2: value 'quick' is not a finite number"),
        (TABLE.replace(",1,128,", ",many,128,"), "batch 'many'"),
    ],
)
def test_validate_refuses_a_wrong_table_in_one_paragraph(
    capsys: pytest.CaptureFixture[str], table: Path, content: str | None, message: str
) -> None:
    if content is None:
        table.unlink()
    else:
        table.write_text(content, encoding="utf-8")
    text = emuron(capsys, table, "--json", code=2)
    assert message in text
    assert text.count("\n") == 1


def test_validate_refuses_a_limit_of_no_rows(
    capsys: pytest.CaptureFixture[str], table: Path
) -> None:
    assert "--limit" in emuron(capsys, table, "--limit", 0, code=2)
