import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from brittle_jax.data.parcels.solids import Solid, bounds, box, chord, cylinder, ellipsoid, turn

UP = np.array([0.0, 0.0, 1.0])


def length(solid, origin, direction):
    entry, leave = chord(solid, np.asarray(origin, float), np.asarray(direction, float))
    return np.maximum(leave - entry, 0)


def test_chords_through_simple_solids():
    assert length(box([2, 4, 6], "steel"), [0.5, 0.5, -9], UP) == pytest.approx(6)
    assert length(box([2, 4, 6], "steel"), [1.5, 0, -9], UP) == 0
    assert length(ellipsoid([2, 2, 6], "steel"), [0, 0, -9], UP) == pytest.approx(6)
    assert length(ellipsoid([2, 2, 6], "steel"), [0.6, 0, -9], UP) == pytest.approx(6 * 0.8)
    assert length(cylinder(2, 5, "steel"), [0.6, 0.7, -9], UP) == pytest.approx(5)
    assert length(cylinder(2, 5, "steel", along=0), [2, 0.6, -9], UP) == pytest.approx(1.6)


@pytest.mark.parametrize("shape", ["box", "cylinder", "ellipsoid"])
def test_chords_of_parallel_rays_add_up_to_the_volume_whatever_the_pose(shape):
    half_size = np.array([1.5, 1.5, 3.0]) if shape == "cylinder" else np.array([1.0, 2.0, 3.0])
    volume = {"box": 8, "cylinder": 2 * np.pi, "ellipsoid": 4 / 3 * np.pi}[shape] * half_size.prod()
    rotation = Rotation.random(rng=np.random.default_rng(1)).as_matrix()
    solid = Solid(shape, half_size, "steel").moved(rotation, np.array([1.0, -2.0, 5.0]))
    step = 0.02
    grid = np.arange(-7, 7, step)
    origin = np.stack([*np.meshgrid(grid + 1.0, grid - 2.0, indexing="ij"), np.zeros((len(grid),) * 2)])
    lengths = length(solid, origin, UP.reshape(3, 1, 1))
    assert lengths.sum() * step**2 == pytest.approx(volume, rel=2e-3)


def test_rays_are_inside_exactly_between_entry_and_leave():
    rng = np.random.default_rng(0)
    solid = Solid("cylinder", np.array([1.0, 1.0, 2.0]), "steel").moved(turn(0, 30) @ turn(1, 50), np.ones(3))
    direction = np.array([0.6, 0.0, 0.8])
    for origin in rng.uniform(-3, 3, (50, 3)):
        entry, leave = chord(solid, origin, direction)
        for distance in rng.uniform(-6, 6, 20):
            own = solid.rotation.T @ (origin + distance * direction - solid.centre)
            is_inside = np.hypot(own[0], own[1]) <= 1 and abs(own[2]) <= 2
            assert is_inside == (entry <= distance <= leave)


def test_bounds_hold_the_whole_solid():
    low, high = bounds([box([2, 4, 6], "steel", [1, 0, 0]), cylinder(2, 10, "steel", along=1)])
    np.testing.assert_allclose(low, [-1, -5, -3])
    np.testing.assert_allclose(high, [2, 5, 3])


def test_turn_is_counter_clockwise():
    np.testing.assert_allclose(turn(2, 90) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(turn(1, 90) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
