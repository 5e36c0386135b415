"""The file of norms and errors, image by image, from which results.json's brittleness can be computed again."""

import csv

import numpy as np
import pytest

from brittle_jax.apply.brittleness import MeasuredBrittleness
from brittle_jax.evaluate.brittleness import terms_of
from brittle_jax.run import experiment, gradient_rows
from tests.small_runs import dataset_of, read, without_times

NAME = "unimodal/airplane"


def rows_of(run):
    with np.load(run / "brittleness" / f"{NAME}.npz") as arrays:
        return dict(arrays)


def test_the_rows_give_both_terms_of_the_results(small_run, small_config):
    rows = rows_of(small_run)
    (entry,) = read(small_run, "results.json")["configurations"]
    num_train, num_features = entry["num_train"], entry["covariance"]["num_features"]
    assert rows["gradient_norm"].shape == (num_train,) and rows["gradient_norm"].dtype == np.float32
    assert rows["error"].shape == (num_train, num_features) and rows["error"].dtype == np.float32
    assert rows["gradient_norm"].mean(dtype=np.float64) == pytest.approx(entry["gradient_norm"], rel=1e-6)
    assert rows["error"].var(axis=0, ddof=1, dtype=np.float64).sum() == pytest.approx(entry["error_trace"], rel=1e-5)
    assert rows["error_variance"].sum() == pytest.approx(entry["error_trace"], rel=1e-9)
    dataset = dataset_of(small_config)  # of one image a sample
    assert (
        dataset.samples.ids[rows["image"]].tolist() == read(small_run, "splits.json")["configurations"][NAME]["train"]
    )
    np.testing.assert_array_equal(rows["error_image"], rows["image"])


def test_the_errors_of_test_images_give_their_kd_scores(small_run, small_config):
    rows = rows_of(small_run)
    with open(small_run / "scores" / f"{NAME}.csv", encoding="utf-8", newline="") as file:
        scored = {line["id"]: (int(line["label"]), float(line["kd"])) for line in csv.DictReader(file)}
    ids = dataset_of(small_config).samples.ids[rows["test_image"]].tolist()  # of one image a sample
    assert sorted(ids) == sorted(scored) and {label for label, _ in scored.values()} == {0, 1}
    labels, distances = zip(*(scored[each] for each in ids), strict=True)
    assert rows["test_label"].tolist() == list(labels) and rows["test_error"].dtype == np.float32
    np.testing.assert_allclose(np.square(rows["test_error"]).sum(axis=1), distances, rtol=1e-5)


@pytest.mark.usefixtures("empty_page")
def test_many_errors_are_kept_as_a_sample_and_the_results_are_the_same(small_run, small_config, tmp_path):
    config = small_config.copy_and_resolve_references()
    every = rows_of(small_run)
    config.evaluate.keep_errors_mib = 5 * every["error"][0].nbytes / 2**20
    experiment.run(config, tmp_path / "run")
    assert without_times(read(tmp_path / "run", "results.json")) == without_times(read(small_run, "results.json"))
    rows = rows_of(tmp_path / "run")
    for name in ("image", "gradient_norm", "error_mean", "error_variance"):
        np.testing.assert_array_equal(rows[name], every[name])
    assert len(rows["error"]) == len(set(rows["error_image"].tolist())) == 5
    kept = np.isin(every["test_image"], rows["test_image"])
    assert kept.sum() == 5 < len(kept)
    for name in ("test_image", "test_label", "test_error"):
        np.testing.assert_array_equal(rows[name], every[name][kept])
    kept = np.isin(every["image"], rows["error_image"])
    np.testing.assert_array_equal(rows["error_image"], every["image"][kept])
    np.testing.assert_array_equal(rows["error"], every["error"][kept])


@pytest.fixture
def measured():
    rng = np.random.default_rng(0)
    norms, errors = rng.random(12, np.float32), rng.random((12, 3), np.float32)
    return MeasuredBrittleness(norms, errors, terms_of(norms, errors))


def test_the_sample_is_drawn_by_its_seed(measured, tmp_path):
    drawn = []
    for number, seed in enumerate((0, 0, 1)):
        path = tmp_path / f"{number}.npz"
        gradient_rows.write(path, measured, 10 * np.arange(12), most_bytes=6 * 12 + 11, seed=seed)
        with np.load(path) as arrays:
            drawn.append(arrays["error_image"].tolist())
            np.testing.assert_array_equal(arrays["error"], measured.errors[arrays["error_image"] // 10])
            np.testing.assert_allclose(arrays["error_mean"], measured.errors.mean(axis=0), rtol=1e-6)
            np.testing.assert_allclose(arrays["error_variance"], measured.errors.var(axis=0, ddof=1), rtol=1e-5)
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(each) for each in drawn] == [6, 6, 6]


def test_the_sample_of_test_errors_has_both_labels_in_proportion():
    labels = np.array([0, 0, 0, 1] * 20)
    errors = np.arange(3 * 80, dtype=np.float32).reshape(80, 3)
    drawn = []
    for seed in (0, 0, 1):
        kept = gradient_rows.KeptTestErrors(10 * np.arange(80), labels, 3, most_bytes=4 * 3 * 12 + 11, seed=seed)
        for start in range(0, 80, 32):
            kept.take(slice(start, min(start + 32, 80)), errors[start : start + 32])
        assert len(kept.images) == 12 and kept.labels.sum() == 3
        np.testing.assert_array_equal(kept.labels, labels[kept.images // 10])
        np.testing.assert_array_equal(kept.errors, errors[kept.images // 10])
        drawn.append(kept.images.tolist())
    assert drawn[0] == drawn[1] != drawn[2] and drawn[0] == sorted(drawn[0])


def test_no_errors_are_kept_if_there_is_no_room(measured, tmp_path):
    gradient_rows.write(tmp_path / "none.npz", measured, np.arange(12), most_bytes=0, seed=0)
    with np.load(tmp_path / "none.npz") as arrays:
        assert arrays["error"].shape == (0, 3) and len(arrays["gradient_norm"]) == 12


def test_parts_by_dimension_add_up_and_change_no_result(small_run, small_config, tmp_path):
    config = small_config.copy_and_resolve_references()
    config.evaluate.dimension_images = 16  # all of them
    experiment.run(config, tmp_path / "run")
    assert without_times(read(tmp_path / "run", "results.json")) == without_times(read(small_run, "results.json"))
    rows = rows_of(tmp_path / "run")
    parts = rows.pop("gradient_norm_by_dimension")
    assert parts.shape == rows["error_variance"].shape and "gradient_norm_by_dimension" not in rows_of(small_run)
    assert parts.sum() == pytest.approx(rows["gradient_norm"].mean(dtype=np.float64), rel=1e-4)
