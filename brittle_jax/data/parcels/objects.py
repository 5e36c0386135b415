"""What people send. Each function draws one thing at random, as solids around the origin; sizes in cm.

Every thing is drawn in the pose in which a shop packs it: z points up, and its front, if it has one, towards +x. A
thing that is packed whole is one list of solids. All are everyday goods; the threat is in `pistol.py`.
"""

from collections.abc import Callable

import numpy as np

from brittle_jax.data.parcels.solids import Solid, box, cylinder, ellipsoid, turn

Thing = list[Solid]
Random = np.random.Generator
Draw = Callable[[Random], Thing]


def hollow_box(
    size, wall: float, material: str, at=(0.0, 0.0, 0.0), *, displaces: str | None = None, **kwargs
) -> Thing:
    """Returns a closed box of full `size` [3] with air inside; `displaces` is the material around it, if any."""
    inner = np.asarray(size, float) - 2 * wall
    return [
        box(size, material, at, displaces=displaces, **kwargs),
        box(inner, "air", at, displaces=material, **kwargs),
    ]


def tube(
    diameter: float,
    wall: float,
    length: float,
    material: str,
    *,
    at=(0.0, 0.0, 0.0),
    along: int = 2,
    displaces: str | None = None,
) -> Thing:
    """Returns an open tube along the axis with the number `along`; `displaces` is the material around it, if any."""
    return [
        cylinder(diameter, length, material, at, along=along, displaces=displaces),
        cylinder(diameter - 2 * wall, length, "air", at, along=along, displaces=material),
    ]


def garment(rng: Random) -> Thing:
    """A folded garment: layers that are not quite aligned, sometimes with a zip."""
    size = rng.uniform([12, 10, 1.0], [17, 14, 2.0])
    thing = [
        ellipsoid(size * rng.uniform(0.7, 1.1, 3), "textile", [*rng.uniform(-1.5, 1.5, 2), 0.6 * layer * size[2]])
        for layer in range(rng.integers(2, 5))
    ]
    if rng.random() < 0.3:
        thing.append(box([0.7 * size[0], 0.5, 0.12], "aluminium", [0, rng.uniform(-3, 3), 0]))
    return thing


def book(rng: Random) -> Thing:
    """A book, or a pile of paper."""
    return [box(rng.uniform([13, 10, 1], [19, 14, 4]), "paper")]


def carton(rng: Random) -> Thing:
    """A small carton, filled up to some height with powder or loose goods."""
    size = rng.uniform([6, 5, 6], [10, 9, 12])
    level = rng.uniform(0.4, 0.8) * size[2]
    inner = [size[0] - 0.4, size[1] - 0.4, level]
    filling = rng.choice(["textile", "plastic", "paper"])
    return [
        *hollow_box(size, 0.2, "paper"),
        box(inner, filling, [0, 0, 0.2 + (level - size[2]) / 2], displaces="air"),
    ]


def bottle(rng: Random) -> Thing:
    """A bottle of plastic or glass, filled up to its neck or less, with a cap."""
    diameter, length = rng.uniform(5, 7), rng.uniform(9, 12)
    wall, material = (0.08, "plastic") if rng.random() < 0.6 else (0.3, "glass")
    level = rng.uniform(0.5, 0.95) * length
    return [
        *tube(diameter, wall, length, material),
        cylinder(diameter - 2 * wall, level, "water", [0, 0, (level - length) / 2], displaces="air"),
        cylinder(0.4 * diameter, 2.5, material, [0, 0, length / 2 + 1.25]),
        cylinder(0.45 * diameter, 1.5, rng.choice(["plastic", "aluminium"]), [0, 0, length / 2 + 2.5]),
    ]


def laid_bottle(rng: Random) -> Thing:
    """A bottle on its side, with its cap to the front."""
    return [solid.moved(turn(1, 90), np.zeros(3)) for solid in bottle(rng)]


def can(rng: Random) -> Thing:
    """A steel can of food, or an aluminium one with a drink, with some air at its top."""
    diameter, length = rng.uniform(5, 8), rng.uniform(7, 12)
    material, wall = ("steel", 0.03) if rng.random() < 0.6 else ("aluminium", 0.05)
    level = rng.uniform(0.75, 0.95) * (length - 2 * wall)
    return [
        cylinder(diameter, length, material),
        cylinder(diameter - 2 * wall, length - 2 * wall, "air", displaces=material),
        cylinder(diameter - 2 * wall, level, "water", [0, 0, wall + (level - length) / 2], displaces="air"),
    ]


