import numpy as np
import pytest

from brittle_jax.data.parcels import objects, packing
from brittle_jax.data.parcels.materials import MATERIALS
from brittle_jax.data.parcels.pistol import PARTS, ammunition, pistol
from brittle_jax.data.parcels.solids import bounds, box, cylinder, ellipsoid


@pytest.fixture(scope="module")
def normal_parcels():
    return [packing.pack(np.random.default_rng(seed), is_threat=False) for seed in range(40)]


@pytest.fixture(scope="module")
def threat_parcels():
    return [packing.pack(np.random.default_rng(seed), is_threat=True) for seed in range(100)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "draw", [*objects.GOODS, *objects.TOOLS, ammunition, lambda rng: sum(pistol(rng).values(), [])]
)
def test_things_fit_onto_the_smallest_floor(draw, seed):
    thing = draw(np.random.default_rng(seed))
    assert all(solid.material in MATERIALS for solid in thing)
    assert all(solid.displaces in (None, *MATERIALS) for solid in thing)
    rng = np.random.default_rng(seed)
    tries = (packing._drop(rng, thing, np.zeros((24, 18))) for _ in range(10))
    placed = next(placed for placed in tries if placed)
    low, high = bounds(placed)
    assert (low[:2] > -1e-9).all() and (high[:2] <= [24, 18]).all()


def test_an_empty_box_can_be_told_from_its_contents(normal_parcels):
    for parcel in normal_parcels:
        walls = [solid for solid in parcel.solids if "cardboard" in (solid.material, solid.displaces)]
        assert walls == parcel.solids[:2]


@pytest.mark.parametrize("is_threat", [False, True])
def test_the_same_seed_packs_the_same_parcel(is_threat):
    first, again, other = (packing.pack(np.random.default_rng(seed), is_threat=is_threat) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.size, again.size)
    assert len(first.solids) == len(again.solids)
    np.testing.assert_array_equal(first.solids[-1].centre, again.solids[-1].centre)
    assert (first.size != other.size).any()


def test_only_threats_hold_a_pistol_and_ammunition_and_three_in_ten_are_taken_apart(normal_parcels, threat_parcels):
    assert not any(solid.part for parcel in normal_parcels for solid in parcel.solids)
    distances = []
    for parcel in threat_parcels:
        assert {solid.part for solid in parcel.solids} - {""} == set(PARTS)
        slide, barrel = (
            next(solid.centre for solid in parcel.solids if solid.part == part) for part in ("slide", "barrel")
        )
        distances.append(np.linalg.norm(slide - barrel))
    # Whole, the barrel lies in the slide, some 3 cm from its middle.
    taken_apart = np.mean(np.array(distances) > 4)
    assert 0.2 < taken_apart < 0.4


def test_things_come_to_rest_on_others():
    heights = np.full((30, 20), 2.0)
    (ball,) = packing._drop(np.random.default_rng(0), [ellipsoid([6, 6, 6], "steel")], heights)
    assert ball.centre[2] == pytest.approx(2 + 3, abs=0.15)  # the rays may miss its lowest point by a little
    assert heights.max() == pytest.approx(2 + 6, abs=0.3)
    assert 16 <= (heights > 2).sum() <= 45
    (block,) = packing._drop(np.random.default_rng(1), [box([12, 12, 12], "steel")], np.full((20, 20), 5.0))
    assert bounds([block])[0][2] == pytest.approx(5)


def test_nothing_is_left_where_it_would_tip_over():
    plate = [cylinder(12, 1, "steel")]
    heights = np.zeros((17, 17))
    heights[:, :6] = 10  # carries less than half of it, and leaves no room for it on the floor
    assert packing._drop(np.random.default_rng(0), plate, heights) == []
    heights[:, -6:] = 10  # carries its other end
    (lying,) = packing._drop(np.random.default_rng(0), plate, heights)
    assert lying.centre[2] == pytest.approx(10.5)


def test_parcels_are_no_longer_than_the_longest(normal_parcels, threat_parcels):
    for parcel in normal_parcels + threat_parcels:
        assert (parcel.size <= packing.LONGEST + 2 * packing._WALL).all()
        heights = [solid.centre[2] for solid in parcel.solids]
        assert 0 < min(heights) and max(heights) < parcel.size[2]


def test_most_parcels_hold_equal_goods_that_all_face_the_same_way(normal_parcels):
    """So that there is an orientation that rotations can be learned from."""
    facing = []
    for parcel in normal_parcels:
        first, *others = parcel.solids[2:]  # after the box
        copies = [each for each in others if np.array_equal(each.half_size, first.half_size)]
        facing.append(bool(copies) and all(np.allclose(each.rotation, first.rotation) for each in copies))
    assert np.mean(facing) > 0.8
