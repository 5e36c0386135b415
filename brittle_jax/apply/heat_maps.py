"""Where in an image an anomaly score comes from: maps, their scale, and pictures of them.

Every score is the squared length of an error e, which is linear in features that the networks average over the places
of an image. So e is the average of errors e_p, one for each place, and the score ‖e‖² is the average of ⟨e_p, e⟩: each
place has its exact share. A share may be negative, where a place makes up for others. Where a network takes the maximum
or the minimum over places, all of it counts for the place where that is, smoothed a little. Deep features see much of
the image: a map tells places apart no better than their receptive fields.

A network of your own may pool in another way. Its maps are the sizes of the score's input gradients, smoothed, which do
not add up to the score.
"""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brittle_jax import files
from brittle_jax.apply import untrusted
from brittle_jax.apply.detector import Detector
from brittle_jax.data.images import Images
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.errors import DamagedError, UserError
from brittle_jax.evaluate import detectors
from brittle_jax.evaluate.coordinates import in_coordinates
from brittle_jax.inference import pass_over
from brittle_jax.loop import Loop
from brittle_jax.models.trunk import Pooled
from brittle_jax.precision import in_float32
from brittle_jax.results import DETECTORS

KINDS = ("shares", "gradient")

_PERCENTILE = 99.0
_MOST_BYTES = 2**20  # of a file of scales
_SMOOTHING = 1 / 48  # of gradients and extremes: the deviation of the Gaussian, as a part of the image's side


def explain(
    detector: Detector, images: jax.Array, name: str = "mahalanobis_full", kind: str | None = None
) -> jax.Array:
    """Returns maps [N, h, w] of where the scores of images come from.

    Args:
        images: [N, H, W, 3] float32 in [0, 1].
        name: of the score.
        kind: "shares": each place's share, adding up to the score, on the finest grid of any level; "gradient": the
            size of the score's gradient with respect to each pixel, summed over colours and smoothed; None: what
            `kind_of` says.

    Raises:
        UserError: if there is no such score or kind, or the network has no shares.
    """
    if name not in DETECTORS:
        raise UserError(f"{name!r} is not one of {', '.join(DETECTORS)}")
    kind = kind or kind_of(detector)
    if kind not in KINDS:
        raise UserError(f"{kind!r} is not one of {', '.join(KINDS)}")
    if kind == "gradient":
        return _gradient_maps(detector, images, name)
    if kind_of(detector) != "shares":
        raise UserError(f"the features of {detector.network.name} are not averages over places: use kind='gradient'")
    return all_shares(detector, images)[name]


def kind_of(detector: Detector) -> str:
    """Returns "shares" where both networks average over places, or take a maximum; else "gradient"."""
    image = jax.ShapeDtypeStruct((1, *detector.preprocessing.image_shape), jnp.float32)
    places = [jax.eval_shape(network.places, image) for network in (detector.student, detector.teacher)]
    return "shares" if all(places) else "gradient"


@jax.jit
@in_float32
def all_shares(detector: Detector, images: jax.Array) -> dict[str, jax.Array]:
    """Returns each place's share of each score, [N, h, w] by name, from one pass of each network."""
    places = detector.student.places(images), detector.teacher.places(images)
    averages = tuple(
        tuple((each.activations * each.weights).mean(axis=(1, 2)) for each in network) for network in places
    )
    grid = tuple(max(each.activations.shape[axis] for network in places for each in network) for axis in (1, 2))

    def scores_of(averages: tuple[tuple[jax.Array, ...], ...]) -> dict[str, jax.Array]:
        outputs = [
            network.outputs(jnp.concatenate(each, axis=-1))
            for network, each in zip((detector.student, detector.teacher), averages, strict=True)
        ]
        return detectors.scores_of_outputs(*outputs, detector.gaussian, detector.coordinates)

    scores, gradients_of = jax.vjp(scores_of, averages)
    maps = {}
    for name in scores:
        ones = {other: jnp.full_like(scores[other], other == name) for other in scores}
        (gradients,) = gradients_of(ones)
        shares = [
            _shares_of(*each, grid)
            for network in zip(gradients, places, _usual_of(detector, averages), strict=True)
            for each in zip(*network, strict=True)
        ]
        varying = sum(shares)
        # What does not depend on the place, such as the normal mean, is spread evenly.
        constant = scores[name] - varying.sum(axis=(1, 2))
        maps[name] = varying + constant[:, None, None] / (grid[0] * grid[1])
    return maps