def jar(rng: Random) -> Thing:
    """A glass jar of cream or jam, with a plastic lid."""
    diameter, length = rng.uniform(5, 8), rng.uniform(5, 9)
    return [
        cylinder(diameter, length, "glass"),
        cylinder(diameter - 0.7, length - 0.5, "water", displaces="glass"),
        cylinder(diameter + 0.2, 1.2, "plastic", [0, 0, length / 2 + 0.6]),
    ]


def shoe(rng: Random) -> Thing:
    """A shoe: sole and heel, and an upper that is lower at the toe."""
    length, width = rng.uniform(15, 20), rng.uniform(6, 8)
    return [
        box([length, width, 1.2], "plastic", [0, 0, 0.6]),
        box([0.25 * length, 0.9 * width, 1.5], "plastic", [-0.37 * length, 0, 1.9]),
        ellipsoid([0.95 * length, 0.95 * width, 5], "textile", [0, 0, 2.4]),
        ellipsoid([0.5 * length, 0.85 * width, 8], "textile", [-0.2 * length, 0, 4.5]),
        cylinder(0.5, 0.9 * width, "steel", [-0.1 * length, 0, 5.5], along=1),  # eyelets
    ]


def batteries(rng: Random) -> Thing:
    """A pack of round cells, which are as dense as steel, with a pole in front of each."""
    diameter, length = (1.4, 5.0) if rng.random() < 0.5 else (2.6, 5.0)
    thing = []
    for number in range(rng.integers(2, 5)):
        side = number * diameter
        thing.append(cylinder(diameter, length, "steel", [0, side, 0], along=0))
        thing.append(cylinder(diameter - 0.1, length - 0.1, "circuit", [0, side, 0], along=0, displaces="steel"))
        thing.append(cylinder(0.4 * diameter, 0.4, "steel", [0.54 * length, side, 0], along=0))
    return thing


def bolts(rng: Random) -> Thing:
    """A plastic box of steel bolts in one layer or two staggered ones, all along the same axis."""
    diameter, length = rng.uniform(0.3, 0.6), rng.uniform(5, 8)
    pitch, columns, layers = 1.15 * diameter, rng.integers(9, 15), rng.integers(1, 3)
    thing = hollow_box([1.15 * length, pitch * (columns + 0.5) + 0.4, layers * pitch + 0.4], 0.15, "plastic")
    for column, layer in np.ndindex(columns, layers):
        at = [0, pitch * (column - columns / 2 + 0.25 + 0.5 * layer), pitch * (layer - (layers - 1) / 2)]
        thing.append(cylinder(diameter, length, "steel", at, along=0))
    return thing


def adapter(rng: Random) -> Thing:
    """A plug-in power adapter: a hollow copper coil in a steel core in a plastic shell, its pins to the front."""
    size = rng.uniform([6, 4, 3], [9, 6, 5])
    core = 0.5 * size
    return [
        *hollow_box(size, 0.25, "polymer"),
        box(core, "steel", displaces="air"),
        box(core * [1, 0.7, 0.7], "copper", displaces="steel"),
        box(core * [0.6, 0.5, 0.7], "air", displaces="copper"),
        *(cylinder(0.4, 2, "steel", [size[0] / 2 + 1, side, 0], along=0) for side in (-1, 1)),
    ]


def remote_control(rng: Random) -> Thing:
    """A remote control: a plastic shell with a circuit board, and two cells at its rear."""
    length, width = rng.uniform(13, 18), rng.uniform(4, 5.5)
    cells = [cylinder(1.0, 4.4, "circuit", [-0.25 * length, side, 0], along=0, displaces="air") for side in (-0.6, 0.6)]
    return [
        *hollow_box([length, width, 2.0], 0.2, "polymer"),
        box([0.9 * length, 0.8 * width, 0.16], "circuit", [0, 0, 0.6], displaces="air"),
        *cells,
    ]


