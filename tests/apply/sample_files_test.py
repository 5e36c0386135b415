"""Picture files to score: found in order, read ahead, and refused one by one."""

import numpy as np
import pytest
from PIL import Image

from brittle_jax.apply.preprocessing import Preprocessing
from brittle_jax.apply.sample_files import list_samples, read_samples
from brittle_jax.data.patches import PatchSettings
from brittle_jax.errors import UserError

WHOLE = Preprocessing(side_pixels=8)
PATCHES = Preprocessing(8, PatchSettings(size_pixels=8, max_stride_pixels=8, air_level=0.92, margin_pixels=0))


def save(file, shape=(12, 16, 3), seed=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 200, shape, np.uint8)
    Image.fromarray(pixels).save(file)
    return pixels


def read(samples, preprocessing=WHOLE, **options):
    return list(read_samples(samples, preprocessing, 10_000, most_ahead=3, **options))


def test_folders_and_files_are_listed_in_order_without_what_is_no_picture(tmp_path):
    for name in ("b/2.png", "b/10.jpg", "a.png", "b/x_mask.png", ".hidden.png", "ground_truth/a.png"):
        save(tmp_path / "in" / name)
    save(tmp_path / "z.png")
    (tmp_path / "in" / "notes.txt").write_text("", encoding="utf-8")
    samples = list_samples([str(tmp_path / "z.png"), str(tmp_path / "in")])
    assert [sample.path for sample in samples] == [
        str(tmp_path / name) for name in ("z.png", "in/a.png", "in/b/10.jpg", "in/b/2.png")
    ]
    assert [sample.group for sample in samples] == ["", ".", "b", "b"]


def test_nothing_to_score_is_one_line(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder or file"):
        list_samples([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no pictures, or none whose names end like a picture's"):
        list_samples([str(tmp_path / "empty")])


def test_what_is_read_is_resized_and_known_by_its_pixels(tmp_path):
    pixels = save(tmp_path / "in" / "a.png")
    Image.fromarray(pixels).save(tmp_path / "in" / "same.bmp")
    save(tmp_path / "in" / "grey.png", (9, 9))
    samples = list_samples([str(tmp_path / "in")])
    first, grey, same = read(samples, with_digests=True)
    np.testing.assert_array_equal(first.images, WHOLE.images_of(pixels))
    assert first.properties == same.properties == [(12, 16, 8, 0)] and grey.properties == [(9, 9, 8, 1)]
    assert first.digests == same.digests != grey.digests
    assert first.boxes.tolist() == [[0, 0, 12, 16]] and first.views.tolist() == [""]
    assert read(samples)[0].digests == []


def test_one_that_cannot_be_read_stops_no_other(tmp_path):
    for number in range(6):
        save(tmp_path / "in" / f"{number}.png")
    save(tmp_path / "outside.png")
    (tmp_path / "in" / "1.png").write_bytes(b"")
    (tmp_path / "in" / "3.png").write_bytes(b"no picture")
    (tmp_path / "in" / "4.png").unlink()
    (tmp_path / "in" / "4.png").symlink_to(tmp_path / "outside.png")
    save(tmp_path / "in" / "6.png", (200, 200, 3))
    found = read(list_samples([str(tmp_path / "in")]))
    assert [each.error for each in found] == [
        "",
        "empty file",
        "",
        "not a picture",
        "a link that leads out of the folder",
        "",
        "200 x 200 pixels, more than data.max_image_pixels",
    ]
    assert [each.images.shape for each in found] == [(0 if each.error else 1, 8, 8, 3) for each in found]
    (link,) = read(list_samples([str(tmp_path / "in" / "4.png")]))
    assert not link.error  # whoever names a link knows it


def test_the_views_of_a_parcel_are_one_sample(tmp_path):
    views = {
        end: save(tmp_path / "in" / f"12_{end}.png", (20, 12, 3), seed) for seed, end in enumerate(("top", "side"))
    }
    save(tmp_path / "in" / "13_side.png")
    save(tmp_path / "in" / "14_else.png")
    parcel, incomplete, other = read(list_samples([str(tmp_path / "in")], "_top,_side"), PATCHES)
    assert parcel.file.path == str(tmp_path / "in" / "12")
    expected = [PATCHES.images_and_boxes(views[view]) for view in ("top", "side")]
    np.testing.assert_array_equal(parcel.images, np.concatenate([images for images, _ in expected]))
    np.testing.assert_array_equal(parcel.boxes, np.concatenate([boxes for _, boxes in expected]))
    assert parcel.views.tolist() == ["top"] * len(expected[0][0]) + ["side"] * len(expected[1][0])
    for image, box, view in zip(parcel.images, parcel.boxes, parcel.views, strict=True):
        top, left, bottom, right = box
        np.testing.assert_array_equal(image, views[view][top:bottom, left:right])
    assert incomplete.error == "top view: missing"
    assert other.error == "its name, without the extension, ends in none of _top, _side"
    (alone,) = read(list_samples([str(tmp_path / "in" / "12_side.png")], "_top,_side"), PATCHES)
    assert set(alone.views) == {"side"}