def _usual_of(
    detector: Detector, averages: tuple[tuple[jax.Array, ...], ...]
) -> tuple[tuple[jax.Array | float, ...], ...]:
    """Returns what each pooled feature is in normal images, where that is known, and 0 elsewhere; as `averages`.

    It is taken off where a feature comes from. Else an extreme that is as usual would stand out at its place.
    """
    mean = detector.gaussian.mean[None]
    outputs = in_coordinates(detector.coordinates, mean), mean  # of a student, which learns them, and of the teacher
    return tuple(
        # Behind a head, the outputs do not tell what the pooled features are.
        (0.0,) * len(pooled) if network.module.head else _split_as(pooled, usual[:, None, None])
        for network, usual, pooled in zip((detector.student, detector.teacher), outputs, averages, strict=True)
    )


def _split_as(parts: Sequence[jax.Array], joined: jax.Array) -> tuple[jax.Array, ...]:
    """Splits joined channels into as many as each of the parts has."""
    ends = np.cumsum([each.shape[-1] for each in parts])[:-1]
    return tuple(jnp.split(joined, ends, axis=-1))


def _shares_of(gradient: jax.Array, pooled: Pooled, usual: jax.Array | float, grid: tuple[int, int]) -> jax.Array:
    """Returns ⟨A w_p (a_p - usual), e⟩ over the number of places, on a grid [N, *grid].

    a_p and w_p [N, h, w, C] are what is pooled; A is linear, and 2 Aᵀ e [N, C] the gradient of ‖e‖².
    """
    shares = jnp.einsum("nhwc,nc->nhw", (pooled.activations - usual) * pooled.weights, gradient) / 2
    rows, columns = (_spread(old, new) for old, new in zip(shares.shape[1:], grid, strict=True))
    if pooled.weights.shape[1:] != (1, 1, 1):  # an extreme, whose receptive field is larger than its place
        rows, columns = (each @ _gaussian_kernel(each.shape[1], 0.0).T for each in (rows, columns))
    return jnp.einsum("nhw,hi,wj->nij", shares, rows, columns) / (grid[0] * grid[1])


def _spread(old: int, new: int) -> np.ndarray:
    """Returns how a line of places becomes a finer one, [old, new], so that its average stays: by what they overlap."""
    edges = np.arange(old + 1) / old, np.arange(new + 1) / new
    low = np.maximum(edges[0][:-1, None], edges[1][None, :-1])
    high = np.minimum(edges[0][1:, None], edges[1][None, 1:])
    return (np.maximum(high - low, 0) * new).astype(np.float32)


@functools.partial(jax.jit, static_argnames="name")
@in_float32
def _gradient_maps(detector: Detector, images: jax.Array, name: str) -> jax.Array:
    gradient = jax.grad(lambda images: detector(images)[name].sum())(images)
    height, width = images.shape[1:3]
    sizes = jnp.abs(gradient).sum(axis=-1)
    return jnp.einsum("nhw,hi,wj->nij", sizes, *(_gaussian_kernel(length, 0.5) for length in (height, width)))


def _gaussian_kernel(length: int, least: float) -> np.ndarray:
    """Returns smoothing by a Gaussian as a matrix [length, length], whose columns add up to 1.

    Args:
        least: the smallest deviation, in places.
    """
    place = np.arange(length)
    deviation = max(length * _SMOOTHING, least)
    kernel = np.exp(-(((place[:, None] - place[None]) / deviation) ** 2) / 2)
    return (kernel / kernel.sum(axis=0)).astype(np.float32)


def measure_scales(detector: Detector, images: Images, indices: np.ndarray, loop: Loop) -> dict[str, float]:
    """Returns the scale of each score's maps: what 99% of the places of normal images do not exceed.

    Args:
        indices: of calibration images, which the detector was not trained on.
    """
    return scales_of({name: maps.ravel() for name, maps in maps_of(detector, images, indices, loop).items()})


