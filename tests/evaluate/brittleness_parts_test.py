import jax
import numpy as np
import pytest

from brittle_jax.evaluate import brittleness, brittleness_parts
from tests.evaluate.brittleness_test import IMAGES, mini


def test_intervals_agree_with_a_plain_bootstrap():
    rng = np.random.default_rng(0)
    norms = rng.gamma(2, size=400)
    errors = rng.normal(size=(400, 3)) * (1 + norms[:, None]) + 50  # far from 0, and coupled to the norms
    found = brittleness_parts.intervals(norms, errors, np.arange(400), num_samples=2000, seed=0)
    drawn = {"brittleness": [], "gradient_norm": [], "error_trace": []}
    for _ in range(2000):
        chosen = rng.integers(0, 400, 400)
        mean, trace = norms[chosen].mean(), errors[chosen].var(axis=0, ddof=1).sum()
        for name, value in zip(drawn, (mean / trace, mean, trace), strict=True):
            drawn[name].append(value)
    for name, values in drawn.items():
        low, high = np.quantile(values, [0.025, 0.975])
        np.testing.assert_allclose(found[f"{name}_interval"], (low, high), atol=0.12 * (high - low))
        assert found[f"{name}_interval"][0] < np.mean(values) < found[f"{name}_interval"][1]


def test_images_of_one_group_count_once():
    rng = np.random.default_rng(0)
    norms, errors = rng.gamma(2, size=40), rng.normal(size=(40, 3))
    repeated = [np.repeat(each, 9, axis=0) for each in (norms, errors)]
    once = brittleness_parts.intervals(norms, errors, np.arange(40), num_samples=500, seed=0)
    grouped = brittleness_parts.intervals(*repeated, np.repeat(np.arange(40), 9), num_samples=500, seed=0)
    apart = brittleness_parts.intervals(*repeated, np.arange(360), num_samples=500, seed=0)

    def width(found):
        low, high = found["gradient_norm_interval"]
        return high - low

    assert width(grouped) == pytest.approx(width(once), rel=1e-6)
    assert width(apart) < 0.5 * width(once)


def test_errors_that_do_not_vary_have_no_interval_of_brittleness():
    found = brittleness_parts.intervals(np.ones(5), np.ones((5, 2)), np.arange(5), num_samples=50, seed=0)
    assert found["brittleness_interval"] is None and found["gradient_norm_interval"] == (1, 1)
    alone = brittleness_parts.intervals(np.ones(1), np.ones((1, 2)), np.arange(1), num_samples=50, seed=0)
    assert alone["brittleness_interval"] is None


@pytest.mark.parametrize("path", ["student", "both"])
def test_dimensions_add_up_to_the_gradient_norm(path):
    student, teacher = mini(1), mini(2)
    parts = brittleness_parts.gradient_norm_by_dimension(student, teacher, IMAGES, path=path)
    norms = brittleness.input_gradient_norms(student, teacher, IMAGES, path=path)
    assert parts.shape == (12, 16)
    np.testing.assert_allclose(parts.sum(axis=1), norms, rtol=1e-4)


def test_the_part_of_each_dimension_is_right_in_a_linear_network():
    rng = np.random.default_rng(0)
    weights, images = rng.normal(size=(48, 3)), rng.uniform(size=(5, 4, 4, 3))
    with jax.enable_x64(True):
        student = jax.tree_util.Partial(lambda w, x: x.reshape(len(x), -1) @ w, weights)
        teacher = jax.tree_util.Partial(lambda x: np.zeros((len(x), 3)))
        parts = brittleness_parts.gradient_norm_by_dimension(student, teacher, images)
    for image, part in zip(images.reshape(5, -1), parts, strict=True):
        by_dimension = 2 / 3 * (image @ weights) * weights  # gradients of the terms of the loss, [48, 3]
        gradient = by_dimension.sum(axis=1)
        np.testing.assert_allclose(part, by_dimension.T @ gradient / np.linalg.norm(gradient), rtol=1e-9)