def charger(rng: Random) -> Thing:
    """A plastic shell with a circuit board and a transformer, and a coiled lead in front of it."""
    size = rng.uniform([6, 4, 2.5], [10, 6, 4])
    return [
        *hollow_box(size, 0.2, "polymer"),
        box([0.85 * size[0], 0.85 * size[1], 0.16], "circuit", [0, 0, -0.3 * size[2]]),
        cylinder(0.4 * size[1], 0.3 * size[2], "copper", [-0.2 * size[0], 0, 0]),
        box([0.6 * size[0], 0.8 * size[1], 0.15], "steel", [0, 0, 0.35 * size[2]]),  # shield
        box([0.25 * size[0], 0.5 * size[1], 0.5 * size[2]], "aluminium", [0.25 * size[0], 0, 0]),
        *tube(rng.uniform(4, 6), 0.5, 0.9, "cable", at=[0.8 * size[0], 0, 0]),
    ]


def telephone(rng: Random) -> Thing:
    """A flat device: glass, circuit board, battery cell."""
    length, width = rng.uniform(12, 18), rng.uniform(6.5, 11)
    return [
        box([length, width, 0.9], "polymer"),
        box([0.95 * length, 0.95 * width, 0.1], "glass", [0, 0, 0.4], displaces="polymer"),
        box([0.5 * length, 0.7 * width, 0.4], "circuit", [-0.2 * length, 0, 0], displaces="polymer"),
        box([0.3 * length, 0.6 * width, 0.4], "aluminium", [0.28 * length, 0, 0], displaces="polymer"),
    ]


def ball(rng: Random) -> Thing:
    """A hollow ball or a solid one."""
    diameter = rng.uniform(4, 8)
    if rng.random() < 0.5:
        return [ellipsoid([0.6 * diameter] * 3, rng.choice(["glass", "plastic"]))]
    return [ellipsoid([diameter] * 3, "plastic"), ellipsoid([diameter - 0.8] * 3, "air", displaces="plastic")]


def drill(rng: Random) -> Thing:
    """A cordless drill: barrel, chuck and angled grip, with an outline much like a pistol's."""
    length, drop = rng.uniform(13, 16), rng.uniform(9, 12)
    grip = turn(1, rng.uniform(-15, 15))
    foot = grip @ [0, 0, -drop]
    return [
        *tube(5, 0.3, length, "polymer", along=0),
        *tube(3.8, 0.5, 0.4 * length, "steel", at=[-0.15 * length, 0, 0], along=0),
        cylinder(1.8, 4, "steel", [length / 2 + 1, 0, 0], along=0),
        box([3.5, 3, drop], "polymer", 0.5 * foot - [0.2 * length, 0, 0], rotation=grip),
        box([7, 5, 3], "circuit", foot - [0.2 * length, 0, 0], rotation=grip),
    ]


def hammer(rng: Random) -> Thing:
    """A steel head in front of a handle of plastic or wood."""
    length = rng.uniform(16, 20)
    head = rng.uniform([1.6, 7, 1.6], [2.2, 10, 2.2])
    handle = rng.choice(["plastic", "paper"])  # paper is as dense as wood and has the same composition
    return [box(head, "steel", [length / 2, 0, 0]), cylinder(rng.uniform(2, 3), length, handle, along=0)]


def wrench(rng: Random) -> Thing:
    """A spanner: a bar with a ring at each end, the larger one in front."""
    length, width, thick = rng.uniform(13, 18), rng.uniform(2.0, 2.8), rng.uniform(0.4, 1.2)
    return [
        box([length - width, 0.6 * width, thick], "steel"),
        *tube(2.0 * width, 0.4 * width, thick, "steel", at=[length / 2, 0, 0]),
        *tube(1.3 * width, 0.3 * width, thick, "steel", at=[-length / 2, 0, 0]),
    ]


def pliers(rng: Random) -> Thing:
    """Two crossed steel bars with sleeves, the jaws in front."""
    length, angle = rng.uniform(15, 19), rng.uniform(8, 20)
    thing = []
    for degrees in (-angle, angle):
        turned = turn(2, degrees)
        sleeve = turned @ [-0.25 * length, 0, 0]
        thing.append(box([length, 1.2, 0.6], "steel", rotation=turned))
        thing.append(box([0.5 * length, 1.9, 1.3], "polymer", sleeve, rotation=turned))
        thing.append(box([0.5 * length, 1.2, 0.6], "steel", sleeve, rotation=turned, displaces="polymer"))
    return thing


