"""Packs things into a cardboard box: goods in rows, then single things that come to rest on them. In cm; z is up."""

import dataclasses

import numpy as np

from brittle_jax.data.parcels import objects
from brittle_jax.data.parcels.objects import Random, Thing
from brittle_jax.data.parcels.pistol import ammunition, pistol
from brittle_jax.data.parcels.solids import Solid, bounds, chord, turn

LONGEST = 36.0  # longest side of a box, between its walls
_WALL = 0.25
_PADDING = 2.5  # of air cushions on all sides, which a scanner does not see
_LEAST_HEIGHT, _MOST_HEIGHT = 19.0, 24.0  # of a box, between its walls
_CELL = 1.0  # of the grid on which things come to rest
_RAYS = 3  # along each side of a cell, that look for a thing
_SHARE_WITH_TWO_KINDS = 0.7  # of goods in rows
_MOST_GOODS, _MOST_LAYERS = 16, 3  # of one kind
_HIGHEST_LAYERS = 8.0  # that goods are piled up to
_SHARE_TURNED = 0.2  # of the goods in rows, which then face any side of the box rather than its front
_TRIED_GOODS = 5
_TRIED_PLACES, _TRIED_POSES = 25, 3  # of a single thing
_EVEN = 0.7  # cells that are no further below a thing carry it
_SHARE_WITH_A_TOOL = 0.25  # of normal parcels: one of `TOOLS`; the others hold a power tool
_SHARE_WITH_SMALL_METAL = 0.65  # of normal parcels
_SHARE_OF_THREATS_WITH_A_TOOL = 0.2
_SHARE_TAKEN_APART = 0.3  # of the pistols


@dataclasses.dataclass(frozen=True)
class Parcel:
    """A packed box.

    Attributes:
        size: [3], of the box, which stands on the belt with its centre at x = y = 0.
        solids: of the box and of everything in it; the box alone is of cardboard.
    """

    size: np.ndarray
    solids: list[Solid]


def pack(rng: Random, *, is_threat: bool) -> Parcel:
    """Draws the contents of a parcel and packs them: goods in rows, then single things that lie among them.

    A threat parcel holds a pistol and ammunition in place of a normal parcel's tool and small metal goods.
    """
    while True:
        floor = rng.uniform([24, 18], [LONGEST - 2 * _PADDING, 24])
        heights = np.zeros(np.floor(floor / _CELL).astype(int))
        solids = _place_goods(rng, heights)
        needed, optional = _draw_single_things(rng, is_threat)
        things = [*needed, *optional]
        placed = {index: _drop(rng, things[index], heights) for index in rng.permutation(len(things))}
        height = heights.max() + 2 * _PADDING
        # An optional thing that finds no rest is left out. Otherwise, the parcel is packed again.
        if height <= _MOST_HEIGHT and all(placed[index] for index in range(len(needed))):
            break
    solids += [solid for thing in placed.values() for solid in thing]
    height = max(height, _LEAST_HEIGHT) + rng.uniform(0, 1)
    size = np.array([*(floor + 2 * _PADDING), height]) + 2 * _WALL
    walls = objects.hollow_box(size, _WALL, "cardboard", [0, 0, size[2] / 2])
    inside = [_shifted(solid, [*(-floor / 2), _WALL + _PADDING]) for solid in solids]
    skew = turn(2, rng.uniform(-3, 3))  # parcels lie a little askew on the belt
    return Parcel(size, [solid.moved(skew, np.zeros(3)) for solid in [*walls, *inside]])


def _draw_single_things(rng: Random, is_threat: bool) -> tuple[list[Thing], list[Thing]]:
    """Returns what must be in the parcel, and what is there if it fits."""
    optional = [objects.draw_one(rng, objects.GOODS)(rng) for _ in range(rng.integers(1, 6))]
    if is_threat:
        parts = list(pistol(rng).values())
        if rng.random() < _SHARE_OF_THREATS_WITH_A_TOOL:
            optional.append(objects.draw_one(rng, objects.TOOLS)(rng))
        whole_or_parts = parts if rng.random() < _SHARE_TAKEN_APART else [sum(parts, [])]
        return [*whole_or_parts, ammunition(rng)], optional
    has_tool = rng.random() < _SHARE_WITH_A_TOOL
    needed = [objects.draw_one(rng, objects.TOOLS)(rng) if has_tool else objects.power_tool(rng)]
    if rng.random() < _SHARE_WITH_SMALL_METAL:
        needed.append(objects.draw_one(rng, objects.SMALL_METAL_GOODS)(rng))
    return needed, optional


def _place_goods(rng: Random, heights: np.ndarray) -> Thing:
    """Puts one or two kinds of goods on the floor, each in rows of equal copies.

    Args:
        heights: [X, Y], height of the heap at each cell of the floor; raised in place.
    """
    parts = [heights]
    if rng.random() < _SHARE_WITH_TWO_KINDS:
        axis = rng.integers(2)
        edge = int(heights.shape[axis] * rng.uniform(0.4, 0.6))
        parts = np.split(heights, [edge], axis)  # views, so that both parts raise the same heap
    offsets = [np.array([0, 0]), np.array(heights.shape) - parts[-1].shape]
    solids = []
    for part, offset in zip(parts, offsets, strict=False):
        for solid in _rows_of(rng, part):
            solids.append(_shifted(solid, [*(offset * _CELL), 0]))
    return solids


