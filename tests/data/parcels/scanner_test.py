import numpy as np
import pytest

from brittle_jax.data.parcels import scanner
from brittle_jax.data.parcels.packing import LONGEST, Parcel, pack
from brittle_jax.data.parcels.pistol import PARTS
from brittle_jax.data.parcels.solids import box, ellipsoid

SIDE = 225  # five pixels a centimetre


def views_of(*solids, side_pixels=SIDE):
    parcel = Parcel(np.array([30.0, 20.0, 20.0]), list(solids))
    return scanner.scan(np.random.default_rng(0), parcel, side_pixels=side_pixels)


def test_a_slab_is_attenuated_by_beer_and_lamberts_law():
    slab = Parcel(np.array([30.0, 20.0, 20.0]), [box([30, 20, 4], "water", [0, 0, 10])])
    transmitted, _ = scanner.transmission(slab, scanner.FANS["top"], SIDE)
    low, high = -np.log(transmitted)
    row, column = np.array(low.shape) // 2
    # Rays are slanted: the path is the slab's thickness over the cosine.
    towards = np.array([-(row + 0.5 - low.shape[0] / 2) / 5, 110])
    path = 4 * np.linalg.norm(towards) / towards[1]
    np.testing.assert_allclose([low[row, column], high[row, column]], [0.2059 * path, 0.1505 * path], rtol=0.01)


@pytest.mark.parametrize(
    ("material", "thickness", "order"),
    [("paper", 5, "rgb"), ("water", 8, "rgb"), ("aluminium", 2, "grb"), ("steel", 0.4, "bgr"), ("steel", 3, "bgr")],
)
def test_colours_are_orange_green_and_blue(material, thickness, order):
    image = views_of(box([30, 20, thickness], material, [0, 0, 10]))["top"].image
    middle = image[tuple(np.array(image.shape[:2]) // 2)].astype(int)
    red, green, blue = middle
    ordered = [dict(zip("rgb", (red, green, blue), strict=True))[channel] for channel in order]
    assert ordered[0] > ordered[1] + 2 and ordered[0] > ordered[2] + 2
    if "b" != order[1]:
        assert ordered[1] >= ordered[2]


def test_air_is_near_white():
    image = views_of(ellipsoid([1, 1, 1], "water", [0, 0, 10]))["side"].image
    assert image[:5].min() > 240
    assert image[0, 0].min() > 0.92 * 255  # which is what air removal takes for air


def test_things_near_a_source_look_larger_and_things_above_lie_above():
    def extent(view, y, z):
        image = views_of(box([10, 6, 6], "steel", [0, y, z]), box([30, 0.1, 0.1], "air", [0, 0, 30]))[view].image
        rows = np.flatnonzero((image < 200).any(axis=(1, 2)))
        return len(rows), rows.mean() - image.shape[0] / 2

    assert extent("top", 0, 5)[0] > extent("top", 0, 25)[0]  # the source is below
    assert extent("side", -8, 10)[0] > extent("side", 8, 10)[0]  # and to the left
    assert extent("side", 0, 5)[1] > extent("side", 0, 25)[1]


def test_the_boxes_of_a_threats_parts_hold_its_steel():
    parcel = pack(np.random.default_rng(3), is_threat=True)
    only_parts = Parcel(parcel.size, [solid for solid in parcel.solids if solid.part])
    for view in scanner.scan(np.random.default_rng(0), only_parts, side_pixels=SIDE).values():
        assert set(view.boxes) == set(PARTS)
        outside = view.image.copy()
        for top, left, bottom, right in view.boxes.values():
            assert 0 <= top < bottom <= view.image.shape[0] and 0 <= left < right <= view.image.shape[1]
            assert (view.image[top:bottom, left:right] < 150).any()
            outside[top:bottom, left:right] = 255
        assert outside.min() > 200  # up to the detectors' blur, nothing lies outside the boxes


def test_normal_parcels_have_no_boxes():
    views = scanner.scan(np.random.default_rng(0), pack(np.random.default_rng(0), is_threat=False), side_pixels=64)
    assert all(not view.boxes for view in views.values())


@pytest.mark.parametrize("side_pixels", [45, 90, 450])
def test_views_scale_with_the_side(side_pixels):
    view = views_of(box([30, 20, 20], "water", [0, 0, 10]), side_pixels=side_pixels)["top"]
    expected = (30 + 2 * scanner._BORDER) * side_pixels / LONGEST
    assert abs(view.image.shape[1] - expected) <= 1
