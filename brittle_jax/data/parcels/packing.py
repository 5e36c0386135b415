"""Packs things into a cardboard box, where each comes to rest on what lies there. Lengths in cm; z is up."""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from brittle_jax.data.parcels import objects
from brittle_jax.data.parcels.objects import Random, Thing
from brittle_jax.data.parcels.pistol import pistol
from brittle_jax.data.parcels.solids import Solid, bounds, chord, turn

LONGEST = 45.0  # longest side of a box
_CELL = 1.0  # of the grid on which things come to rest
_TRIED_PLACES = 25  # for each pose
_TRIED_POSES = 2
_TRIED_TURNS = 30  # before a thing is put on edge
_SHARE_TAKEN_APART = 1 / 3
_SHARE_WEDGED = 0.15  # of things that lie at any angle rather than flat
_WALL = 0.5


@dataclasses.dataclass(frozen=True)
class Parcel:
    """A packed box.

    Attributes:
        size: [3], of the box, which stands on the belt with its centre at x = y = 0.
        solids: of the box and of everything in it.
    """

    size: np.ndarray
    solids: list[Solid]


def pack(rng: Random, *, is_threat: bool) -> Parcel:
    """Draws the contents of a parcel, lets them settle one by one, and closes a box over them.

    A threat parcel differs in one thing only. In place of a normal parcel's hardware of steel and polymer, which is
    whole in two of three cases and in pieces otherwise, it holds a pistol, taken apart equally often.
    """
    while True:
        floor = rng.uniform([30, 22], [LONGEST, 32])
        clutter = objects.draw_clutter(rng, rng.integers(6, 13))
        things = [*clutter, *_draw_hardware(rng, is_threat)]
        heights = np.zeros(np.ceil(floor / _CELL).astype(int))
        solids = []
        for index in rng.permutation(len(things)):
            solids += _drop(rng, things[index], heights)
        size = np.array([*floor, heights.max() + rng.uniform(0.5, 4.0)]) + 2 * _WALL
        if size[2] <= LONGEST:
            break  # a taller tower is packed again
    centred = [solid.moved(np.eye(3), np.array([*(-floor / 2), 0.0])) for solid in solids]
    walls = objects.hollow_box(size, _WALL, "cardboard", [0, 0, size[2] / 2 - _WALL])
    skew = turn(2, rng.uniform(-5, 5))  # parcels lie a little askew on the belt
    return Parcel(size, [solid.moved(skew, np.array([0, 0, _WALL])) for solid in [*walls, *centred]])


def _draw_hardware(rng: Random, is_threat: bool) -> list[Thing]:
    taken_apart = rng.random() < _SHARE_TAKEN_APART
    if is_threat:
        parts = list(pistol(rng).values())
        return parts if taken_apart else [sum(parts, [])]
    if taken_apart:
        return [draw(rng) for draw in objects.PIECES]
    return [objects.HARDWARE[rng.integers(len(objects.HARDWARE))](rng)]


def _posed(rng: Random, thing: Thing, floor: np.ndarray) -> Thing:
    """Turns a thing so that it fits on the floor: flat on one side with a slight tilt, or at any angle."""
    low, high = bounds(thing)
    extent = high - low
    thing = [solid.moved(np.eye(3), -(low + high) / 2) for solid in thing]
    for _ in range(_TRIED_TURNS):
        if rng.random() < _SHARE_WEDGED:
            rotation = Rotation.random(rng=rng).as_matrix()
        else:
            # A thing is more likely to lie on a larger side.
            upwards = rng.choice(3, p=(1 / extent**2) / (1 / extent**2).sum())
            flat = np.roll(np.eye(3), 2 - upwards, axis=0) @ turn((upwards + 1) % 3, rng.choice([0, 180]))
            rotation = turn(2, rng.uniform(0, 360)) @ turn(0, rng.normal(0, 7)) @ turn(1, rng.normal(0, 7)) @ flat
        posed = _turned_onto_origin(thing, rotation)
        if (bounds(posed)[1][:2] <= floor).all():
            return posed
    # The largest things only fit on edge: along the box, with the second-longest side up.
    shortest, second, longest = np.argsort(extent)
    on_edge = np.eye(3)[[longest, shortest, second]]
    on_edge[1] *= np.linalg.det(on_edge)  # a rotation, not a reflection
    return _turned_onto_origin(thing, on_edge)


def _turned_onto_origin(thing: Thing, rotation: np.ndarray) -> Thing:
    """Turns a thing, then shifts it so that its lowest corner is the origin."""
    turned = [solid.moved(rotation, np.zeros(3)) for solid in thing]
    return [solid.moved(np.eye(3), -bounds(turned)[0]) for solid in turned]


def _drop(rng: Random, thing: Thing, heights: np.ndarray) -> Thing:
    """Lets a thing down in the pose and at the place, out of a few, that keep its top lowest.

    Args:
        heights: [X, Y], height of the heap at each cell of the floor; raised to the thing's top in place.
    """
    lowest = np.inf
    for _ in range(_TRIED_POSES):
        posed = _posed(rng, thing, (np.array(heights.shape) - 2) * _CELL)
        bottom, top = _relief(posed)
        for place in rng.integers(0, np.array(heights.shape) - bottom.shape + 1, (_TRIED_PLACES, 2)):
            rest = max(np.max(_window(heights, place, bottom) - bottom), 0.0)
            if rest + top.max() < lowest:
                lowest = rest + top.max()
                best = posed, top, place, rest
    posed, top, place, rest = best
    covered = _window(heights, place, top)
    np.maximum(covered, rest + top, out=covered)
    return [solid.moved(np.eye(3), np.array([*(place * _CELL), rest])) for solid in posed]


def _window(heights: np.ndarray, place: np.ndarray, like: np.ndarray) -> np.ndarray:
    return heights[place[0] : place[0] + like.shape[0], place[1] : place[1] + like.shape[1]]


def _relief(thing: Thing) -> tuple[np.ndarray, np.ndarray]:
    """Returns the heights [X, Y] of a thing's underside and upper side; infinite and minus infinite beside it."""
    _, (length, width, _) = bounds(thing)
    x, y = ((np.arange(np.ceil(extent / _CELL)) + 0.5) * _CELL for extent in (length, width))
    origin = np.stack([*np.meshgrid(x, y, indexing="ij"), np.zeros((len(x), len(y)))])
    up = np.array([0.0, 0.0, 1.0]).reshape(3, 1, 1)
    bottom, top = np.full(origin.shape[1:], np.inf), np.full(origin.shape[1:], -np.inf)
    for solid in thing:
        entry, leave = chord(solid, origin, up)
        hit = leave > entry
        bottom[hit] = np.minimum(bottom, entry)[hit]
        top[hit] = np.maximum(top, leave)[hit]
    return bottom, top
