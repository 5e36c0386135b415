import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from brittle_jax.evaluate import selection, statistics
from brittle_jax.evaluate.selection import Trial
from brittle_jax.published import published_row

RNG = np.random.default_rng(0)


def trial(shift, size=60):
    normal = RNG.normal(size=size)
    return Trial(normal, {"scar": normal + shift, "blur": RNG.normal(size=size) + shift})


def test_auroc_is_that_of_sklearn_ties_included():
    normal, anomalous = RNG.integers(0, 5, 40), RNG.integers(1, 6, 40)
    expected = roc_auc_score(np.repeat([0, 1], 40), np.concatenate([normal, anomalous]))
    assert Trial(normal, {"scar": anomalous}).auroc()["scar"] == pytest.approx(expected, abs=1e-12)


def test_the_best_comes_first_and_equals_are_too_close_to_call():
    good = trial(2.0)
    standings = selection.rank_by_synthetic({"bad": trial(0.1), "good": good, "twin": good})
    assert [each.name for each in standings] == ["good", "twin", "bad"]
    assert [each.is_too_close for each in standings] == [True, True, False]
    assert standings[0].behind == 0
    assert standings[2].behind_interval[0] > 0
    for each in standings:
        assert each.interval[0] < each.auroc < each.interval[1]


def test_the_interval_is_that_of_resampled_pictures():
    one = trial(0.7, size=50)
    (standing,) = selection.rank_by_synthetic({"one": one}, seed=3)
    rng = np.random.default_rng(11)
    areas = []
    for _ in range(1000):
        chosen = rng.integers(0, 50, 50)
        areas.append(
            np.mean(
                [
                    roc_auc_score(np.repeat([0, 1], 50), np.concatenate([one.normal[chosen], scores[chosen]]))
                    for scores in one.anomalous.values()
                ]
            )
        )
    np.testing.assert_allclose(standing.interval, np.percentile(areas, [2.5, 97.5]), atol=0.015)


def test_detectors_tried_on_different_pictures_are_refused():
    with pytest.raises(ValueError, match="same ones for all"):
        selection.rank_by_synthetic({"one": trial(1.0, 20), "other": trial(1.0, 30)})


# The paper's own numbers (Tables 6 to 11): by setting, the rows' prefix, the configuration, and the teachers that are
# trained on the setting's own normal images.
SETTINGS = {
    "cat": ("cats_vs_dogs", "cat", ("cvd_rotnet", "cvd_autoencoder", "cvd_denoising")),
    "dog": ("cats_vs_dogs", "dog", ("cvd_rotnet", "cvd_autoencoder", "cvd_denoising")),
    "unimodal": ("cifar10", "unimodal", ("cifar_rotnet", "cifar_autoencoder", "cifar_denoising", "cifar_simclr")),
    "multimodal": ("cifar10", "multimodal", ("cifar_rotnet", "cifar_autoencoder", "cifar_denoising", "cifar_simclr")),
    "Plant": ("plant", "healthy", ("rotnet",)),
    "X-ray": ("xray", "soc", ("rotnet",)),
}
OTHER_TEACHERS = {
    "cats_vs_dogs": "random cifar_autoencoder cifar_classification cifar_denoising cifar_rotnet "
    "stl_autoencoder stl_classification stl_denoising stl_rotnet",
    "cifar10": "random fmnist_autoencoder fmnist_classification fmnist_denoising fmnist_rotnet "
    "stl_autoencoder stl_classification stl_denoising stl_rotnet",
    "plant": "random imagenet plantvillage_classification",
    "xray": "random imagenet",
}


def published(setting, teachers):
    prefix, configuration, _ = SETTINGS[setting]
    groups = {name: published_row(f"{prefix}_{name}")["groups"][configuration] for name in teachers}
    return (
        {name: group["brittleness"] for name, group in groups.items()},
        {name: 100 * group["auroc"]["kd"] for name, group in groups.items()},
    )


def regret(brittleness, auroc):
    columns = {"brittleness": np.array(list(brittleness.values())), "auroc": np.array(list(auroc.values()))}
    return statistics.regrets(columns, "auroc", ["brittleness"])["brittleness"].of_all


@pytest.mark.parametrize("setting", SETTINGS)
def test_among_all_published_teachers_but_the_supervised_one_the_most_brittle_costs_next_to_nothing(setting):
    prefix, _, own = SETTINGS[setting]
    assert regret(*published(setting, [*own, *OTHER_TEACHERS[prefix].split()])) <= 0.06 + 1e-9


@pytest.mark.parametrize("setting", [name for name, (_, _, own) in SETTINGS.items() if len(own) > 1])
def test_among_published_teachers_of_ones_own_images_the_most_brittle_costs_little(setting):
    assert regret(*published(setting, SETTINGS[setting][2])) <= 1.28 + 1e-9


def test_with_random_as_a_candidate_the_rule_fails():
    costs = {setting: regret(*published(setting, ["random", *own])) for setting, (_, _, own) in SETTINGS.items()}
    expected = {"cat": 2.21, "dog": 0, "unimodal": 25.26, "multimodal": 10.37, "Plant": 5.59, "X-ray": 0}
    assert costs == pytest.approx(expected, abs=0.005)