def maps_of(detector: Detector, images: Images, indices: np.ndarray, loop: Loop) -> dict[str, np.ndarray]:
    """Returns the maps [M, h, w] of each score for images [M], by name, as `explain` gives them."""
    parts: list[tuple[np.ndarray, ...]] = []

    def take(chosen: slice, maps: tuple[np.ndarray, ...]) -> None:
        parts.append(tuple(np.asarray(each)[: chosen.stop - chosen.start] for each in maps))

    static = (kind_of(detector), DETECTORS)
    pass_over(images, indices, maps_of_batch, detector, loop, "heat maps", take, static=static)
    return dict(zip(DETECTORS, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def scales_of(places: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the scale of each score's maps from the values [M] of all places of normal images."""
    smallest = float(np.finfo(np.float32).tiny)  # where all maps are 0
    return {name: max(float(np.percentile(values, _PERCENTILE)), smallest) for name, values in places.items()}


def maps_of_batch(
    kind: str, names: tuple[str, ...], detector: Detector, batch: dict[str, Any]
) -> tuple[jax.Array, ...]:
    """Returns the maps [N, h, w] of each named score, of a batch with `image` [N, H, W, 3] uint8."""
    images = to_unit_range(batch["image"])
    if kind == "shares":
        maps = all_shares(detector, images)
        return tuple(maps[name] for name in names)
    return tuple(_gradient_maps(detector, images, name) for name in names)


def write_scales(run: pathlib.Path, configuration: str, scales: dict[str, float]) -> None:
    """Writes the scales of a configuration's maps to the folder of its run."""
    files.write_json(_file_of(run, configuration), {"percentile": _PERCENTILE, "scales": scales})


def has_scales(run: pathlib.Path, configuration: str) -> bool:
    """Returns whether `write_scales` wrote something."""
    return _file_of(run, configuration).exists()


def read_scales(run: pathlib.Path, configuration: str) -> dict[str, float]:
    """Reads what `write_scales` wrote: the scale of each score's maps, by name.

    Raises:
        UserError: if there are none, or the file is damaged, a link, or too large for a scale.
    """
    file = _file_of(run, configuration)
    if not file.exists():
        raise UserError(
            f"{run} has no scale for heat maps: measure it on new normal images with python -m brittle_jax.score "
            f"--run={run} --recalibrate=DIR, or train with data.calibration_fraction=0.2"
        )
    files.check_regular(file, _MOST_BYTES)
    content = files.read_json(file)
    try:
        scales = {name: float(content["scales"][name]) for name in DETECTORS}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(file, f"no scale: {error}") from error
    if not all(np.isfinite(scale) and scale > 0 for scale in scales.values()):
        raise DamagedError(file, "a scale that is not above 0")
    return scales


def _file_of(run: pathlib.Path, configuration: str) -> pathlib.Path:
    file = run / "heat_maps" / f"{configuration}.json"
    untrusted.check_inside(file, run)
    return file


def assemble(maps: np.ndarray, boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Puts the maps of patches together to one of their view: where patches overlap, the average of what they say.

    Args:
        maps: [P, h, w]; [P, 1, 1] are one value for each patch, such as its score.
        boxes: [P, 4] int, the part of the view that each patch shows: top, left, bottom, right in pixels, which may
            reach beyond the view.
        shape: height and width of the view.

    Returns:
        [height, width]; 0 where there is no patch.
    """
    total, count = np.zeros(shape), np.zeros(shape)
    for each, (top, left, bottom, right) in zip(maps, boxes, strict=True):
        rows = np.arange(max(top, 0), min(bottom, shape[0]))
        columns = np.arange(max(left, 0), min(right, shape[1]))
        row_of = (rows - top) * each.shape[0] // (bottom - top)
        column_of = (columns - left) * each.shape[1] // (right - left)
        total[np.ix_(rows, columns)] += np.asarray(each)[np.ix_(row_of, column_of)]
        count[np.ix_(rows, columns)] += 1
    return total / np.maximum(count, 1)