def _rows_of(rng: Random, heights: np.ndarray) -> Thing:
    """Fills a part of the floor with equal copies of one of the goods; none if a few kinds do not fit twice."""
    for _ in range(_TRIED_GOODS):
        thing = objects.draw_one(rng, objects.GOODS)(rng)
        quarter = rng.integers(4) if rng.random() < _SHARE_TURNED else 0
        thing = _onto_origin([solid.moved(turn(2, 90 * quarter), np.zeros(3)) for solid in thing])
        bottom, top = _relief(thing)
        columns, rows = (np.array(heights.shape) + 1) // (np.array(bottom.shape) + 1)  # a cell lies between them
        if columns * rows >= 2:
            break
    else:
        return []
    layers = max(min(int(_HIGHEST_LAYERS / top.max()), rng.integers(1, _MOST_LAYERS + 1)), 1)
    count = min(round(rng.uniform(0.6, 1) * columns * rows), _MOST_GOODS // layers)
    solids = []
    for number in range(count):
        place = np.array([number // rows, number % rows]) * (np.array(bottom.shape) + 1)
        for _ in range(layers):
            solids += _put(thing, place, heights, bottom, top)
    return solids


def _drop(rng: Random, thing: Thing, heights: np.ndarray) -> Thing:
    """Lays a thing down flat at the place, out of a few, where it rests and its top is lowest.

    Args:
        heights: as in `_place_goods`.

    Returns:
        The thing in its place; empty if it would tip over at every place that was tried.
    """
    lowest, best = np.inf, None
    for _ in range(_TRIED_POSES):
        posed = _lying(rng, thing)
        bottom, top = _relief(posed)
        room = np.array(heights.shape) - bottom.shape
        if room.min() < 0:
            continue
        for place in rng.integers(0, room + 1, (_TRIED_PLACES, 2)):
            rest = _rest(heights, place, bottom)
            if rest + top.max() < lowest and _is_steady(heights, place, bottom, rest):
                lowest, best = rest + top.max(), (posed, place, heights, bottom, top)
    return _put(*best) if best else []


def _lying(rng: Random, thing: Thing) -> Thing:
    """Turns a thing so that it lies on one of its sides, more likely a large one, and faces anywhere."""
    low, high = bounds(thing)
    weights = 1 / (high - low) ** 2
    upwards = rng.choice(3, p=weights / weights.sum())
    flat = np.roll(np.eye(3), 2 - upwards, axis=0) @ turn((upwards + 1) % 3, rng.choice([0, 180]))
    rotation = turn(2, rng.uniform(0, 360)) @ flat
    return _onto_origin([solid.moved(rotation, np.zeros(3)) for solid in thing])


def _onto_origin(thing: Thing) -> Thing:
    """Shifts a thing so that its lowest corner is the origin."""
    low, _ = bounds(thing)
    return [_shifted(solid, -low) for solid in thing]


def _shifted(solid: Solid, offset) -> Solid:
    return solid.moved(np.eye(3), np.asarray(offset, float))


def _put(thing: Thing, place, heights: np.ndarray, bottom: np.ndarray, top: np.ndarray) -> Thing:
    """Lets a thing down at a place, and raises the heap to its upper side."""
    rest = _rest(heights, place, bottom)
    covered = _window(heights, place, top)
    np.maximum(covered, rest + top, out=covered)
    return [_shifted(solid, [*(np.asarray(place) * _CELL), rest]) for solid in thing]


def _rest(heights: np.ndarray, place, bottom: np.ndarray) -> float:
    """Returns how high the origin of a thing comes to lie, when it touches what is below."""
    return float(np.max(_window(heights, place, bottom) - bottom))


def _is_steady(heights: np.ndarray, place, bottom: np.ndarray, rest: float) -> bool:
    """Returns whether what carries a thing lies on all sides of its middle, so that it does not tip over."""
    covered = np.isfinite(bottom)
    carries = covered & (rest + np.where(covered, bottom, 0) - _window(heights, place, bottom) < _EVEN)
    middle = np.argwhere(covered).mean(axis=0)
    carriers = np.argwhere(carries)
    return bool(carriers.size and (carriers.min(axis=0) <= middle).all() and (carriers.max(axis=0) >= middle).all())


def _window(heights: np.ndarray, place, like: np.ndarray) -> np.ndarray:
    return heights[place[0] : place[0] + like.shape[0], place[1] : place[1] + like.shape[1]]


def _relief(thing: Thing) -> tuple[np.ndarray, np.ndarray]:
    """Returns the heights [X, Y] of a thing's underside and upper side; infinite and minus infinite beside it."""
    _, (length, width, _) = bounds(thing)
    shape = [int(np.ceil(extent / _CELL)) for extent in (length, width)]
    # Several rays a cell, so that thin things are not missed.
    x, y = ((np.arange(count * _RAYS) + 0.5) * _CELL / _RAYS for count in shape)
    origin = np.stack([*np.meshgrid(x, y, indexing="ij"), np.zeros((len(x), len(y)))])
    up = np.array([0.0, 0.0, 1.0]).reshape(3, 1, 1)
    bottom, top = np.full(origin.shape[1:], np.inf), np.full(origin.shape[1:], -np.inf)
    for solid in thing:
        entry, leave = chord(solid, origin, up)
        hit = leave > entry
        bottom[hit] = np.minimum(bottom, entry)[hit]
        top[hit] = np.maximum(top, leave)[hit]
    cells = (shape[0], _RAYS, shape[1], _RAYS)
    return bottom.reshape(cells).min(axis=(1, 3)), top.reshape(cells).max(axis=(1, 3))
