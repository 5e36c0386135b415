import numpy as np

from brittle_jax.data.samples import limit
from tests.conftest import make_dataset


def test_samples_are_as_many_as_their_ids():
    assert len(make_dataset(np.zeros((5, 1, 1, 3))).samples) == 5


def test_a_limit_draws_so_many_in_ascending_order():
    samples = np.array([9, 3, 5, 7, 1])
    few = limit(samples, 3, np.random.default_rng(0))
    assert len(few) == 3 and set(few) < set(samples) and few.tolist() == sorted(few)


def test_no_limit_and_a_generous_one_keep_all():
    samples = np.array([9, 3, 5])
    for max_samples in (0, 3, 4):
        assert limit(samples, max_samples, np.random.default_rng(0)).tolist() == [3, 5, 9]
