from pathlib import Path

import pytest

from emuron.errors import UsageError
from emuron.planner.measurements import Measurement, read_measurements, select_measurements

FULL = (
    "id,model,task,image,instance,run_mode,tp,cores,batch,seq,input,output,model_dtype,autocast,"
    "weight_dtype,framework,sdk,application,metric,unit,value"
)
SHORT = (
    "id,model,instance,tp,batch,seq,input,output,dtype,metric,value,unit,sdk,run_mode,kind,notes,"
    "source"
)


def table(folder: Path, *lines: str) -> Path:
    path = folder / "measured.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_table_with_a_column_for_each_cast_is_read(tmp_path: Path) -> None:
    line = (
        "c1,bert-base-uncased,Raw Output,,inf2.xlarge,Data Parallel,,2,8,128,,,FP32,Matmult-BF16,,"
        "PyTorch,2.27,Batch,latency_p50,ms,5.97"
    )
    (row,) = read_measurements(table(tmp_path, FULL, line))
    assert row == Measurement(
        id="c1",
        model="bert-base-uncased",
        instance="inf2.xlarge",
        metric="latency_p50",
        unit="ms",
        value=5.97,
        batch=8,
        sequence=128,
        cores=2,
        run_mode="Data Parallel",
        task="Raw Output",
        dtype="FP32",
        autocast="Matmult-BF16",
        application="Batch",
        framework="PyTorch",
    )


def test_a_table_with_one_column_for_both_casts_is_read(tmp_path: Path) -> None:
    line = (
        "x1,Llama-2-7b,inf2.48xlarge,24,4 (inferred),,,,FP32/Matmult-BF16,throughput,9e2,"
        "inferences/s,2.18,DP2xTP12,docs,SUSPECT: odd,url"
    )
    (row,) = read_measurements(table(tmp_path, SHORT, line))
    assert (row.dtype, row.autocast) == ("FP32", "Matmult-BF16")
    assert (row.batch, row.sequence, row.tensor_parallel, row.cores) == (4, None, 24, None)
    assert (row.value, row.run_mode, row.remark) == (900.0, "DP2xTP12", "SUSPECT: odd")


def test_a_spreadsheet_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    path.write_bytes(
        b"\xef\xbb\xbfid,model,instance,batch,seq,metric,unit,value\r\n1,m,i,,,x,s,1\r\n"
    )
    (row,) = read_measurements(path)
    assert row.id == "1"


MINIMAL = "id,model,instance,batch,seq,metric,unit,value"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("",), "no column id, model"),
        (("id,model,instance,batch,seq,metric,unit",), "no column value"),
        ((MINIMAL, "1,m,i,1,128,x,ms,fast"), r"line 2: value 'fast' is not a finite number"),
        ((MINIMAL, "1,m,i,1,128,x,ms,"), r"line 2: value '' is not"),
        ((MINIMAL, "1,m,i,1,128,x,ms,nan"), r"value 'nan' is not"),
        ((MINIMAL, "1,m,i,1,128,x,ms,1", "2,m,i,one,128,x,ms,1"), "line 3: batch 'one'"),
        ((MINIMAL, "1,m,i,1,0,x,ms,1"), "seq '0' is not a whole number of at least 1"),
        ((MINIMAL, "1,m,i,1,128,x,ms"), "line 2: the line has more or fewer fields"),
        ((MINIMAL, "1,m,i,1,128,x,ms,1,2"), "line 2: the line has more or fewer fields"),
        ((MINIMAL, '1,"m'), "cannot be read as a CSV file"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_the_place(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_measurements(table(tmp_path, *lines))


def test_a_missing_file_a_folder_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_measurements(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="is a folder"):
        read_measurements(tmp_path)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        read_measurements(binary)


def rows(*models: str) -> tuple[Measurement, ...]:
    return tuple(Measurement(str(i), m, "inf2.xlarge", "x", "s", 1) for i, m in enumerate(models))


def test_rows_are_selected_by_model_in_any_case_and_cut_after_that() -> None:
    table = rows("BERT base", "roberta-base", "Llama", "bert-large")
    assert [m.id for m in select_measurements(table, "bert")] == ["0", "1", "3"]
    assert [m.id for m in select_measurements(table, "bert", 2)] == ["0", "1"]
    assert select_measurements(table) == table


def test_a_match_that_finds_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match="No row's model contains 'gpt'"):
        select_measurements(rows("Llama"), "gpt")


def test_a_dtype_may_name_the_model_and_its_tokens(tmp_path: Path) -> None:
    line = (
        'c6,BERT base,,,inf1.xlarge,Data Parallel,,,4,,,,"fp32, bert-base-cased-finetuned-mrpc, '
        'sequence-length=128",,,PyTorch 1.13,2.20,Batch,latency_p50,ms,20.0'
    )
    (row,) = read_measurements(table(tmp_path, FULL, line))
    assert (row.model, row.dtype) == ("BERT base (bert-base-cased-finetuned-mrpc)", "fp32")
    assert row.sequence == 128


def test_the_first_of_two_dtypes_is_that_of_the_model(tmp_path: Path) -> None:
    line = (
        'c119,PixArt Alpha,Image Generation,256x256,inf2.xlarge,Data Parallel,,,1,,,,"FP32, BF16",'
        "Matmult-BF16,,PyTorch 2.1,2.20,Real Time,latency_p50,ms,502.6"
    )
    (row,) = read_measurements(table(tmp_path, FULL, line))
    assert (row.dtype, row.image, row.application) == ("FP32", "256x256", "Real Time")


def test_a_remark_may_end_with_the_application(tmp_path: Path) -> None:
    for remark, application in (("older; Batch", "Batch"), ("older", ""), ("Batch of 3", "")):
        line = f"x1,bert-base-uncased,inf2.xlarge,,8,128,,,FP32,latency_p50,9,ms,2.27,,,{remark},"
        (row,) = read_measurements(table(tmp_path, SHORT, line))
        assert row.application == application
