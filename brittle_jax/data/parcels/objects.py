"""What people send. Each function draws one thing at random, as solids around the origin; sizes in cm.

A thing that is packed whole is one list of solids. All are everyday goods; the threat is in `pistol.py`.
"""

from collections.abc import Callable

import numpy as np

from brittle_jax.data.parcels.solids import Solid, box, cylinder, ellipsoid, turn

Thing = list[Solid]
Random = np.random.Generator


def hollow_box(size, wall: float, material: str, at=(0.0, 0.0, 0.0), **kwargs) -> Thing:
    """Returns a closed box of full `size` [3] with air inside."""
    inner = np.asarray(size, float) - 2 * wall
    return [box(size, material, at, **kwargs), box(inner, "air", at, displaces=material, **kwargs)]


def tube(diameter: float, wall: float, length: float, material: str, *, at=(0.0, 0.0, 0.0), along: int = 2, **kwargs):
    """Returns an open tube along the axis with the number `along`."""
    bore = diameter - 2 * wall
    return [
        cylinder(diameter, length, material, at, along=along, **kwargs),
        cylinder(bore, 1.001 * length, "air", at, along=along, displaces=material, **kwargs),
    ]


def garment(rng: Random) -> Thing:
    """A folded garment: layers that are not quite aligned, sometimes with a zip or buttons."""
    size = rng.uniform([14, 12, 1.0], [24, 18, 2.5])
    thing = []
    for layer in range(rng.integers(2, 5)):
        at = [*rng.uniform(-2, 2, 2), 0.6 * layer * size[2]]
        folded = turn(2, rng.normal(0, 12)) @ turn(0, rng.normal(0, 6)) @ turn(1, rng.normal(0, 6))
        thing.append(ellipsoid(size * rng.uniform(0.7, 1.1, 3), "textile", at, rotation=folded))
    if rng.random() < 0.3:
        thing.append(box([0.7 * size[0], 0.5, 0.12], "aluminium", [0, rng.uniform(-3, 3), 0]))
    elif rng.random() < 0.4:
        thing += [cylinder(1.4, 0.3, "polymer", [place, 0, size[2] / 2]) for place in (-6, -3, 0, 3, 6)]
    return thing


def book(rng: Random) -> Thing:
    """A book, or a pile of paper."""
    return [box(rng.uniform([14, 11, 1], [24, 17, 4]), "paper")]


def carton(rng: Random) -> Thing:
    """A small carton of powder or loose goods."""
    size = rng.uniform([8, 6, 3], [18, 14, 9])
    filling = rng.choice(["textile", "plastic", "paper"])
    fill = size * rng.uniform([0.7, 0.7, 0.3], [0.9, 0.9, 0.8])
    return [*hollow_box(size, 0.2, "paper"), box(fill, filling, displaces="air")]


def bottle(rng: Random) -> Thing:
    """A bottle of plastic or glass, partly filled."""
    diameter, length = rng.uniform(5, 8), rng.uniform(13, 20)
    wall, material = (0.06, "plastic") if rng.random() < 0.6 else (0.35, "glass")
    level = rng.uniform(0.5, 0.95) * length
    return [
        *tube(diameter, wall, length, material),
        cylinder(diameter - 2 * wall, level, "water", [0, 0, (level - length) / 2], displaces="air"),
        cylinder(0.4 * diameter, 3.5, material, [0, 0, length / 2 + 1.75]),
        cylinder(0.45 * diameter, 1.5, rng.choice(["plastic", "aluminium"]), [0, 0, length / 2 + 3.5]),
    ]


def can(rng: Random) -> Thing:
    """A filled can, of aluminium or steel."""
    diameter, length = rng.uniform(5, 8), rng.uniform(8, 13)
    material = rng.choice(["aluminium", "steel"])
    return [
        cylinder(diameter, length, material),
        cylinder(diameter - 0.06, length - 0.06, "water", displaces=material),
    ]


def ball(rng: Random) -> Thing:
    """A hollow ball or a solid one."""
    diameter = rng.uniform(4, 9)
    if rng.random() < 0.5:
        return [ellipsoid([0.6 * diameter] * 3, rng.choice(["glass", "plastic", "aluminium"]))]
    wall = rng.uniform(0.2, 0.6)
    return [
        ellipsoid([diameter] * 3, "plastic"),
        ellipsoid([diameter - 2 * wall] * 3, "air", displaces="plastic"),
    ]


