"""Embedded X-ray parcels: two perpendicular views of simple random solids that absorb. Synthetic.

A parcel is a set of boxes, ellipsoids and cylinders of random size, pose and material. Each view is a parallel
projection: a pixel's value is the share of the beam that passes, exp(-sum of absorption times thickness), shown
in false colours from white (air) over orange and green to blue. A threat parcel holds the same clutter and an
angled piece of two metal bars.
"""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from brittle_jax.data.preprocess import encode_png

VIEWS = ("top", "side")
CLASSES = ("soc", "threat")
_BEAM_AXES = {"top": 2, "side": 1}  # the axis that each view looks along: z is up, x is the belt

# Linear absorption per unit length, where the longest parcel's longest side is 1.
_MATERIALS = {"textile": 0.8, "plastic": 2.0, "glass": 4.0, "aluminium": 7.0, "steel": 20.0}
_COLOURS = np.array(  # of absorption 0, 0.4, 1.2, 2.4, 5 and more
    [[250, 250, 250], [246, 190, 110], [120, 190, 90], [60, 90, 190], [20, 20, 80]], float
)
_COLOUR_ABSORPTIONS = (0.0, 0.4, 1.2, 2.4, 5.0)
_AIR_BORDER = 0.06  # on each side of a parcel
_NOISE = 0.01  # standard deviation of the share of the beam that passes


@dataclasses.dataclass(frozen=True)
class _Solid:
    shape: str  # "box", "ellipsoid" or "cylinder" (its axis is its own third axis)
    centre: np.ndarray  # [3]
    half_size: np.ndarray  # [3]
    rotation: np.ndarray  # [3, 3], rows are the solid's own axes
    absorption: float


@dataclasses.dataclass(kw_only=True)
class ParcelsConfig(tfds.core.BuilderConfig):
    """How many parcels, how large, from which seed; its name holds all of them."""

    num_normal: int = 0
    num_threat: int = 0
    side_pixels: int = 0
    seed: int = 0


def parcels_config(num_normal: int, num_threat: int, side_pixels: int, seed: int) -> ParcelsConfig:
    """Returns the builder config of a set of parcels."""
    name = f"soc{num_normal}_threat{num_threat}_side{side_pixels}_seed{seed}"
    return ParcelsConfig(name=name, num_normal=num_normal, num_threat=num_threat, side_pixels=side_pixels, seed=seed)


class XrayParcels(tfds.core.GeneratorBasedBuilder):
    """Synthetic parcels: `id`, `label` (soc or threat) and a PNG of each view."""

    VERSION = tfds.core.Version("0.1.0")

    def _info(self) -> tfds.core.DatasetInfo:
        views = {view: tfds.features.Image(shape=(None, None, 3), encoding_format="png") for view in VIEWS}
        return tfds.core.DatasetInfo(
            builder=self,
            description="Synthetic X-ray parcels: two perpendicular views of random absorbing solids.",
            features=tfds.features.FeaturesDict(
                {"id": tfds.features.Text(), "label": tfds.features.ClassLabel(names=CLASSES), **views}
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"parcels": self._generate_examples()}

    def _generate_examples(self):
        config = self.builder_config
        for label, (name, count) in enumerate(zip(CLASSES, (config.num_normal, config.num_threat), strict=True)):
            for index in range(count):
                rng = np.random.default_rng([config.seed, label, index])
                views = make_parcel(rng, is_threat=name == "threat", side_pixels=config.side_pixels)
                encoded = {view: encode_png(image) for view, image in views.items()}
                parcel_id = f"{name}_{index:05d}"
                yield parcel_id, {"id": parcel_id, "label": label, **encoded}


def make_parcel(rng: np.random.Generator, *, is_threat: bool, side_pixels: int) -> dict[str, np.ndarray]:
    """Draws one parcel and returns its views: [H, W, 3] uint8 each, of a size of its own."""
    size = np.array([rng.uniform(0.6, 1.0), rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.6)])
    solids = [_random_solid(rng, size) for _ in range(rng.integers(5, 11))]
    if is_threat:
        solids += _angled_bars(rng, size)
    views = {}
    for view, axis in _BEAM_AXES.items():
        absorption = _project(solids, size, axis, side_pixels)
        passed = np.exp(-absorption) + rng.normal(0, _NOISE, absorption.shape)
        absorption = -np.log(passed.clip(1e-3, 1))
        channels = [np.interp(absorption, _COLOUR_ABSORPTIONS, _COLOURS[:, channel]) for channel in range(3)]
        views[view] = np.round(np.stack(channels, axis=-1)).astype(np.uint8)
    return views


