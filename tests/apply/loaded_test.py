"""The detector of a run, loaded to score pictures of any kind and size."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import brittle_jax
from brittle_jax import files, results
from brittle_jax.apply.loaded import as_picture
from brittle_jax.errors import DamagedError, DegenerateDataError, UserError
from brittle_jax.evaluate import brittleness, conformal
from brittle_jax.evaluate import calibration as calibration_lib
from brittle_jax.evaluate.coordinates import Target
from brittle_jax.results import DETECTORS
from tests.small_runs import dataset_of, read

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((24, 24), (32, 32), (50, 20))]


@pytest.fixture(scope="module")
def loaded(small_own_run):
    return brittle_jax.load_detector(small_own_run[0])


def test_pictures_that_the_run_scored_get_its_scores(loaded, small_own_run):
    run, pictures = small_own_run
    for kind in ("scores", "calibration"):
        samples = results.read_scores(run / kind / "normal.csv")
        found = loaded.score([np.asarray(Image.open(pictures / each)) for each in samples.ids])
        assert found.keys() == set(DETECTORS) and found["kd"].dtype == np.float32
        for name in DETECTORS:
            assert found[name].tolist() == samples.scores[name].tolist()


def test_any_number_and_size_of_pictures_takes_one_program(loaded):
    together = loaded.score(PICTURES * 3)
    compiled = []

    def listen(event, duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(details)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for number in (1, 2, 3):
            found = loaded.score(PICTURES[:number])
            for name in DETECTORS:
                np.testing.assert_array_equal(found[name], together[name][:number])
        assert not compiled
        jax.jit(lambda x: x * 3.5)(1.25)
        assert compiled  # it would have been noticed
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert {name: values.shape for name, values in loaded.score([]).items()} == dict.fromkeys(DETECTORS, (0,))


def test_devices_share_the_work(loaded, small_own_run, one_device):
    alone = brittle_jax.load_detector(small_own_run[0], devices=one_device)
    assert loaded.devices.size == 4 and alone.batch_size_used == loaded.batch_size_used == 4
    assert dataclasses.replace(loaded, batch_size=5).batch_size_used == 8
    for name, values in alone.score(PICTURES).items():
        np.testing.assert_allclose(values, loaded.score(PICTURES)[name], rtol=1e-5)


def test_real_numbers_grey_and_transparent_pictures_are_read_as_files_are(loaded):
    array = np.stack([PICTURES[0], PICTURES[0][::-1]])
    as_float = (array / 255).astype(np.float32)
    np.testing.assert_array_equal(loaded.score(array)["kd"], loaded.score(as_float)["kd"])
    grey, alpha = PICTURES[0][..., :1], PICTURES[0][..., 1:2]
    np.testing.assert_array_equal(as_picture(grey), np.repeat(grey, 3, axis=-1))
    rgba = np.concatenate([PICTURES[0], alpha], axis=-1)
    over_white = PICTURES[0] * (alpha / 255) + 255 * (1 - alpha / 255)
    np.testing.assert_allclose(as_picture(rgba).astype(float), over_white, atol=1.01)
    rgba[..., 3] = 0  # an alpha that nobody filled
    np.testing.assert_array_equal(as_picture(rgba), PICTURES[0])


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (PICTURES[0], r"the shape \(24, 24, 3\) is that of a single picture: add a batch axis: images\[None\]$"),
        (PICTURES[0][..., 0], r"a picture has the shape \(24,\): give \[N, H, W, C\] or a list"),
        (np.zeros((2, 4, 4, 2), np.uint8), "has the shape"),
        (np.zeros((2, 0, 4, 3), np.uint8), "has the shape"),
        (np.zeros((2, 4, 4, 3), np.uint16), "is of uint16: give uint8, or float"),
        (np.full((2, 4, 4, 3), 1.5), r"values outside \[0, 1\]"),
        (np.full((2, 4, 4, 3), np.nan), r"values outside \[0, 1\]"),
    ],
)
def test_what_is_no_picture_is_refused(loaded, pictures, message):
    with pytest.raises(UserError, match=message):
        loaded.score(pictures)


def test_p_values_and_thresholds_are_of_the_calibration_scores(loaded, small_own_run):
    samples = results.read_scores(small_own_run[0] / "calibration" / "normal.csv")
    scores = loaded.score(PICTURES)
    for name in (None, "mse"):
        of = samples.scores[name or loaded.recommended]
        expected = conformal.p_values(of, scores[name or loaded.recommended])
        np.testing.assert_array_equal(loaded.p_value(scores, name), expected)
        np.testing.assert_array_equal(loaded.p_value(PICTURES, name), expected)
        assert loaded.threshold(0.4, name) == conformal.threshold(of, 0.4)
    with pytest.raises(DegenerateDataError, match="needs 99 calibration images"):
        loaded.threshold(0.01)
    with pytest.raises(UserError, match="'auroc' is not one of kd, mse"):
        loaded.threshold(0.4, "auroc")


def test_gradient_norms_are_those_of_equation_2(loaded, small_own_run):
    run, pictures = small_own_run
    ids = read(run, "splits.json")["configurations"]["normal"]["train"]
    found = loaded.gradient_norm([np.asarray(Image.open(pictures / each)) for each in ids])
    np.testing.assert_allclose(found, np.load(run / "brittleness" / "normal.npz")["gradient_norm"], rtol=1e-4)
    assert loaded.gradient_norm([]).shape == (0,)


def test_a_student_of_other_coordinates_is_compared_in_them(loaded):
    other = dataclasses.replace(loaded, detector=loaded.detector.replace(targets="standardised"))
    pictures, images = PICTURES[1][None], PICTURES[1][None] / np.float32(255)  # of the size of the images
    found = other.score(pictures)
    np.testing.assert_allclose(found["kd"], other.detector(images)["kd"], rtol=1e-5)
    assert found["kd"] != loaded.score(pictures)["kd"] and found["mse"] == loaded.score(pictures)["mse"]
    target = Target(other.detector.teacher, other.detector.coordinates)
    expected = brittleness.input_gradient_norms(other.detector.student, target, images)
    np.testing.assert_allclose(other.gradient_norm(pictures), expected, rtol=1e-4)


def test_of_a_view_that_is_cut_the_largest_score_counts(xray_run, one_device):
    run, config = xray_run
    loaded, dataset = brittle_jax.load_detector(run, devices=one_device), dataset_of(config)
    samples = results.read_scores(run / "scores" / "soc.csv")
    views = [
        dataset.read_view(int(np.flatnonzero(dataset.samples.ids == each)[0]), view)
        for each in samples.ids[:2]
        for view in range(2)
    ]
    found = loaded.score(views)
    for name in DETECTORS:
        np.testing.assert_allclose(found[name].reshape(2, 2).max(axis=1), samples.scores[name][:2], rtol=1e-5)


def copy_of(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_without_calibration_samples_says_how_to_get_some(small_run):
    loaded = brittle_jax.load_detector(small_run)
    assert loaded.configuration == "unimodal/airplane" and loaded.calibration is None
    for ask in (lambda: loaded.p_value(PICTURES), lambda: loaded.threshold(0.05)):
        with pytest.raises(UserError, match=r"brittle_jax\.score --run=.* --recalibrate=DIR, or train with data\."):
            ask()


def test_a_run_of_several_configurations_wants_one_named(small_run, tmp_path):
    run = copy_of(small_run, tmp_path)
    checkpoints = run / "checkpoints" / "unimodal"
    shutil.copytree(checkpoints / "airplane", checkpoints / "bird")
    with pytest.raises(UserError, match="2 detectors: name one of the configurations unimodal/airplane, unimodal/bird"):
        brittle_jax.load_detector(run)
    shutil.copytree(checkpoints / "airplane", checkpoints / "airplane" / "random")  # of a reference
    shutil.rmtree(checkpoints / "bird")
    assert brittle_jax.load_detector(str(run)).configuration == "unimodal/airplane"
    with pytest.raises(UserError, match="has no detector for 'cat'"):
        brittle_jax.load_detector(run, "cat")


def test_the_recommended_detector_decides_unless_the_run_names_none(small_own_run, tmp_path):
    run = copy_of(small_own_run[0], tmp_path)
    content = read(run, "results.json")
    for recommended, expected in [({"detector": "mse"}, "mse"), ({"detector": "best"}, "kd"), (None, "kd")]:
        content["configurations"][0]["recommended"] = recommended
        files.write_json(run / "results.json", content)
        assert brittle_jax.load_detector(run).recommended == expected


def test_calibration_samples_that_came_later_take_the_place_of_the_runs_own(small_own_run, tmp_path):
    run = copy_of(small_own_run[0], tmp_path)
    own = brittle_jax.load_detector(run).calibration
    manifest = run / "checkpoints" / "normal" / "detector" / files.MANIFEST
    later = calibration_lib.Calibration(
        ["x"],
        {name: np.ones(1, np.float32) for name in DETECTORS},
        np.array(["x"]),
        None,
        files.sha256_of_file(manifest),
    )
    calibration_lib.write(run / "recalibration", "normal", later)
    assert brittle_jax.load_detector(run).calibration.ids == ["x"]
    manifest.write_text(manifest.read_text(encoding="utf-8"), encoding="utf-8")
    other = calibration_lib.Calibration(later.ids, later.scores, later.groups, None, "of another detector")
    calibration_lib.write(run / "recalibration", "normal", other)
    assert brittle_jax.load_detector(run).calibration.ids == own.ids


def test_calibration_scores_that_have_changed_are_refused(small_own_run, tmp_path):
    run = copy_of(small_own_run[0], tmp_path)
    (run / "calibration" / "normal.json").unlink()  # which would notice, too
    table = run / "calibration" / "normal.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("1", "2"), encoding="utf-8")
    with pytest.raises(DamagedError, match=r"normal\.csv is damaged \(changed\)"):
        brittle_jax.load_detector(run)
