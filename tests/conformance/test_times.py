"""Published device times find the recorded case that they are of."""

from pathlib import Path

import pytest

from emuron.errors import UsageError
from tools.conformance.compare import Comparison, summarize
from tools.conformance.records import CaseRecord
from tools.conformance.times import best_case, needed, read_times

HEADER = "id,kernel,table,lnc,params,time_us,source\n"


def times(folder: Path, *rows: str) -> list:
    """Return the rows of a table of device times with these lines."""
    path = folder / "times.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows), "utf-8")
    return read_times(path)


def case(predicted_us: float = 10.0, lnc: int = 2, tables: tuple = (), **params) -> CaseRecord:
    """Return a timed case of test_mlp.py."""
    return CaseRecord(
        "core/test_mlp.py",
        "test_unit",
        "mlp",
        tables=list(tables),
        params=params,
        lnc=lnc,
        predicted_ps=round(predicted_us * 1e6),
    )


def test_a_row_finds_the_case_with_its_parameters(tmp_path):
    (row,) = times(tmp_path, "k0,mlp,T,2,batch=1;seqlen=512,80.0,")
    wrong, right = case(batch=1, seqlen=256), case(batch=1, seqlen=512)
    assert best_case(row, [wrong, right]) is right


def test_the_test_file_is_the_one_that_the_source_names(tmp_path):
    (row,) = times(tmp_path, "k0,other,T,2,batch=1,80.0,repo@1 test/core/test_mlp.py")
    assert best_case(row, [case(batch=1)]) is not None


def test_a_case_on_another_number_of_cores_is_not_the_one(tmp_path):
    (row,) = times(tmp_path, "k0,mlp,T,1,batch=1,80.0,")
    on_two, on_one = case(batch=1), case(batch=1, lnc=1)
    assert best_case(row, [on_two, on_one]) is on_one


def test_without_a_number_of_cores_the_case_has_its_own(tmp_path):
    (row,) = times(tmp_path, "k0,mlp,T,,batch=1,80.0,")
    assert best_case(row, [case(batch=1, lnc=2)]) is not None


def test_names_may_be_longer_and_truth_a_number(tmp_path):
    (row,) = times(tmp_path, "k0,mlp,T,2,quant=ROW;store_add=True,80.0,")
    right = case(quant_type="ROW", store_add=1)
    assert best_case(row, [case(quant_type="ROW", store_add=0), right]) is right


def test_an_enum_given_as_a_number_is_compared_by_the_kernels_argument(tmp_path):
    (row,) = times(tmp_path, "k0,mlp,T,2,norm_type=RMS_NORM;batch=1,80.0,")
    layer, rms = case(norm_type=2, batch=1), case(norm_type=1, batch=1)
    layer.arguments, rms.arguments = {"norm": "LAYER_NORM"}, {"norm": "RMS_NORM"}
    assert best_case(row, [layer, rms]) is rms


def test_a_value_counts_where_the_name_is_another_word(tmp_path):
    (row,) = times(tmp_path, "k0,mlp,T,2,hidden=4096;intermediate=896,80.0,")
    right = case(h=4096, i=896)
    assert best_case(row, [case(h=2048, i=512), right]) is right


def test_a_parameter_that_only_other_rows_have_is_absent_from_the_case(tmp_path):
    _, row = times(tmp_path, "k0,mlp,T,2,batch=1;prior=64,80.0,", "k1,mlp,T,2,batch=1,60.0,")
    right = case(batch=1, prior=None)
    assert best_case(row, [case(batch=1, prior=64), right]) is right


def test_a_case_of_the_rows_table_comes_first(tmp_path):
    (row,) = times(tmp_path, "k0,mlp,T,2,batch=1,80.0,")
    right = case(batch=1, tables=("T",))
    assert best_case(row, [case(batch=1), right]) is right


def test_of_equal_cases_the_first_is_enough(tmp_path):
    rows = times(tmp_path, "k0,mlp,T,2,batch=1,80.0,", "k1,mlp,T,2,batch=2,90.0,")
    cases = [case(batch=n, strided=s) for n, s in ((1, False), (1, True), (2, False), (3, False))]
    assert needed(rows, cases) == [True, False, True, False]


def test_an_equal_case_of_another_table_is_not_enough(tmp_path):
    rows = times(tmp_path, "k0,mlp,T,2,batch=1,80.0,")
    cases = [case(batch=1, tables=("U",)), case(batch=1, tables=("T",))]
    assert needed(rows, cases) == [True, True]


def test_cases_whose_enum_is_not_yet_known_are_all_needed(tmp_path):
    rows = times(tmp_path, "k0,mlp,T,2,norm_type=RMS_NORM;batch=1,80.0,")
    assert needed(rows, [case(norm_type=n, batch=1) for n in (1, 2)]) == [True, True]


def test_a_case_without_a_time_is_no_answer(tmp_path):
    (row,) = times(tmp_path, "k0,mlp,T,2,batch=1,80.0,")
    failed = case(batch=1)
    failed.predicted_ps = None
    assert best_case(row, [failed]) is None


def test_rows_must_have_the_columns(tmp_path):
    path = tmp_path / "times.csv"
    path.write_text("id,kernel\nk0,mlp\n", "utf-8")
    with pytest.raises(UsageError, match="no column table, lnc, params, time_us"):
        read_times(path)


def test_a_time_that_is_no_number_names_its_row(tmp_path):
    with pytest.raises(UsageError, match="row k7"):
        times(tmp_path, "k7,mlp,T,2,batch=1,fast,")


def test_the_summary_counts_rows_without_a_case(tmp_path):
    rows = times(tmp_path, "k0,mlp,T,2,batch=1,80.0,", "k1,mlp,T,2,batch=2,50.0,")
    summary = summarize([Comparison(rows[0], case(predicted_us=100.0)), Comparison(rows[1], None)])
    assert (summary.rows, summary.predicted) == (2, 1)
    assert summary.median_abs_error == pytest.approx(0.25)