def charger(rng: Random) -> Thing:
    """A plastic shell with a circuit board and a transformer, and a coiled lead beside it."""
    size = rng.uniform([6, 4, 2.5], [11, 6, 4])
    return [
        *hollow_box(size, 0.2, "polymer"),
        box([0.85 * size[0], 0.85 * size[1], 0.16], "circuit", [0, 0, -0.3 * size[2]]),
        cylinder(0.4 * size[1], 0.5 * size[2], "copper", [-0.2 * size[0], 0, 0]),
        box([0.25 * size[0], 0.5 * size[1], 0.5 * size[2]], "aluminium", [0.25 * size[0], 0, 0]),
        *tube(rng.uniform(5, 8), 0.5, 0.9, "cable", at=[0.8 * size[0], 0, 0]),
    ]


def telephone(rng: Random) -> Thing:
    """A flat device: glass, circuit board, battery cell."""
    length, width = rng.uniform(12, 22), rng.uniform(6.5, 14)
    return [
        box([length, width, 0.8], "polymer"),
        box([0.95 * length, 0.95 * width, 0.1], "glass", [0, 0, 0.45]),
        box([0.6 * length, 0.7 * width, 0.4], "circuit", [-0.1 * length, 0, 0]),
        box([0.2 * length, 0.5 * width, 0.3], "aluminium", [0.3 * length, 0, 0]),
    ]


def drill(rng: Random) -> Thing:
    """A cordless drill: barrel, chuck and angled grip, with an outline much like a pistol's."""
    length = rng.uniform(15, 20)
    grip = turn(1, rng.uniform(-15, 15))
    drop = rng.uniform(11, 14)
    foot = grip @ [0, 0, -drop]
    return [
        *tube(5.5, 0.3, length, "polymer", along=0),
        cylinder(3.8, 0.4 * length, "steel", [-0.15 * length, 0, 0], along=0, displaces="air"),
        cylinder(3.2, 4.5, "steel", [length / 2 + 1, 0, 0], along=0),
        box([3.5, 3, drop], "polymer", 0.5 * foot - [0.2 * length, 0, 0], rotation=grip),
        box([8, 5, 4], "circuit", foot - [0.2 * length, 0, 0], rotation=grip),
    ]


def hammer(rng: Random) -> Thing:
    """A steel head and rod in a handle of plastic or wood."""
    length = rng.uniform(18, 25)
    head = rng.uniform([8, 1.8, 1.8], [12, 2.6, 2.6])
    handle = rng.choice(["plastic", "paper"])  # paper is as dense as wood and has the same composition
    return [
        box(head, "steel", [0, length / 2, 0]),
        cylinder(rng.uniform(2, 3), length, handle, along=1),
        cylinder(0.8, length, "steel", along=1, displaces=handle),
    ]


def wrench(rng: Random) -> Thing:
    """A spanner: a bar with a ring at each end."""
    length, width = rng.uniform(14, 22), rng.uniform(2.2, 3.2)
    thick = rng.uniform(0.5, 0.9)
    ends = [tube(1.6 * width, 0.35 * width, thick, "steel", at=[side * length / 2, 0, 0]) for side in (-1, 1)]
    return [box([length - width, 0.6 * width, thick], "steel"), *ends[0], *ends[1]]


def pliers(rng: Random) -> Thing:
    """Two crossed steel bars with sleeves."""
    length, angle = rng.uniform(15, 20), rng.uniform(8, 25)
    thing = []
    for degrees in (-angle, angle):
        turned = turn(2, degrees)
        thing.append(box([length, 1.3, 0.9], "steel", rotation=turned))
        thing.append(box([0.55 * length, 2.0, 1.5], "polymer", turned @ [-0.25 * length, 0, 0], rotation=turned))
        thing.append(
            box(
                [0.55 * length, 1.2, 0.9],
                "steel",
                turned @ [-0.25 * length, 0, 0],
                rotation=turned,
                displaces="polymer",
            )
        )
    return thing


