import numpy as np
import pytest

from brittle_jax.data.parcels import objects, packing
from brittle_jax.data.parcels.materials import MATERIALS
from brittle_jax.data.parcels.pistol import PARTS, pistol
from brittle_jax.data.parcels.solids import bounds, box, ellipsoid


@pytest.fixture(scope="module")
def normal_parcels():
    return [packing.pack(np.random.default_rng(seed), is_threat=False) for seed in range(40)]


@pytest.fixture(scope="module")
def threat_parcels():
    return [packing.pack(np.random.default_rng(seed), is_threat=True) for seed in range(100)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("draw", [*objects.CLUTTER, *objects.PIECES, lambda rng: sum(pistol(rng).values(), [])])
def test_things_fit_into_every_parcel(draw, seed):
    thing = draw(np.random.default_rng(seed))
    assert all(solid.material in MATERIALS for solid in thing)
    assert all(solid.displaces in (None, *MATERIALS) for solid in thing)
    low, high = bounds(packing._posed(np.random.default_rng(seed), thing, np.array([28.0, 20.0])))
    np.testing.assert_allclose(low, 0, atol=1e-9)
    assert (high[:2] <= [28, 20]).all()


def test_what_fits_on_edge_only_is_put_on_edge():
    sheet = [box([27.5, 23.5, 3], "paper", [1, 2, 3])]
    low, high = bounds(packing._posed(np.random.default_rng(0), sheet, np.array([28.0, 20.0])))
    np.testing.assert_allclose(high - low, [27.5, 3, 23.5])


@pytest.mark.parametrize("is_threat", [False, True])
def test_the_same_seed_packs_the_same_parcel(is_threat):
    first, again, other = (packing.pack(np.random.default_rng(seed), is_threat=is_threat) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.size, again.size)
    assert len(first.solids) == len(again.solids)
    np.testing.assert_array_equal(first.solids[-1].centre, again.solids[-1].centre)
    assert (first.size != other.size).any()


def test_only_threats_hold_a_pistol_and_a_third_are_taken_apart(normal_parcels, threat_parcels):
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
    assert 0.2 < taken_apart < 0.45


def test_things_come_to_rest_on_others():
    heights = np.full((30, 20), 2.0)
    (ball,) = packing._drop(np.random.default_rng(0), [ellipsoid([6, 6, 6], "steel")], heights)
    assert ball.centre[2] == pytest.approx(2 + 3, abs=0.15)  # the grid may miss its lowest point by a little
    assert heights.max() == pytest.approx(2 + 6, abs=0.3)
    assert 16 <= (heights > 2).sum() <= 36
    (block,) = packing._drop(np.random.default_rng(1), [box([15, 15, 15], "steel")], np.full((20, 20), 5.0))
    assert bounds([block])[0][2] == pytest.approx(5, abs=1.5)  # tilted a little, its lowest corner may be missed


def test_parcels_are_no_longer_than_the_longest(normal_parcels, threat_parcels):
    for parcel in normal_parcels + threat_parcels:
        assert (parcel.size <= packing.LONGEST + 2 * packing._WALL).all()
        heights = [solid.centre[2] for solid in parcel.solids]
        assert 0 < min(heights) and max(heights) < parcel.size[2]


def test_parcels_are_heavier_below(normal_parcels):
    """So that the side view has an up, which rotations can be learned from."""
    below = above = 0.0
    for parcel in normal_parcels:
        steel = [s for s in parcel.solids if s.material == "steel" and s.displaces in (None, "air")]
        centres = np.array([solid.centre[2] for solid in steel])
        volumes = np.array([np.prod(solid.half_size) for solid in steel])
        below += volumes[centres < parcel.size[2] / 2].sum()
        above += volumes[centres >= parcel.size[2] / 2].sum()
    assert below > 1.5 * above
