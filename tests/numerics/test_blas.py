import pytest

from emuron.numerics.blas import one_thread, thread_controls


@pytest.fixture
def controls():
    found = thread_controls()
    if found is None:
        pytest.skip("NumPy has no OpenBLAS of its own here")
    read, write = found
    before = read()
    yield read, write
    write(before)


def test_products_run_on_one_thread_inside(controls):
    read, write = controls
    write(2)
    with one_thread():
        assert read() == 1
    assert read() == 2


def test_an_error_restores_the_threads(controls):
    read, write = controls
    write(2)
    with pytest.raises(ValueError), one_thread():
        raise ValueError
    assert read() == 2


def test_a_launch_runs_on_one_thread(controls):
    import emuron.nki as nki

    read, write = controls
    write(2)
    assert nki.simulate(lambda: read())() == 1
    assert read() == 2