def lock(rng: Random) -> Thing:
    """A door lock: a flat steel case with a bolt, a cylinder and handles."""
    size = rng.uniform([14, 7, 1.6], [19, 10, 2.4])
    return [
        *hollow_box(size, 0.2, "steel"),
        box([5, 2.2, 0.6 * size[2]], "steel", [0.3 * size[0], 0.2 * size[1], 0], displaces="air"),
        cylinder(2.6, 7, "steel", [-0.2 * size[0], 0, 0]),
        box([0.9, 12, 0.9], "aluminium", [-0.2 * size[0], 4, 3.4]),
    ]


def caulking_gun(rng: Random) -> Thing:
    """A dispenser: a half-open steel cradle with a cartridge, a rod and an angled handle of steel and polymer."""
    length = rng.uniform(17, 23)
    handle = turn(1, rng.uniform(-20, 20))
    foot = handle @ [0, 0, -8.0] - [length / 2, 0, 0]
    return [
        *tube(5, 0.12, length, "steel", along=0),
        cylinder(4.5, 0.8 * length, "plastic", along=0, displaces="air"),
        cylinder(0.9, 0.7 * length, "steel", [-0.4 * length, 0, 0], along=0),
        box([2.6, 2.2, 9], "polymer", 0.5 * foot - [0.25 * length, 0, 1], rotation=handle),
        *hollow_box([1.8, 1.6, 9], 0.15, "steel", 0.5 * foot - [0.25 * length - 3, 0, 1], rotation=handle),
    ]


def steel_bar(rng: Random) -> Thing:
    """A hollow steel bar of the length and thickness of a pistol's slide, as in hinges, rails and fittings."""
    size = np.array([18.0, 2.6, 2.8]) * rng.uniform(0.8, 1.2, 3)
    return [box(size, "steel"), box(size * [0.85, 0.62, 0.62], "air", displaces="steel")]


def steel_tube(rng: Random) -> Thing:
    """A thick steel tube the size of a barrel."""
    return tube(rng.uniform(1.2, 1.8), 0.3, rng.uniform(8, 14), "steel", along=0)


def battery_pack(rng: Random) -> Thing:
    """Round copper cells in a thin steel case the size of a magazine."""
    size = np.array([3.3, 2.2, 11.5]) * rng.uniform(0.9, 1.2, 3)
    pitch = size[2] / 8
    cells = [
        cylinder(1.0, 0.8 * size[0], "copper", [0, 0, pitch * (number - 3.5)], along=0, displaces="air")
        for number in range(rng.integers(3, 9))
    ]
    return [*hollow_box(size, 0.08, "steel"), *cells]


def machined_block(rng: Random) -> Thing:
    """A polymer housing with a steel insert, of the size and make of a pistol's frame."""
    size = rng.uniform([11, 2.2, 4], [17, 3.2, 9])
    return [
        *hollow_box(size, 0.5, "polymer"),
        box([0.6 * size[0], 0.8, 1.2], "steel", [0, 0, 0.25 * size[2]], displaces="air"),
        *tube(3.5, 0.4, 1.0, "polymer", at=[0.2 * size[0], 0, -0.5 * size[2] - 1.5], along=1),
    ]


# Clutter, and its relative frequency.
CLUTTER: dict[Callable[[Random], Thing], float] = {
    garment: 5,
    book: 3,
    carton: 3,
    bottle: 2,
    can: 2,
    ball: 2,
    charger: 3,
    telephone: 2,
    drill: 1,
    hammer: 1,
    wrench: 1,
    pliers: 1,
    lock: 1,
    caulking_gun: 1,
    steel_bar: 1,
    steel_tube: 1,
    battery_pack: 1,
    machined_block: 1,
}
# What a normal parcel holds in place of the threat parcel's pistol: something whole, or pieces.
HARDWARE: tuple[Callable[[Random], Thing], ...] = (drill, hammer, lock, caulking_gun)
PIECES: tuple[Callable[[Random], Thing], ...] = (steel_bar, steel_tube, machined_block, battery_pack)


def draw_clutter(rng: Random, count: int) -> list[Thing]:
    """Draws `count` everyday things."""
    kinds, weights = list(CLUTTER), np.array(list(CLUTTER.values()), float)
    return [kinds[kind](rng) for kind in rng.choice(len(kinds), count, p=weights / weights.sum())]
