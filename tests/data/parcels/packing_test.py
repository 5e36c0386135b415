import numpy as np
import pytest

from brittle_jax.data.parcels import objects, packing
from brittle_jax.data.parcels.materials import MATERIALS
from brittle_jax.data.parcels.pistol import PARTS, ammunition, pistol
from brittle_jax.data.parcels.solids import bounds, box, chord, cylinder, ellipsoid


def whole_pistol(rng):
    return sum(pistol(rng).values(), [])


DRAWS = [*objects.GOODS, *objects.TOOLS, ammunition, whole_pistol]


@pytest.fixture(scope="module")
def normal_parcels():
    return [packing.pack(np.random.default_rng(seed), is_threat=False) for seed in range(40)]


@pytest.fixture(scope="module")
def threat_parcels():
    return [packing.pack(np.random.default_rng(seed), is_threat=True) for seed in range(100)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("draw", DRAWS)
def test_things_fit_onto_the_smallest_floor(draw, seed):
    thing = draw(np.random.default_rng(seed))
    assert all(solid.material in MATERIALS for solid in thing)
    assert all(solid.displaces in (None, *MATERIALS) for solid in thing)
    rng = np.random.default_rng(seed)
    tries = (packing._drop(rng, thing, np.zeros((24, 18))) for _ in range(10))
    placed = next(placed for placed in tries if placed)
    low, high = bounds(placed)
    assert (low[:2] > -1e-9).all() and (high[:2] <= [24, 18]).all()


@pytest.mark.parametrize("draw", DRAWS)
def test_no_hole_is_larger_than_what_it_is_cut_from(draw):
    """Along no ray may a thing hold less than nothing of a material."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        thing = draw(rng)
        low, high = bounds(thing)
        inside = rng.uniform(low, high, (2000, 3)).T
        along = np.concatenate([np.eye(3)[rng.integers(3, size=1000)], rng.normal(size=(1000, 3))]).T
        along /= np.linalg.norm(along, axis=0)
        crossed = dict.fromkeys(MATERIALS, 0.0)
        for solid in thing:
            entry, leave = chord(solid, inside - 100 * along, along)
            length = np.maximum(leave - entry, 0)
            crossed[solid.material] += length
            if solid.displaces:
                crossed[solid.displaces] -= length
        assert all(np.min(crossed[material]) > -1e-9 for material in MATERIALS if material != "air")


# Those whose solids lie beside or within one another. In the others, what two solids share counts twice.
FREE_OF_OVERLAPS = [
    objects.power_tool,
    objects.adapter,
    objects.bolts,
    objects.batteries,
    objects.can,
    objects.jar,
    objects.carton,
    objects.telephone,
    objects.remote_control,
    objects.book,
    objects.ball,
    ammunition,
]


@pytest.mark.parametrize("draw", FREE_OF_OVERLAPS)
def test_no_place_holds_two_materials(draw):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        thing = draw(rng)
        points = rng.uniform(*bounds(thing), (5000, 3)).T
        held = dict.fromkeys(MATERIALS, 0)
        for solid in thing:
            inside = holds(solid, points)
            held[solid.material] += inside
            if solid.displaces:
                held[solid.displaces] -= inside
        matter = np.array([held[material] * np.ones(points.shape[1]) for material in MATERIALS if material != "air"])
        assert matter.min() == 0 and matter.sum(axis=0).max() == 1


def holds(solid, points):
    """Returns whether points [3, N] lie in a solid, from its definition."""
    own = np.abs(solid.rotation.T @ (points - solid.centre[:, None])) / np.asarray(solid.half_size)[:, None]
    if solid.shape == "box":
        return own.max(axis=0) < 1
    if solid.shape == "ellipsoid":
        return np.linalg.norm(own, axis=0) < 1
    return (np.linalg.norm(own[:2], axis=0) < 1) & (own[2] < 1)


def test_a_power_tool_lies_in_its_case():
    for seed in range(300):
        case, inside, *others = objects.power_tool(np.random.default_rng(seed))
        for solid in others:
            assert (np.abs(solid.corners() - case.centre[:, None]) <= inside.half_size[:, None] + 1e-9).all()


def test_all_cartridges_find_room():
    for seed in range(40):
        wanted = np.random.default_rng(seed).integers(11, 22)  # the first draw
        assert len(ammunition(np.random.default_rng(seed))) == wanted


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


def test_only_threats_hold_a_pistol_and_ammunition(normal_parcels, threat_parcels):
    assert not any(solid.part for parcel in normal_parcels for solid in parcel.solids)
    for parcel in threat_parcels:
        assert {solid.part for solid in parcel.solids} - {""} == set(PARTS)


def test_three_in_ten_pistols_are_taken_apart(monkeypatch):
    monkeypatch.setattr(packing, "ammunition", lambda rng: [])  # which takes a while to draw
    rng = np.random.default_rng(0)
    num_things = [len(packing._draw_single_things(rng, is_threat=True)[0]) for _ in range(1000)]
    assert set(num_things) == {2, 5}  # with the cartridges
    assert 0.26 < np.mean(np.equal(num_things, 5)) < 0.34


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
