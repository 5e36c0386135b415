"""A dual-energy scanner: two fans of rays across the belt, photon noise, false colours.

The belt runs along x, so the columns of both views lie along x. Each fan lies in the y-z plane, with its source at a
fixed place beside or below the tunnel. Things near the source look larger, and up differs from down.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from brittle_jax.data.parcels.materials import linear_attenuation
from brittle_jax.data.parcels.packing import LONGEST, Parcel
from brittle_jax.data.parcels.solids import Solid, bounds, chord


@dataclasses.dataclass(frozen=True)
class Fan:
    """A source, and the line in the middle of the tunnel along which image rows are measured.

    Attributes:
        source: [2], y and z in cm.
        middle: [2], a point of that line.
        along: [2], its unit vector towards the first row.
    """

    source: tuple[float, float]
    middle: tuple[float, float]
    along: tuple[float, float]

    def row_coordinate(self, points: np.ndarray) -> np.ndarray:
        """Returns where rays from the source through points [2, N] meet the line, in cm along it."""
        source, middle, along = map(np.asarray, (self.source, self.middle, self.along))
        normal = np.array([-along[1], along[0]])
        offsets = points - source[:, None]
        reached = offsets * ((middle - source) @ normal) / (normal @ offsets)
        return along @ (reached + (source - middle)[:, None])


FANS = {  # the views, in this order
    "top": Fan(source=(0.0, -100.0), middle=(0.0, 10.0), along=(1.0, 0.0)),
    "side": Fan(source=(-110.0, 10.0), middle=(0.0, 10.0), along=(0.0, 1.0)),
}
_BORDER = 1.0  # cm of air on each side of a parcel
_RAYS_PER_CM = 5.0  # at least; several per pixel are averaged if pixels are larger
_BLUR = 0.05  # cm, standard deviation of the detectors' response
_PHOTONS = 20_000  # that reach a pixel through air at each energy
_READ_NOISE = 4.0  # photons, standard deviation

# False colours: air is near white, and matter is a filter for red, green and blue, as strong as the high beam is
# attenuated. The ratio of attenuations, low beam to high, selects the filter: 1.4 is organic (orange), 2 is glass or
# aluminium (green), 4 and above is metal (blue).
_AIR_COLOUR = 252.0
_RATIOS = (1.4, 1.9, 2.5, 4.0)
_FILTERS = np.array([[0.22, 0.85, 2.0], [0.9, 0.40, 1.25], [1.3, 0.5, 0.9], [2.2, 1.05, 0.36]])
_COMPRESSION = 1.4
_AIR_ATTENUATION = 0.05  # below this, everything is air
_OPAQUE_ATTENUATION = 7.0  # of the low beam; beyond it the ratio is meaningless, and the colour that of metal


@dataclasses.dataclass(frozen=True)
class Scan:
    """One view.

    Attributes:
        image: [H, W, 3] uint8, in false colours.
        boxes: by the name of a threat's part: top, left, bottom, right in pixels, bottom and right exclusive.
    """

    image: np.ndarray
    boxes: dict[str, tuple[int, int, int, int]]


def scan(rng: np.random.Generator, parcel: Parcel, *, side_pixels: int) -> dict[str, Scan]:
    """Returns both views of a parcel.

    Args:
        side_pixels: length, in pixels, that the longest side of any parcel has in the middle of the tunnel.
    """
    return {view: _scan(rng, parcel, fan, side_pixels) for view, fan in FANS.items()}


def _scan(rng: np.random.Generator, parcel: Parcel, fan: Fan, side_pixels: int) -> Scan:
    transmitted, boxes = transmission(parcel, fan, side_pixels)
    photons = _PHOTONS * transmitted
    # Counts vary by their square root. If they are too few for a normal distribution, read noise hides that.
    noise = np.sqrt(photons + _READ_NOISE**2) * rng.standard_normal(photons.shape, np.float32)
    attenuation = -np.log(np.maximum(photons + noise, 1) / _PHOTONS)
    return Scan(false_colours(*attenuation), boxes)


def transmission(parcel: Parcel, fan: Fan, side_pixels: int) -> tuple[np.ndarray, dict[str, tuple[int, int, int, int]]]:
    """Returns the share of each beam that reaches the detectors, without noise.

    Args:
        side_pixels: as in `scan`.

    Returns:
        [2, H, W], from 0 to 1, of the low and the high beam; and boxes as in `Scan`.
    """
    pixels_per_cm = side_pixels / LONGEST
    oversampling = int(np.ceil(_RAYS_PER_CM / pixels_per_cm))
    rays = _Rays(fan, parcel, pixels_per_cm, oversampling)
    thickness, boxes = _trace(parcel.solids, rays)
    transmitted = np.exp(-_attenuations(thickness))
    height, width = rays.shape
    transmitted = transmitted.reshape(2, height // oversampling, oversampling, width // oversampling, oversampling)
    return ndimage.gaussian_filter(transmitted.mean(axis=(2, 4)), (0, *[_BLUR * pixels_per_cm] * 2)), boxes


class _Rays:
    """The rays of one view: rows fan out from the source, columns follow the belt."""

    def __init__(self, fan: Fan, parcel: Parcel, pixels_per_cm: float, oversampling: int):
        self._fan = fan
        self._rays_per_cm = pixels_per_cm * oversampling
        self.oversampling = oversampling
        low, high = bounds(parcel.solids)
        corners = np.array(np.meshgrid([low[1], high[1]], [low[2], high[2]])).reshape(2, 4)
        rows = fan.row_coordinate(corners)
        self._first_row, self._first_column = rows.max() + _BORDER, low[0] - _BORDER
        extent = np.array([self._first_row - rows.min() + _BORDER, high[0] + _BORDER - self._first_column])
        self.shape = tuple(np.ceil(extent * pixels_per_cm).astype(int) * oversampling)
        source, middle, along = map(np.asarray, (fan.source, fan.middle, fan.along))
        row = self._first_row - (np.arange(self.shape[0]) + 0.5) / self._rays_per_cm
        towards = middle[:, None] + along[:, None] * row - source[:, None]
        towards = towards / np.linalg.norm(towards, axis=0)
        self.direction = np.concatenate([np.zeros((1, len(row))), towards])[:, :, None]  # [3, H, 1]
        column = self._first_column + (np.arange(self.shape[1]) + 0.5) / self._rays_per_cm
        sources = np.repeat(source[:, None], len(column), axis=1)
        self.origin = np.concatenate([column[None], sources])[:, None, :]  # [3, 1, W]

    def window(self, solid: Solid) -> tuple[slice, slice]:
        """Returns the rows and columns of rays that can meet a solid."""
        corners = solid.corners()
        rows = (self._first_row - self._fan.row_coordinate(corners[1:])) * self._rays_per_cm
        columns = (corners[0] - self._first_column) * self._rays_per_cm
        return tuple(
            slice(max(int(along.min()), 0), min(int(along.max()) + 1, limit))
            for along, limit in zip((rows, columns), self.shape, strict=True)
        )


def _trace(solids: list[Solid], rays: _Rays) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, int, int, int]]]:
    """Returns how many cm of each material each ray [H, W] crosses, and the boxes of a threat's parts."""
    thickness: dict[str, np.ndarray] = {}
    windows: dict[str, list[tuple[int, int, int, int]]] = {}
    for solid in solids:
        rows, columns = rays.window(solid)
        entry, leave = chord(solid, rays.origin[:, :, columns], rays.direction[:, rows])
        length = np.maximum(leave - entry, 0)
        for material, sign in ((solid.material, 1), (solid.displaces, -1)):
            if material not in (None, "air"):
                total = thickness.setdefault(material, np.zeros(rays.shape, np.float32))
                total[rows, columns] += sign * length
        if solid.part and length.any():
            hit_rows, hit_columns = (np.flatnonzero(length.any(axis=axis)) for axis in (1, 0))
            box = (rows.start + hit_rows[0], columns.start + hit_columns[0])
            box += (rows.start + hit_rows[-1] + 1, columns.start + hit_columns[-1] + 1)
            windows.setdefault(solid.part, []).append(box)
    return thickness, {part: _union(boxes, rays.oversampling) for part, boxes in windows.items()}


