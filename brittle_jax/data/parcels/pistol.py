"""The threat: a pistol of steel and polymer, whole or taken apart, and loose cartridges; sizes in cm.

Axes: x points along the barrel to the muzzle, y across, z up. The origin lies at the rear of the trigger guard.
"""

import dataclasses

import numpy as np

from brittle_jax.data.parcels.objects import Random, Thing, hollow_box, tube
from brittle_jax.data.parcels.solids import Solid, box, cylinder, turn

PARTS = ("slide", "barrel", "frame", "magazine", "ammunition")  # the first four are the pistol's

_CARTRIDGE = {"diameter": 0.9, "length": 2.8, "material": "steel"}
_HEAP = (8, 8, 6)  # in which cartridges lie loosely
_TRIED_CARTRIDGES = 3000


def pistol(rng: Random) -> dict[str, Thing]:
    """Draws a pistol. Returns the assembled solids of each part into which it is taken apart for cleaning."""
    scale = rng.uniform(0.8, 0.95)
    lean = turn(1, rng.uniform(12, 22))  # the grip slopes to the rear, with the magazine in it
    parts = {
        "slide": _slide(rng),
        "barrel": _barrel(rng),
        "frame": _frame(lean),
        "magazine": _magazine(rng, lean),
    }
    return {name: _marked([solid.scaled(scale) for solid in solids], name) for name, solids in parts.items()}


def ammunition(rng: Random) -> Thing:
    """Draws 11 to 21 cartridges that lie this way and that in a loose heap; those that find no room are left out."""
    wanted = rng.integers(11, 22)
    cartridges: Thing = []
    # Points on the axes, 2 mm apart, so that cartridges pass through one another by 0.1 mm at most.
    axes = np.empty((0, 3))
    for _ in range(_TRIED_CARTRIDGES):
        rotation = turn(2, rng.uniform(0, 360)) @ turn(1, rng.uniform(0, 180))
        offset = (rng.random(3) - 0.5) * (np.array(_HEAP) - _CARTRIDGE["length"])
        axis = offset + np.linspace(-0.5, 0.5, 15)[:, None] * _CARTRIDGE["length"] * rotation[:, 2]
        if (np.linalg.norm(axis[:, None] - axes, axis=-1) > _CARTRIDGE["diameter"]).all():
            cartridges.append(cylinder(**_CARTRIDGE).moved(rotation, offset))
            axes = np.concatenate([axes, axis])
        if len(cartridges) == wanted:
            break
    return _marked(cartridges, "ammunition")


def _slide(rng: Random) -> Thing:
    length = rng.uniform(16, 19)
    at = np.array([3.0, 0, 4.0])
    return [
        box([length, 2.6, 2.8], "steel", at),
        box([length, 2.0, 2.5], "air", at - [0, 0, 0.15], displaces="steel"),
        *tube(1.8, 0.3, 3, "steel", at=at - [0.25 * length, 0, 0.2], along=0),  # breech block
    ]


def _barrel(rng: Random) -> Thing:
    length = rng.uniform(10, 12)
    at = np.array([6.0, 0, 4.0])
    return tube(1.4, 0.2, length, "steel", at=at, along=0)


def _frame(lean: np.ndarray) -> Thing:
    grip = lean @ [0, 0, -4.5] + [-3.2, 0, 1.0]
    return [
        box([16, 2.6, 2.2], "polymer", [3, 0, 1.6]),
        box([14, 1.4, 1.2], "air", [3, 0, 1.9], displaces="polymer"),
        box([6, 0.5, 0.6], "steel", [-1, 0, 1.9], displaces="air"),  # rails and trigger group
        box([5.2, 3.0, 11], "polymer", grip, rotation=lean),
        box([3.9, 2.2, 11], "air", grip, rotation=lean, displaces="polymer"),  # magazine well
        *tube(4.6, 0.45, 1.2, "polymer", at=[2.0, 0, -1.2], along=1),  # trigger guard
        box([0.5, 0.7, 2.2], "steel", [1.6, 0, -0.4], rotation=turn(1, -15)),  # trigger
    ]


def _magazine(rng: Random, lean: np.ndarray) -> Thing:
    middle = lean @ [0, 0, -4.5] + [-3.2, 0, 1.0]
    cartridges = []
    for number in range(rng.integers(0, 9) if rng.random() < 0.5 else 0):
        at = middle + lean @ [0, 0, 4.6 - 1.05 * number]
        turned = lean @ turn(1, 90)
        cartridges.append(Solid("cylinder", np.array([0.48, 0.48, 1.45]), "copper", at, turned, displaces="air"))
    return [
        *hollow_box([3.6, 2.0, 11.5], 0.2, "polymer", middle, rotation=lean),
        *cartridges,
        box([4.6, 2.8, 0.7], "polymer", middle + lean @ [0, 0, -6.0], rotation=lean),  # floor plate
    ]


def _marked(solids: Thing, part: str) -> Thing:
    return [dataclasses.replace(solid, part=part) for solid in solids]
