"""Held to one version of NKI: what it does not have is refused, what it gave up too."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UnknownNameError, UsageError
from emuron.nki.earlier_forms import FORMS, use
from emuron.nki.versions import VERSION_VARIABLE, VERSIONS, held_version

A = np.ones((2, 4), np.float32)


def launched(body, version=None):
    """Run a kernel whose body is `body(tile)`, held to a version."""

    def kernel(a):
        made = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(a.shape, a.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=a)
        body(tile)
        nisa.dma_copy(dst=made, src=tile)
        return made

    with nki.strict(version):
        return nki.simulate(kernel)(A)


@pytest.mark.parametrize("key", FORMS)
@pytest.mark.parametrize("version", VERSIONS)
def test_each_form_is_taken_by_its_versions_alone(key, version):
    form = FORMS[key]
    position = VERSIONS.index(version)
    last = len(VERSIONS) - 1 if form.last is None else VERSIONS.index(form.last)
    with nki.strict(version), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if VERSIONS.index(form.first) <= position <= last:
            use(key)
            deprecated = form.deprecated in VERSIONS[: position + 1]
            assert len(told) == deprecated
        else:
            with pytest.raises(UsageError, match=f"held to NKI {version}"):
                use(key)


@pytest.mark.parametrize("key", [key for key, form in FORMS.items() if form.last])
def test_what_later_versions_gave_up_warns_by_default(key):
    form = FORMS[key]
    with pytest.warns(DeprecationWarning, match=f"of NKI {form.last} and earlier: .") as told:
        use(key)
    assert form.what in str(told[0].message)
    assert form.instead in str(told[0].message)


def test_a_warning_is_given_once_a_launch_at_the_kernels_line():
    def body(tile):
        for _ in range(3):
            nisa.tensor_copy(tile, tile, dtype=nl.float32)

    for _ in range(2):
        with pytest.warns(DeprecationWarning, match="dtype= has no effect") as told:
            launched(body)
        assert [w.filename for w in told] == [__file__]


@pytest.mark.parametrize(
    ("version", "body", "message"),
    [
        ("0.2", lambda t: nl.add(t, t), r"function of nki\.language on tiles exists from NKI 0\.3"),
        ("0.2", lambda t: nl.load(t), r"from NKI 0\.3"),
        ("0.4", lambda t: t.expand_dim(1), r"views of NkiTensor .* from NKI 0\.5"),
        ("0.5", lambda t: nl.fori_loop(0, 1, print), r"from NKI 0\.6"),
        ("0.5", lambda t: nisa.dma_copy(t, t, 1), r"priority= of nisa\.dma_copy"),
        ("0.3", lambda t: nl.ndarray((2, 2), nl.float32, buffer="sbuf"), r"since NKI 0\.3"),
        ("0.3", lambda t: nisa.memset(t, 0, engine=5), r"number in place of a member"),
        ("0.6", lambda t: nisa.dma_copy(t, t, nisa.oob_mode.skip), r"since NKI 0\.6"),
        ("0.3", lambda t: nisa.register_alloc(t[0:1, 0:1].view(nl.int32)), r"register_load"),
    ],
)
def test_a_held_kernel_is_refused_what_its_version_does_not_have(version, body, message):
    with pytest.raises(UsageError, match=rf"test_versions\.py:\d+: .*{message}"):
        launched(body, version)


@pytest.mark.parametrize("version", ["0.3", "0.6"])
def test_functions_made_of_views_work_where_views_do_not_exist(version):
    def body(tile):
        nl.broadcast_to(nl.expand_dims(tile, 1), (2, 3, 4))

    assert launched(body, version).tolist() == A.tolist()


def test_arithmetic_with_registers_warns_when_held_to_0_6():
    def body(tile):
        assert nisa.register_alloc(3) + 1 == 4

    launched(body)
    launched(body, "0.5")
    with pytest.warns(DeprecationWarning, match="register_move"):
        launched(body, "0.6")


def test_a_launch_can_be_held():
    def kernel(a):
        return nl.add(a, a)

    for held in (nki.strict("0.6"), nki.strict(None)):
        with held, pytest.raises(UsageError, match=r"held to NKI 0\.2"):
            nki.run_kernel(kernel, (A,), nki_version="0.2")
    with nki.strict("0.2"), pytest.raises(UsageError, match=r"held to NKI 0\.2"):
        nki.run_kernel(kernel, (A,))


def test_the_environment_holds_every_launch(monkeypatch):
    monkeypatch.setenv(VERSION_VARIABLE, "0.2")
    with pytest.raises(UsageError, match=r"held to NKI 0\.2"):
        launched(lambda t: nl.add(t, t))
    with nki.strict("0.6"):
        assert held_version() == "0.6"
    monkeypatch.setenv(VERSION_VARIABLE, "1.0")
    with pytest.raises(UnknownNameError, match="NKI version"):
        launched(lambda t: None)


def test_earlier_forms_of_0_2_mean_what_they_meant(active, in_sbuf, in_hbm):
    cube = in_sbuf(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    made = nl.ndarray((2, 3, 1), nl.float32)
    with pytest.warns(DeprecationWarning, match="axis=1 for the last"):
        nisa.tensor_reduce(made, nl.add, cube, axis=1, keepdims=True)
    assert active.contents(made)[:, :, 0].tolist() == [[6, 22, 38], [54, 70, 86]]

    total = in_hbm(np.full((2, 4), 3, np.float32))
    with pytest.warns(DeprecationWarning, match="dst_rmw_op"):
        nisa.dma_copy(total, in_sbuf(A), dst_rmw_op=np.add)
    assert active.contents(total).tolist() == [[4.0] * 4] * 2

    rows = in_hbm(np.arange(24, dtype=np.float32).reshape(4, 1, 1, 6))
    turned = nl.ndarray((6, 4), nl.float32)
    with pytest.warns(DeprecationWarning, match="fewer dimensions"):
        nisa.dma_transpose(dst=turned, src=rows)
    assert active.contents(turned).tolist() == np.arange(24).reshape(4, 6).T.tolist()


def test_the_reference_page_is_current():
    docs = Path(__file__).parents[2] / "docs"
    generated = runpy.run_path(str(docs / "generate_versions.py"))
    found = (docs / "reference" / "nki_versions.md").read_text(encoding="utf-8")
    assert found == generated["page"](), "run python docs/generate_versions.py"


def quantised_scales(x):
    """Return what quantize_mx leaves in a tile of scales that held 7 everywhere."""

    @nki.jit
    def kernel(x):
        tile = nl.ndarray((64, 16), dtype=nl.bfloat16, buffer=nl.sbuf)
        packed = nl.ndarray((64, 4), dtype=nl.float8_e4m3fn_x4, buffer=nl.sbuf)
        scales = nl.ndarray((64, 4), dtype=nl.uint8, buffer=nl.sbuf)
        out = nl.ndarray((64, 4), dtype=nl.uint8, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=tile, src=x)
        nisa.memset(scales, 7)
        nisa.quantize_mx(dst=packed, src=tile, dst_scale=scales)
        nisa.dma_copy(dst=out, src=scales)
        return out

    return nki.simulate(kernel, target="trn3")(x).astype(int).reshape(2, 32, 4)


def test_quantised_scales_are_those_of_the_version_that_is_meant(monkeypatch):
    """The release notes of 0.5 and 0.6; nki-library's references are those of 0.3."""
    x = np.random.default_rng(0).normal(size=(64, 16)).astype(ml_dtypes.bfloat16)
    now = quantised_scales(x)
    assert (now[:, 4:] == 7).all()
    monkeypatch.setenv("EMURON_NKI_BEHAVIOUR", "0.5")
    before_0_6 = quantised_scales(x)
    assert (before_0_6[:, :4] == now[:, :4]).all()
    assert (before_0_6[:, 4:] == 0).all()
    monkeypatch.setenv("EMURON_NKI_BEHAVIOUR", "0.3")
    assert (quantised_scales(x)[:, :4] == now[:, :4] - 1).all()