def _union(boxes: list[tuple[int, int, int, int]], oversampling: int) -> tuple[int, int, int, int]:
    top, left, bottom, right = np.array(boxes).T
    edges = (top.min() // oversampling, left.min() // oversampling)
    edges += (-(-bottom.max() // oversampling), -(-right.max() // oversampling))
    return tuple(int(edge) for edge in edges)


def _attenuations(thickness: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the exponent of the Beer-Lambert law at both energies [2, H, W]: μ times thickness, summed."""
    coefficients = np.array([linear_attenuation(material) for material in thickness], np.float32)  # [M, 2]
    # Hollow things match their hollows only up to rounding.
    crossed = np.maximum(np.stack(list(thickness.values())), 0)
    return np.tensordot(coefficients.T, crossed, axes=1)


def false_colours(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Colours what attenuates the two beams: organic orange, mixed green, metal blue, air near white.

    Args:
        low, high: [H, W], attenuation of each beam: -log of the share that passes.

    Returns:
        [H, W, 3] uint8.
    """
    # As in real scanners, the ratio is of smoothed values, so that colour is less noisy than brightness.
    smooth_low, smooth_high = (ndimage.uniform_filter(beam, 3) for beam in (low, high))
    ratio = (smooth_low + _RATIOS[0] * _AIR_ATTENUATION) / (np.maximum(smooth_high, 0) + _AIR_ATTENUATION)
    ratio[np.maximum(low, smooth_low) > _OPAQUE_ATTENUATION] = _RATIOS[-1]
    # Brightness is compressed, so that things show up both in front of metal and in front of paper.
    strength = _COMPRESSION * np.log1p(np.maximum(high - _AIR_ATTENUATION, 0))
    colours = [
        _AIR_COLOUR * np.exp(-strength * np.interp(ratio, _RATIOS, channel).astype(np.float32))
        for channel in _FILTERS.T
    ]
    return np.round(np.stack(colours, axis=-1)).astype(np.uint8)