def lock(rng: Random) -> Thing:
    """A door lock: a flat steel case with a bolt, a cylinder and a handle."""
    size = rng.uniform([12, 6, 1.6], [16, 9, 2.2])
    return [
        *hollow_box(size, rng.uniform(0.15, 0.4), "steel"),
        box([4, 2, 0.4 * size[2]], "steel", [0.3 * size[0], 0.2 * size[1], 0], displaces="air"),
        *tube(2.6, 0.5, 5, "steel", at=[-0.2 * size[0], 0, 0]),
        box([0.9, 10, 0.9], "aluminium", [-0.2 * size[0], 3, 2.8]),
    ]


def caulking_gun(rng: Random) -> Thing:
    """A dispenser: a steel cradle with a cartridge, a rod and an angled handle."""
    length = rng.uniform(13, 16)
    handle = turn(1, rng.uniform(-20, 20))
    foot = handle @ [0, 0, -7.0] - [length / 2, 0, 0]
    return [
        *tube(4.5, 0.1, length, "steel", along=0),
        cylinder(4.1, 0.8 * length, "plastic", along=0, displaces="air"),
        cylinder(0.9, 0.4 * length, "steel", [-0.6 * length, 0, 0], along=0),
        box([2.4, 2.2, 8], "polymer", 0.5 * foot - [0.25 * length, 0, 1], rotation=handle),
    ]


def power_tool(rng: Random) -> Thing:
    """A cordless tool in its case, bedded in foam: a spindle in a steel housing, a motor, gears, a rail, an empty box.

    It is the pistol's counterpart, of the same metals and polymer.
    """
    scale = rng.uniform(0.8, 0.95)
    length = rng.uniform(16, 19)
    spindle = min(rng.uniform(10, 12), length - 6)  # ends in the housing
    case, middle = np.array([length + 1.5, 9, 6.5]), [0, 2.5, 1.4]
    foam = "textile"  # as dense as folded cotton
    solids = [
        *hollow_box(case, 0.35, "polymer", middle),
        box(case - 0.7, foam, middle, displaces="air"),
        box([length, 2.6, 2.8], "steel", [0, 0, 2.6], displaces=foam),  # housing
        box([length, 2.0, 2.5], "air", [0, 0, 2.45], displaces="steel"),
        *tube(1.8, 0.3, 3, "steel", at=[-0.25 * length, 0, 2.6], along=0),  # clutch
        *tube(1.4, 0.2, spindle, "steel", at=[3, 0, 2.6], along=0),
        cylinder(1.0, 2.5, "copper", [1.6 - length / 2, 0, 2.6], along=0),  # motor
        *tube(4.0, 0.3, 5.5, "steel", at=[5.6, 4.2, 2.2], along=0, displaces=foam),  # gears
        *hollow_box([16, 2.6, 2.2], 0.5, "polymer", displaces=foam),  # rail
        *hollow_box([10.5, 5, 3], 0.4, "polymer", [-2.5, 4, 0.4], displaces=foam),  # empty box for small parts
    ]
    return [solid.scaled(scale) for solid in solids]


# What a shop packs many of side by side, and how often. Hardly any is of bare steel, which a random teacher
# finds most anomalous.
GOODS: dict[Draw, float] = {
    power_tool: 2,
    bolts: 2,
    adapter: 1,
    batteries: 1,
    can: 2,
    bottle: 3,
    laid_bottle: 2,
    jar: 2,
    carton: 2,
    shoe: 3,
    charger: 3,
    telephone: 3,
    remote_control: 2,
    garment: 2,
    book: 2,
    ball: 1,
}
SMALL_METAL_GOODS: dict[Draw, float] = {bolts: 4, batteries: 1, adapter: 1}
TOOLS: dict[Draw, float] = {drill: 3, caulking_gun: 2, hammer: 0.3, wrench: 0.3, pliers: 0.3, lock: 0.3}


def draw_one(rng: Random, kinds: dict[Draw, float]) -> Draw:
    """Draws one of several kinds of things by its frequency."""
    weights = np.array(list(kinds.values()), float)
    return list(kinds)[rng.choice(len(kinds), p=weights / weights.sum())]
