import resource
import tracemalloc

import numpy as np
import pytest

from brittle_jax import rows


@pytest.fixture
def limited_file_size():
    """No file can grow beyond a megabyte, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_many_rows_are_in_a_file_that_leaves_nothing_behind(tmp_path):
    assert isinstance(rows.empty_rows(15_000, 2208, tmp_path), np.ndarray)
    many = rows.empty_rows(16_000, 2208, tmp_path)
    assert isinstance(many, rows.RowFile) and many.shape == (16_000, 2208)
    many[np.array([15_999])] = np.ones((1, 2208), np.float32)
    assert not [*tmp_path.iterdir()]


def test_a_file_holds_what_an_array_holds(tmp_path):
    rng = np.random.default_rng(0)
    file, array = rows.RowFile(100, 7, tmp_path), np.zeros((100, 7), np.float32)
    for rows_at in (file, array):
        rows_at[np.arange(100)] = np.zeros((100, 7), np.float32)
    for _ in range(20):
        indices, values = rng.permutation(100)[:9], rng.normal(size=(9, 7)).astype(np.float32)
        file[indices] = values
        array[indices] = values
        read = rng.integers(0, 100, 30)  # in any order, some of them twice
        np.testing.assert_array_equal(file[read], array[read])
    assert file[read].dtype == np.float32


def test_a_file_takes_no_memory(tmp_path):
    file, block = rows.RowFile(20_000, 2208, tmp_path), np.ones((100, 2208), np.float32)
    tracemalloc.start()
    for start in range(0, 20_000, 100):
        file[np.arange(start, start + 100)] = block
    total = sum(float(file[np.arange(start, start + 100)].sum()) for start in range(0, 20_000, 100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 20_000 * 2208
    assert peak < 5 * block.nbytes  # all of it would take 200 times


def test_a_file_that_cannot_be_written_or_is_cut_off_says_so(tmp_path, limited_file_size):
    file = rows.RowFile(20_000, 2208, tmp_path)
    file[np.arange(100)] = np.ones((100, 2208), np.float32)
    for row in (200, 118):  # beyond the limit, and partly so
        with pytest.raises(OSError):
            file[np.array([row])] = np.ones((1, 2208), np.float32)
        with pytest.raises(OSError, match="cut off"):
            file[np.array([row])]
    assert file[np.array([99])].min() == 1