def _random_solid(rng: np.random.Generator, size: np.ndarray) -> _Solid:
    material = rng.choice(list(_MATERIALS), p=[0.3, 0.3, 0.15, 0.15, 0.1])
    thickest = 0.12 if material in ("aluminium", "steel") else 0.25
    half_size = np.minimum(rng.uniform(0.02, thickest, 3), 0.45 * size)
    shape = rng.choice(["box", "ellipsoid", "cylinder"])
    return _Solid(shape, _centre(rng, size), half_size, _rotation(rng), _MATERIALS[material])


def _angled_bars(rng: np.random.Generator, size: np.ndarray) -> list[_Solid]:
    """Two steel bars that meet at an angle."""
    rotation, centre = _rotation(rng), _centre(rng, size)
    long, short = np.array([0.13, 0.03, 0.02]), np.array([0.025, 0.09, 0.02])
    corner = rotation.T @ np.array([-0.1, -0.09, 0.0])
    steel = _MATERIALS["steel"]
    return [
        _Solid("box", centre, long, rotation, steel),
        _Solid("box", centre + corner, short, rotation, steel),
    ]


def _centre(rng: np.random.Generator, size: np.ndarray) -> np.ndarray:
    # Things lie low, so that the side view has an up and a down.
    return rng.uniform([0.2, 0.2, 0.1], [0.8, 0.8, 0.5]) * size


def _rotation(rng: np.random.Generator) -> np.ndarray:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return rotation


def _project(solids: list[_Solid], size: np.ndarray, axis: int, side_pixels: int) -> np.ndarray:
    """Returns absorption times thickness, summed along an axis, for each pixel [H, W]."""
    columns, rows = [other for other in range(3) if other != axis]
    scale = side_pixels / (1 + 2 * _AIR_BORDER)
    width, height = (round(scale * (size[side] + 2 * _AIR_BORDER)) for side in (columns, rows))
    points = np.zeros((height, width, 3))
    points[..., columns] = (np.arange(width) + 0.5) / scale - _AIR_BORDER
    points[..., rows] = ((height - np.arange(height)) - 0.5)[:, None] / scale - _AIR_BORDER
    direction = np.eye(3)[axis]
    return sum(solid.absorption * _thickness(solid, points, direction) for solid in solids)


def _thickness(solid: _Solid, points: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Returns the length of each ray, through `points` along `direction`, inside a convex solid."""
    origin = (points - solid.centre) @ solid.rotation.T / solid.half_size
    step = solid.rotation @ direction / solid.half_size
    if solid.shape == "box":
        entry, leave = _slab(origin, step, [0, 1, 2])
    elif solid.shape == "ellipsoid":
        entry, leave = _ball(origin, step, [0, 1, 2])
    else:
        entry, leave = _ball(origin, step, [0, 1])
        entry_end, leave_end = _slab(origin, step, [2])
        entry, leave = np.maximum(entry, entry_end), np.minimum(leave, leave_end)
    return np.maximum(leave - entry, 0)


def _slab(origin: np.ndarray, step: np.ndarray, axes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave |coordinate| <= 1 on the given axes."""
    step = np.where(np.abs(step) < 1e-9, 1e-9, step)
    low, high = (-1 - origin) / step, (1 - origin) / step
    return np.minimum(low, high)[..., axes].max(axis=-1), np.maximum(low, high)[..., axes].min(axis=-1)


def _ball(origin: np.ndarray, step: np.ndarray, axes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave the unit ball of the given axes; leaving before entering where they miss it."""
    origin, step = origin[..., axes], step[axes]
    a, b = step @ step, origin @ step
    discriminant = b**2 - a * ((origin**2).sum(axis=-1) - 1)
    root = np.sqrt(np.maximum(discriminant, 0))
    return np.where(discriminant > 0, (-b - root) / a, 1.0), np.where(discriminant > 0, (-b + root) / a, -1.0)
