"""Convex solids placed in space, and the length of rays inside them. All lengths in cm; z is up."""

import dataclasses

import numpy as np

_SIGNS = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, 8)  # of the corners of a cube


@dataclasses.dataclass(frozen=True)
class Solid:
    """A box, an ellipsoid or a cylinder (along its own third axis).

    A hollow thing is two solids: an outer one, and an inner one of another material that `displaces` the outer one's.

    Attributes:
        shape: "box", "ellipsoid" or "cylinder".
        half_size: [3], along its own axes.
        material: one of `materials.MATERIALS`.
        centre: [3].
        rotation: [3, 3], whose columns are the solid's own axes.
        displaces: the material that this one replaces, or None.
        part: the part of a threat, such as "barrel"; empty for everything else.
    """

    shape: str
    half_size: np.ndarray
    material: str
    centre: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    rotation: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(3))
    displaces: str | None = None
    part: str = ""

    def moved(self, rotation: np.ndarray, offset: np.ndarray) -> "Solid":
        """Returns the solid rotated about the origin, then shifted."""
        return dataclasses.replace(self, centre=rotation @ self.centre + offset, rotation=rotation @ self.rotation)

    def scaled(self, factor: float) -> "Solid":
        """Returns the solid larger by a factor, about the origin."""
        return dataclasses.replace(self, half_size=factor * np.asarray(self.half_size), centre=factor * self.centre)

    def corners(self) -> np.ndarray:
        """Returns the corners [3, 8] of the bounding box along its own axes."""
        return self.centre[:, None] + self.rotation @ (np.asarray(self.half_size)[:, None] * _SIGNS)


def box(size, material: str, at=(0.0, 0.0, 0.0), **kwargs) -> Solid:
    """Returns a box of full `size` [3] around `at` [3]."""
    return Solid("box", np.asarray(size, float) / 2, material, np.asarray(at, float), **kwargs)


def ellipsoid(size, material: str, at=(0.0, 0.0, 0.0), **kwargs) -> Solid:
    """Returns an ellipsoid of full `size` [3] around `at` [3]."""
    return Solid("ellipsoid", np.asarray(size, float) / 2, material, np.asarray(at, float), **kwargs)


def cylinder(diameter: float, length: float, material: str, at=(0.0, 0.0, 0.0), *, along: int = 2, **kwargs) -> Solid:
    """Returns a round cylinder around `at` [3], along the axis with the number `along`."""
    rotation = np.roll(np.eye(3), along - 2, axis=0)
    half_size = np.array([diameter, diameter, length]) / 2
    return Solid("cylinder", half_size, material, np.asarray(at, float), rotation, **kwargs)


def turn(axis: int, degrees: float) -> np.ndarray:
    """Returns the rotation [3, 3] about an axis, counter-clockwise if the axis points at the viewer."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation[[first, first, second, second], [first, second, first, second]] = cosine, -sine, sine, cosine
    return rotation


def bounds(solids: list[Solid]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest and highest coordinates [3] of the solids' bounding boxes."""
    corners = np.concatenate([solid.corners() for solid in solids], axis=1)
    return corners.min(axis=1), corners.max(axis=1)


def chord(solid: Solid, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where rays enter and leave a solid, as distances from their origins in cm.

    Args:
        origin: [3, ...].
        direction: [3, ...], of length 1. The axes after the first broadcast with those of `origin`, to [...].

    Returns:
        Entry and exit [...]. A ray that misses exits before it enters.
    """
    scale = np.asarray(solid.half_size)
    to_own_axes = solid.rotation.T / scale[:, None]
    offset = origin - solid.centre.reshape(3, *[1] * (origin.ndim - 1))
    start, step = (np.tensordot(to_own_axes, vectors, axes=1) for vectors in (offset, direction))
    if solid.shape == "box":
        return _slabs(start, step)
    if solid.shape == "ellipsoid":
        return _ball(start, step)
    round_entry, round_leave = _ball(start[:2], step[:2])
    end_entry, end_leave = _slabs(start[2:], step[2:])
    return np.maximum(round_entry, end_entry), np.minimum(round_leave, end_leave)


def _slabs(start: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where rays enter and leave |coordinate| <= 1 on every axis."""
    inverse = 1 / np.where(np.abs(step) < 1e-9, 1e-9, step)
    middle, reach = -start * inverse, np.abs(inverse)
    entry, leave = middle[0] - reach[0], middle[0] + reach[0]
    for axis in range(1, len(middle)):
        entry = np.maximum(entry, middle[axis] - reach[axis])
        leave = np.minimum(leave, middle[axis] + reach[axis])
    return entry, leave


def _ball(start: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where rays enter and leave the unit ball, or the unit circle."""
    squared_step = np.maximum((step**2).sum(axis=0), 1e-18)
    middle = -(start * step).sum(axis=0) / squared_step
    squared_reach = middle**2 - ((start**2).sum(axis=0) - 1) / squared_step
    reach = np.sqrt(np.maximum(squared_reach, 0))
    return middle - reach, middle + np.where(squared_reach > 0, reach, -1.0)
