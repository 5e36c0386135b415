"""Heat maps: each place's share of a score, exactly; gradients; maps of patches put together; the scale of a run."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.apply import heat_maps
from brittle_jax.apply.detector import Detector
from brittle_jax.apply.loaded import LoadedDetector
from brittle_jax.apply.preprocessing import Preprocessing
from brittle_jax.data.images import Images
from brittle_jax.errors import DamagedError, UserError
from brittle_jax.evaluate.detectors import fit_gaussian
from brittle_jax.evaluate.moments import empty_moments, update_moments
from brittle_jax.loop import Loop
from brittle_jax.models.network import ARCHITECTURES, Architecture, Network, NetworkSettings, init_variables
from brittle_jax.models.trunk import Trunk
from brittle_jax.results import DETECTORS

SIDE, RUN = 16, "normal"


class TwoStages(Trunk):
    """Two convolutions, to 8×8 and 4×4 places; then their average, or maximum."""

    takes_maximum: bool = False
    batch_norm_momentum: float = 0.9
    level_names = ("fine", "coarse")

    def stages(self, x, train):
        x = nn.relu(nn.Conv(5, (3, 3), 2, name="fine")(x))
        yield x
        yield nn.Conv(6, (3, 3), 2, name="coarse")(x)

    def pool(self, x, train):
        return self.maximum(x) if self.takes_maximum else self.average(x)


@pytest.fixture
def detector_of(monkeypatch):
    """Makes detectors of networks as they are drawn; their Gaussian is that of grey images with a little noise."""

    def make(output_features=0, levels="", **fields):
        plain = {"classifier_bias": True, "classifier_scale": 1.0, "mean": (0.5,) * 3, "std": (0.2,) * 3}
        monkeypatch.setitem(ARCHITECTURES, "two_stages", Architecture(TwoStages(**fields), **plain))
        return _detector(NetworkSettings("two_stages", output_features, levels=levels))

    return make


def _detector(settings):
    shape = (SIDE, SIDE, 3)
    student, teacher = (Network(settings.module, init_variables(settings.module, seed, shape)) for seed in range(2))
    outputs = teacher(quiet(40))
    gaussian = fit_gaussian(update_moments(empty_moments(outputs.shape[1], full=True), outputs))
    return Detector(student, teacher, gaussian, settings, Preprocessing(SIDE))


def noise(count, seed=0):
    return jax.random.uniform(jax.random.key(seed), (count, SIDE, SIDE, 3))


def quiet(count, seed=0):
    return 0.5 + 0.1 * noise(count, seed)


def test_a_place_has_the_product_of_its_error_and_their_average(detector_of):
    """As defined, and computed without gradients, for all scores of two levels and a linear head."""
    detector, images = detector_of(3, "fine,coarse"), noise(2, seed=7)
    maps = heat_maps.all_shares(detector, images)
    errors = _errors_of_places(detector, images)
    for name in DETECTORS:
        average = errors[name].mean(axis=(1, 2), keepdims=True)
        expected = (errors[name] * average).sum(axis=-1) / 64
        np.testing.assert_allclose(maps[name], expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def _errors_of_places(detector, images):
    """Returns the error of each place [N, 8, 8, D] in the coordinates of each score, in float64."""
    outputs = {}
    for name in ("student", "teacher"):
        network = getattr(detector, name)
        fine, coarse = (np.asarray(each.activations, np.float64) for each in network.places(images))
        coarse = coarse.repeat(2, axis=1).repeat(2, axis=2)
        kernel = np.asarray(network.variables["params"]["head"]["linear"]["kernel"], np.float64)
        outputs[name] = np.concatenate([fine, coarse], axis=-1) @ kernel
    deviation = outputs["teacher"] - np.asarray(detector.gaussian.mean, np.float64)
    return {
        "kd": outputs["student"] - outputs["teacher"],
        "mse": deviation / np.sqrt(deviation.shape[-1]),
        "mahalanobis_diag": deviation / np.sqrt(np.asarray(detector.gaussian.variance)),
        "mahalanobis_full": deviation @ np.asarray(detector.gaussian.whitening),
    }


@pytest.mark.parametrize(
    ("settings", "grid"),
    [
        ({"levels": "fine,coarse"}, 8),
        ({"levels": "fine:extremes,coarse,coarse:extremes"}, 8),
        ({"levels": "coarse:extremes", "output_features": 4}, 4),
        ({}, 4),
        ({"takes_maximum": True}, 4),
        ({"takes_maximum": True, "output_features": 4}, 4),
    ],
)
def test_a_map_adds_up_to_the_score(detector_of, settings, grid):
    detector, images = detector_of(**settings), noise(3, seed=1)
    scores = detector(images)
    for name in DETECTORS:
        maps = heat_maps.explain(detector, images, name)
        assert maps.shape == (3, grid, grid)
        np.testing.assert_allclose(maps.sum(axis=(1, 2)), scores[name], rtol=1e-5)


def test_a_maximum_counts_for_its_place_alone(detector_of):
    detector, images = detector_of(takes_maximum=True), noise(4, seed=2)
    (places,) = detector.teacher.places(images)
    is_largest = np.asarray(places.weights) != 0
    assert (is_largest.sum(axis=(1, 2)) == 1).all()
    np.testing.assert_allclose(
        (places.activations * places.weights).mean(axis=(1, 2)), detector.teacher(images), rtol=1e-6
    )
    for shares, has_maximum in zip(heat_maps.explain(detector, images, "mse"), is_largest.any(axis=-1), strict=True):
        np.testing.assert_allclose(shares[~has_maximum], 0, atol=1e-6 * float(np.abs(shares).max()))


def test_extremes_have_what_they_deviate_by_at_their_places(detector_of):
    """As defined, for mse, without gradients: squared deviations of 2 x 6 extremes, and products of 5 averages."""
    detector, images = detector_of(levels="fine,coarse:extremes"), noise(3, seed=5)
    assert detector.gaussian.mean.shape == (5 + 6 + 6,)
    fine, largest, smallest = (np.asarray(each.activations, np.float64) for each in detector.teacher.places(images))
    mean = np.split(np.asarray(detector.gaussian.mean, np.float64), [5, 11])
    outputs = [fine.mean(axis=(1, 2)), largest.max(axis=(1, 2)), smallest.min(axis=(1, 2))]
    np.testing.assert_allclose(detector.teacher(images), np.concatenate(outputs, axis=-1), rtol=1e-5)
    deviations = [each - usual for each, usual in zip(outputs, mean, strict=True)]
    expected = ((fine - mean[0]) * deviations[0][:, None, None]).sum(axis=-1) / 64
    for number, activations in ((1, largest), (2, smallest)):
        at = activations == outputs[number][:, None, None]
        assert (at.sum(axis=(1, 2)) == 1).all()
        coarse = (at * np.square(deviations[number])[:, None, None]).sum(axis=-1)
        expected += coarse.repeat(2, axis=1).repeat(2, axis=2) / 4
    maps = heat_maps.explain(detector, images, "mse")
    np.testing.assert_allclose(maps, expected / 17, rtol=1e-3, atol=1e-5 * expected.max() / 17)


@pytest.mark.parametrize("targets", ["raw", "standardised"])
def test_extremes_of_a_twin_have_what_they_deviate_by_at_their_places(detector_of, targets):
    """As defined, for kd: each network's deviations, in the student's coordinates, times the error."""
    detector, images = detector_of(levels="coarse:extremes"), noise(3, seed=6)
    detector = detector.replace(targets=targets)
    usual = np.split(np.asarray(detector.gaussian.mean, np.float64), 2)
    scale = np.split(1 / np.sqrt(detector.gaussian.variance) if targets == "standardised" else np.ones(12), 2)
    expected = np.zeros((3, 4, 4))
    pooled = zip(detector.student.places(images), detector.teacher.places(images), strict=True)
    for number, (student, teacher) in enumerate(pooled):
        ends = (np.max, np.min)[number]
        places, deviations = [], []
        for activations in (student.activations, teacher.activations):
            activations = np.asarray(activations, np.float64)
            extremes = ends(activations, axis=(1, 2), keepdims=True)
            places.append(activations == extremes)
            deviations.append(extremes - usual[number])
        deviations[1] *= scale[number]
        if targets == "standardised":
            deviations[0] += usual[number]  # normal outputs have a mean of 0 there
        error = deviations[0] - deviations[1]
        expected += (error * (deviations[0] * places[0] - deviations[1] * places[1])).sum(axis=-1)
    maps = heat_maps.explain(detector, images, "kd")
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), detector(images)["kd"], rtol=1e-4)


def test_an_extreme_is_spread_around_its_place(detector_of):
    """By a Gaussian of 1/48 of the side, here one place of 48, of which nothing is lost at the edges."""
    detector, images = detector_of(levels="fine:extremes"), jax.random.uniform(jax.random.key(0), (2, 96, 96, 3))
    largest, smallest = (np.asarray(each.activations, np.float64) for each in detector.teacher.places(images))
    usual = np.split(np.asarray(detector.gaussian.mean, np.float64), 2)
    places = np.arange(48)
    expected = np.zeros((2, 48, 48))
    for activations, ends, mean in ((largest, np.max, usual[0]), (smallest, np.min, usual[1])):
        for image, channel in np.ndindex(2, 5):
            of_channel = activations[image, :, :, channel]
            share = np.square(ends(of_channel) - mean[channel]) / 10
            row, column = np.argwhere(of_channel == ends(of_channel))[0]
            kernels = [np.exp(-np.square(places - place) / 2) for place in (row, column)]
            expected[image] += share * np.outer(*(each / each.sum() for each in kernels))
    maps = heat_maps.explain(detector, images, "mse")
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4 * expected.max())
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), detector(images)["mse"], rtol=1e-5)


def test_a_square_that_does_not_belong_there_stands_out(detector_of):
    image = np.array(quiet(1, seed=3))
    image[:, 10:14, 2:6] = 1
    shares = heat_maps.explain(detector_of(levels="fine,coarse"), image, "mahalanobis_diag")[0]
    row, column = np.unravel_index(np.argmax(shares), shares.shape)
    assert 4 <= row < 8 and 0 <= column < 4  # that reach of a coarse place


def test_a_loaded_detector_explains_its_recommended_score_of_pictures_of_any_size(detector_of, one_device, tmp_path):
    detector = detector_of(levels="fine,coarse")
    loaded = LoadedDetector(detector, tmp_path, RUN, "mse", None, one_device, 4, 10**6)
    pictures = [np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8) for size in ((16, 16), (30, 20))]
    maps = loaded.explain(pictures)
    assert maps.shape == (2, 8, 8)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), loaded.score(pictures)["mse"], rtol=1e-5)
    assert loaded.explain([]).shape == (0, 8, 8)
    assert loaded.explain([], kind="gradient").shape == (0, 16, 16)


def test_networks_that_do_not_pool_by_trunk_have_gradients(monkeypatch):
    detector, images = _detector(NetworkSettings("mini", 0)), noise(2)
    assert heat_maps.kind_of(detector) == "gradient"
    maps = np.asarray(heat_maps.explain(detector, images, "kd"))
    gradient = jax.grad(lambda images: detector(images)["kd"].sum())(images)
    sizes = np.abs(np.asarray(gradient)).sum(axis=-1)
    assert maps.shape == (2, SIDE, SIDE) and (maps > 0).all()
    # Smoothing takes weighted means, hardly wider than a pixel here.
    assert (maps.max(axis=(1, 2)) <= sizes.max(axis=(1, 2))).all() and (maps.min() >= sizes.min()).all()
    assert np.corrcoef(maps.ravel(), sizes.ravel())[0, 1] > 0.8
    with pytest.raises(UserError, match="the features of mini are not averages over places: use kind='gradient'"):
        heat_maps.explain(detector, images, "kd", "shares")


def test_an_unknown_score_or_kind_is_refused(detector_of):
    with pytest.raises(UserError, match="'knn' is not one of kd, "):
        heat_maps.explain(detector_of(), noise(1), "knn")
    with pytest.raises(UserError, match="'share' is not one of shares, gradient"):
        heat_maps.explain(detector_of(), noise(1), "kd", "share")


def test_nothing_is_noted_down_unless_it_is_asked_for(detector_of):
    network = detector_of().teacher
    assert set(network.variables) == {"params"}
    images = jnp.zeros((1, SIDE, SIDE, 3))
    assert not isinstance(network.module.apply(network.variables, images), tuple)


def test_maps_of_patches_are_averaged_where_these_overlap():
    boxes = np.array([[0, 0, 4, 4], [0, 2, 4, 6], [-2, 4, 2, 8]])
    assembled = heat_maps.assemble(np.array([1.0, 3.0, 8.0])[:, None, None], boxes, (4, 9))
    expected = [[1, 1, 2, 2, 5.5, 5.5, 8, 8, 0]] * 2 + [[1, 1, 2, 2, 3, 3, 0, 0, 0]] * 2
    np.testing.assert_array_equal(assembled, expected)
    halves = heat_maps.assemble(np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[0, 0, 4, 4]]), (4, 4))
    np.testing.assert_array_equal(halves, np.kron([[1, 2], [3, 4]], np.ones((2, 2))))


def test_the_scale_is_what_few_places_of_normal_images_exceed(detector_of, one_device, tmp_path):
    detector = detector_of(levels="fine,coarse")
    pixels = np.asarray(noise(7, seed=4) * 255, np.uint8)
    images = Images(7, (SIDE, SIDE, 3), lambda index: pixels[index])
    scales = heat_maps.measure_scales(detector, images, np.arange(1, 7), Loop(one_device, 4))
    for name in DETECTORS:
        maps = heat_maps.explain(detector, jnp.asarray(pixels[1:], jnp.float32) / 255, name)
        assert scales[name] == pytest.approx(np.percentile(maps, 99), rel=1e-5)
    heat_maps.write_scales(tmp_path, RUN, scales)
    assert heat_maps.read_scales(tmp_path, RUN) == scales
    (tmp_path / "heat_maps" / f"{RUN}.json").write_text('{"scales": {"kd": 1}}', encoding="utf-8")
    with pytest.raises(DamagedError, match="no scale"):
        heat_maps.read_scales(tmp_path, RUN)


def test_a_run_without_calibration_images_has_no_scale(tmp_path):
    with pytest.raises(
        UserError, match=r"has no scale for heat maps: measure it .* --recalibrate=DIR, or train with data\.calib"
    ):
        heat_maps.read_scales(tmp_path, RUN)


@pytest.mark.parametrize("linked", ["heat_maps", f"heat_maps/{RUN}.json"])
def test_a_scale_is_not_read_or_written_through_a_link(linked, tmp_path):
    scales = dict.fromkeys(DETECTORS, 1.0)
    heat_maps.write_scales(tmp_path / "run", RUN, scales)
    (tmp_path / "run" / linked).rename(tmp_path / "elsewhere")
    (tmp_path / "run" / linked).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedError, match="a link"):
        heat_maps.read_scales(tmp_path / "run", RUN)
    with pytest.raises(DamagedError, match="a link"):
        heat_maps.write_scales(tmp_path / "run", RUN, scales)
