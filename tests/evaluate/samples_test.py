import numpy as np
import pytest

from brittle_jax.evaluate import samples
from tests.conftest import make_dataset

PARCELS = make_dataset(
    np.zeros((4, 1, 1, 3), np.uint8),
    labels=np.array([0, 0, 1, 1]),
    sample_of_image=np.array([0, 0, 1, 1, 2, 2, 2, 3, 3]),
    views=("top", "side"),
    view_of_image=np.array([0, 1, 0, 1, 0, 0, 1, 0, 1]),
)
SCORES = {"kd": np.array([-9.0, -8.0, 1.0, 3.0, 0.5, 2.0, 4.0, 2.5, 0.0])}
EVERYTHING = np.arange(9)


def test_sample_scores_are_the_largest_over_patches_and_views():
    scores = samples.sample_scores(PARCELS, EVERYTHING, SCORES, np.array([2, 0, 1, 3]))
    np.testing.assert_array_equal(scores["kd"], [4.0, -8.0, 3.0, 2.5])


def test_sample_scores_do_not_mix_samples_when_some_are_left_out():
    chosen = np.array([2, 3, 7, 8])
    scores = samples.sample_scores(PARCELS, chosen, {"kd": SCORES["kd"][chosen]}, np.array([1, 3]))
    np.testing.assert_array_equal(scores["kd"], [3.0, 2.5])


def test_the_deciding_image_is_the_one_with_the_samples_score():
    chosen = np.array([8, 2, 3, 7, 6, 4])  # in any order, and not all
    values = SCORES["kd"][chosen]
    deciding = samples.deciding_images(PARCELS, chosen, values, np.array([1, 3, 2]))
    np.testing.assert_array_equal(deciding, [3, 7, 6])
    scores = samples.sample_scores(PARCELS, chosen, {"kd": values}, np.array([1, 3, 2]))
    np.testing.assert_array_equal(SCORES["kd"][deciding], scores["kd"])


def test_each_view_is_judged_by_its_own_patches():
    labels = np.array([0, 0, 1, 1])
    by_view = samples.auroc_by_view(PARCELS, EVERYTHING, SCORES, np.arange(4), labels)
    # top: -9, 1 against 2, 2.5; side: -8, 3 against 4, 0.
    assert by_view == {"top": {"kd": 1.0}, "side": {"kd": 0.75}}


def test_separations_hold_every_metric_of_every_detector():
    labels = np.array([0, 0, 1, 1])
    scores = samples.sample_scores(PARCELS, EVERYTHING, SCORES, np.arange(4))
    separations = samples.separations(labels, scores, bootstrap_samples=20, seed=0)
    assert separations.keys() == {"auroc", "average_precision", "fpr_at_95_tpr", "auroc_interval"}
    assert separations["auroc"]["kd"] == pytest.approx(0.75)
    low, high = separations["auroc_interval"]["kd"]
    assert 0 <= low <= 0.75 <= high <= 1


def test_each_kind_of_anomaly_is_told_from_all_normal_samples():
    labels = np.array([0, 0, 1, 1, 1, 0, 1])
    kinds = ["cat", "dog", "scab", "rust", "scab", "cat", "rust"]
    scores = {"kd": np.array([1.0, 2.0, 9.0, 1.5, 8.0, 3.0, 0.5]), "mse": np.array([1.0, 2.0, 1.0, 4.0, 2.0, 3.0, 2.5])}
    by_kind = samples.separations_by_kind(labels, kinds, scores, bootstrap_samples=20, seed=0)
    assert list(by_kind) == ["rust", "scab"]
    assert [each["num_test"] for each in by_kind.values()] == [2, 2]
    assert by_kind["scab"]["auroc"] == pytest.approx({"kd": 1.0, "mse": 2 / 6})
    assert by_kind["rust"]["auroc"] == pytest.approx({"kd": 1 / 6, "mse": 5 / 6})
    alone = np.array([0, 1, 2, 4, 5])
    of_scab = {name: values[alone] for name, values in scores.items()}
    expected = samples.separations(labels[alone], of_scab, bootstrap_samples=20, seed=0)
    assert by_kind["scab"] == {"num_test": 2, **expected}


@pytest.mark.parametrize(("labels", "kinds"), [([0, 1, 1], ["a", "b", "b"]), ([0, 0, 0], ["a", "b", "c"])])
def test_fewer_than_two_kinds_are_not_told_apart(labels, kinds):
    scores = {"kd": np.arange(3.0)}
    assert samples.separations_by_kind(np.array(labels), kinds, scores, bootstrap_samples=20, seed=0) == {}
