"""X-ray data sets in their published formats, written here file by file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.splits import Splitting
from brittle_jax.errors import UserError
from tests.data.settings import make_settings

SIDE = 96


def scan(file, seed, *, bits=8):
    """Saves a dark box on white, as a scanner would."""
    rng = np.random.default_rng(seed)
    picture = np.full((SIDE, SIDE + 10, 3), 255)
    picture[20:-20, 15:-15] = rng.integers(40, 180, 3) + rng.integers(-30, 30, (SIDE - 40, SIDE - 20, 1))
    file.parent.mkdir(parents=True, exist_ok=True)
    if bits == 16:
        Image.fromarray((picture[..., 0] * 257).astype(np.uint16)).save(file)
    else:
        Image.fromarray(picture.astype(np.uint8)).save(file)


@pytest.fixture
def settings(tmp_path):
    return make_settings(tmp_path / "data", path=str(tmp_path / "scans"))


def write_parcels(folder, views=("_top", "_side")):
    for label, count in (("soc", 10), ("threat", 3)):
        for number in range(count):
            for view in views:
                scan(folder / label / f"p{number}{view}.png", [number, len(view)])


def write_dvxray(folder, *, is_one_folder):
    """Ten clean scans and three with prohibited things."""
    for number in range(13):
        is_clean = number < 10
        kind = "Negative" if is_clean else "Positive"
        where = folder / ("DvXray" if is_one_folder else f"DvXray_{kind}_Samples")
        for view in ("OL", "SD"):
            scan(where / f"{number:05d}_{view}.png", number)
        things = [{"label": "Gun", "ol_bb": [40, 60, 20, 30], "sd_bb": "difficult"}]
        things.append({"label": "Lighter", "ol_bb": [1, 2, 3, 4], "sd_bb": [5, 6, 7, 8]})
        (where / f"{number:05d}.json").write_text(json.dumps({"objects": "None" if is_clean else things}))


def write_compass(folder, kinds=("Colour", "Low")):
    """Six harmless objects in four poses each, and two dangerous ones in three."""
    lines = ["basename\tclass\tdangerous\tinstance\tpose\tscan_tray"]
    objects = [(f"mug_{number}", "False", 4) for number in range(6)] + [("gun_0", "True", 3), ("gun_1", "True", 3)]
    for name, dangerous, poses in objects:
        for pose in range(poses):
            basename = f"{len(lines):04d}"
            lines.append(f"{basename}\t{name.split('_')[0]}\t{dangerous}\t{name}\t{pose}\tA")
            for kind in kinds:
                scan(folder / kind / f"{basename}.png", len(lines), bits=16 if kind == "Low" else 8)
    (folder / "meta.txt").write_text("\n".join(lines) + "\n")


WRITERS = {
    "parcels": write_parcels,
    "dvxray in one folder": lambda folder: write_dvxray(folder, is_one_folder=True),
    "dvxray in two folders": lambda folder: write_dvxray(folder, is_one_folder=False),
    "compass_xp": write_compass,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_set_as_published_becomes_patches(settings, tmp_path, kind):
    WRITERS[kind](tmp_path / "scans")
    dataset = load("xray", settings)
    assert dataset.synthetic is False
    assert dataset.samples.classes == ("soc", "threat")
    expected = [24, 6] if kind == "compass_xp" else [10, 3]
    assert np.bincount(dataset.samples.labels).tolist() == expected
    views = {"parcels": ("top", "side"), "compass_xp": ("",)}.get(kind, ("OL", "SD"))
    assert dataset.views == views
    assert dataset.images.read(0).shape == (64, 64, 3)
    # Air is removed up to a margin of 8 pixels, so a patch is a box of at most the object and its margin.
    assert dataset.box_of_image[:, 0].min() == 12 and dataset.box_of_image[:, 1].min() == 7


def test_patch_settings_change_without_preparing_again(settings, tmp_path, capsys):
    write_parcels(tmp_path / "scans")
    before = load("xray", settings)
    assert "preparing" in capsys.readouterr().out
    smaller = replace(settings.patches, size_pixels=32, max_stride_pixels=16)
    settings = replace(settings, patches=smaller)
    after = load("xray", settings)
    assert "preparing" not in capsys.readouterr().out
    assert len(after.sample_of_image) > len(before.sample_of_image)


def test_a_missing_view_is_a_bad_sample(settings, tmp_path):
    write_parcels(tmp_path / "scans")
    (tmp_path / "scans" / "soc" / "p3_side.png").unlink()
    with pytest.raises(UserError, match=r"1 of 13 samples cannot be used: 'soc/p3' \(side view: missing\)"):
        load("xray", settings)
    settings = replace(settings, on_bad_image="skip")
    dataset = load("xray", settings)
    assert dataset.skipped == (("soc/p3", "side view: missing"),)
    assert len(dataset.samples.ids) == 12


def test_the_views_of_parcels_are_found_by_their_suffixes(settings, tmp_path):
    write_parcels(tmp_path / "scans", ("-0deg", "-90deg"))
    with pytest.raises(UserError, match="ends in none of _top, _side: set data.view_suffixes"):
        load("xray", settings)
    settings = replace(settings, view_suffixes="-90deg, -0deg")
    dataset = load("xray", settings)
    assert dataset.views == ("90deg", "0deg")
    assert len(dataset.samples.ids) == 13
    for suffixes in (",", "-a,_a"):
        settings = replace(settings, view_suffixes=suffixes)
        with pytest.raises(UserError, match="view_suffixes=.*: say how the file names of each view end"):
            load("xray", settings)


def test_a_link_out_of_the_folder_is_named(settings, tmp_path):
    write_parcels(tmp_path / "scans")
    write_parcels(tmp_path / "elsewhere")
    (tmp_path / "scans" / "soc" / "more").symlink_to(tmp_path / "elsewhere" / "soc")
    with pytest.raises(
        UserError, match="soc/more is a link that leads out of .*scans: put a folder of pictures there instead"
    ):
        load("xray", settings)


def test_scans_of_dvxray_without_annotation_are_counted(settings, tmp_path, capsys):
    write_dvxray(tmp_path / "scans", is_one_folder=True)
    (tmp_path / "scans" / "DvXray" / "00003.json").unlink()
    assert len(load("xray", settings).samples.ids) == 12
    assert "left out 2 pictures without NAME.json, such as DvXray/00003_OL.png" in capsys.readouterr().err


def test_two_files_for_one_view_are_refused(settings, tmp_path):
    write_parcels(tmp_path / "scans")
    scan(tmp_path / "scans" / "soc" / "p3_top.jpg", 0)
    with pytest.raises(UserError, match="p3_top.png: a second file for the same view of the same parcel"):
        load("xray", settings)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("False\tmug_0\t0", "maybe\tmug_0\t0", "line 2: dangerous is 'maybe', not True or False"),
        ("False\tmug_0\t0", "False\t\t0", "line 2: no instance"),
        ("0002\t", "0001\t", "meta.txt: lines 2 and 3 both name '0001': remove one"),
    ],
)
def test_an_invalid_line_of_compass_is_refused(settings, tmp_path, old, new, message):
    write_compass(tmp_path / "scans")
    table = tmp_path / "scans" / "meta.txt"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load("xray", settings)


def test_parcels_without_threats_are_trained_on_and_scored(settings, tmp_path):
    write_parcels(tmp_path / "scans")
    for file in (tmp_path / "scans" / "threat").iterdir():
        file.unlink()
    (configuration,) = one_class.configurations(load("xray", settings), "all", Splitting(seed=0, train_fraction=0.8))
    assert configuration.test_labels.tolist() == [0, 0]


def test_boxes_of_dvxray_are_stored_whichever_corner_comes_first(settings, tmp_path):
    write_dvxray(tmp_path / "scans", is_one_folder=True)
    dataset = load("xray", settings)
    (folder,) = (tmp_path / "data" / "picture_files").iterdir()
    source = tfds.builder_from_directory(folder / "2.0.0").as_data_source("all")
    threat = source[12]
    assert [thing.decode() for thing in threat["boxes"]["thing"]] == ["Gun", "Lighter"]
    np.testing.assert_array_equal(threat["boxes"]["box"][0], [[30, 20, 60, 40], [0, 0, 0, 0]])
    np.testing.assert_array_equal(threat["boxes"]["box"][1], [[2, 1, 4, 3], [6, 5, 8, 7]])
    boxes = dataset.anomaly_boxes[dataset.anomaly_boxes[:, 0] == 12].tolist()
    assert boxes == [[12, 0, 30, 20, 60, 40], [12, 0, 2, 1, 4, 3], [12, 1, 6, 5, 8, 7]]  # none where none is given


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("{", "is not an annotation of DvXray"),
        ('{"things": []}', "is not an annotation of DvXray"),
        ('{"objects": "Gun"}', "its objects are 'Gun'"),
        ('{"objects": [{"label": "Gun", "ol_bb": [1, 2, 3], "sd_bb": "difficult"}]}', "a box is '\\[1, 2, 3\\]'"),
        ('{"objects": [{"label": "Gun", "ol_bb": "[1, 2,", "sd_bb": "difficult"}]}', "a box is '\\[1, 2,'"),
        ('{"objects": [{"label": "Gun", "ol_bb": [1, 2, 3, 1e999]}]}', "a box is '\\[1, 2, 3, inf\\]'"),
        ('{"objects": [{"label": "Gun", "ol_bb": [1, 2, 3, 99999999999]}]}', "a box is '\\[1, 2, 3, 99999999999\\]'"),
        ("[" * 100_000, "is not an annotation"),
    ],
)
def test_a_damaged_annotation_is_named(settings, tmp_path, annotation, message):
    write_dvxray(tmp_path / "scans", is_one_folder=True)
    (tmp_path / "scans" / "DvXray" / "00004.json").write_text(annotation)
    with pytest.raises(UserError, match=f"00004.json.* {message}"):
        load("xray", settings)


def test_one_object_of_compass_is_never_on_both_sides(settings, tmp_path):
    write_compass(tmp_path / "scans")
    dataset = load("xray", settings)
    for seed in range(4):
        (configuration,) = one_class.configurations(dataset, "all", Splitting(seed, train_fraction=0.8))
        assert set(dataset.samples.groups[configuration.train]).isdisjoint(dataset.samples.groups[configuration.test])
        assert len(configuration.train) == 20


def test_compass_has_kinds_of_8_and_of_16_bits(settings, tmp_path):
    write_compass(tmp_path / "scans")
    colour = load("xray", settings)
    settings = replace(settings, compass_kind="Low")
    low = load("xray", settings)
    np.testing.assert_array_equal(low.read_view(3, 0)[..., 0], colour.read_view(3, 0)[..., 0])
    settings = replace(settings, compass_kind="Gray")
    with pytest.raises(UserError, match="compass_kind='Gray': .* has Colour, Low"):
        load("xray", settings)


def test_a_folder_of_unknown_kind_is_refused(settings, tmp_path):
    with pytest.raises(UserError, match="scans: no such folder"):
        load("xray", settings)
    (tmp_path / "scans").mkdir()
    with pytest.raises(UserError, match="scans holds none of: soc/ and threat/"):
        load("xray", settings)
    (tmp_path / "scans" / "soc").mkdir()
    with pytest.raises(UserError, match="has no pictures in"):
        load("xray", settings)
    (tmp_path / "scans" / "soc").rmdir()
    (tmp_path / "scans" / "meta.txt").write_text("a\tb\n")
    with pytest.raises(UserError, match="has no column basename, dangerous or instance: its header is"):
        load("xray", settings)


def test_parcels_of_one_view_need_no_suffix(settings, tmp_path):
    write_parcels(tmp_path / "scans", views=("",))
    settings = replace(settings, view_suffixes="")
    dataset = load("xray", settings)
    assert dataset.views == ("",)
    assert np.bincount(dataset.samples.labels).tolist() == [10, 3]
    assert dataset.samples.ids.tolist()[0] == "soc/p0"


def test_what_is_found_is_announced(settings, tmp_path, capsys):
    write_parcels(tmp_path / "scans")
    load("xray", settings)
    assert capsys.readouterr().out.splitlines()[:3] == [
        f"{tmp_path / 'scans'}: 13 parcels, soc/ and threat/",
        "  soc     10 parcels  soc/",
        "  threat   3 parcels  threat/",
    ]


@pytest.mark.parametrize("kind", WRITERS)
def test_hidden_files_are_ignored_in_every_layout(settings, tmp_path, kind):
    WRITERS[kind](tmp_path / "scans")
    expected = len(load("xray", settings).samples.ids)
    for folder in [folder for folder in (tmp_path / "scans").rglob("*") if folder.is_dir()]:
        for name in ("00000_OL.png", "00000_top.png", "0001.png"):
            scan(folder / f"._{name}", 0)
            scan(folder / ".hidden" / name, 0)
        for name in ("._00000.json", ".hidden/00000.json"):
            (folder / name).write_bytes(b"\0\5\x16\7")
    (tmp_path / "scans" / ".Grey").mkdir()
    assert len(load("xray", settings).samples.ids) == expected
    settings = replace(settings, compass_kind=".Grey")
    if kind == "compass_xp":
        with pytest.raises(UserError, match="has Colour, Low$"):
            load("xray", settings)


@pytest.mark.parametrize("kind", ["parcels", "dvxray in two folders", "compass_xp"])
def test_folders_may_be_links(settings, tmp_path, kind):
    WRITERS[kind](tmp_path / "scans")
    expected = len(load("xray", settings).samples.ids)
    for number, folder in enumerate([folder for folder in (tmp_path / "scans").iterdir() if folder.is_dir()]):
        folder.rename(tmp_path / f"elsewhere{number}")
        folder.symlink_to(tmp_path / f"elsewhere{number}")
    dataset = load("xray", settings)
    assert len(dataset.samples.ids) == expected and dataset.skipped == ()


@pytest.mark.parametrize(
    ("kind", "place"), [("parcels", "soc"), ("dvxray in one folder", "DvXray"), ("compass_xp", "Colour")]
)
def test_deeper_links_that_lead_elsewhere_are_named(settings, tmp_path, kind, place):
    WRITERS[kind](tmp_path / "scans")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "scans" / place / "more"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        UserError, match=f"{place}/more is a link that leads out of .*scans: put a folder of pictures there instead"
    ):
        load("xray", settings)
    (tmp_path / "elsewhere").rmdir()
    with pytest.raises(UserError, match=f"{place}/more is a link to nowhere"):
        load("xray", settings)


def test_a_picture_that_is_a_link_to_nowhere_is_a_bad_sample(settings, tmp_path):
    write_parcels(tmp_path / "scans")
    (tmp_path / "scans" / "soc" / "p3_side.png").unlink()
    (tmp_path / "scans" / "soc" / "p3_side.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"1 of 13 samples cannot be used: 'soc/p3' \(side view: a link to nowhere\)"):
        load("xray", settings)


def test_a_class_that_is_a_link_to_nowhere_is_named(settings, tmp_path):
    write_parcels(tmp_path / "scans")
    (tmp_path / "scans" / "soc").rename(tmp_path / "elsewhere")
    (tmp_path / "scans" / "soc").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="scans/soc is a link to nowhere"):
        load("xray", settings)
