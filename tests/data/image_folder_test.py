"""Folders of your own images."""

import os
import pathlib
import shutil
import tempfile
from dataclasses import replace

import numpy as np
import pytest

from brittle_jax.data import one_class
from brittle_jax.data.datasets.image_folder import list_pictures
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.splits import Splitting
from brittle_jax.errors import UserError
from tests.data.folders import save

_NOBODY = 65534


def test_a_folder_is_read_with_its_kinds_of_anomalies(settings):
    dataset = load("image_folder", settings)
    assert dataset.samples.classes == ("normal", "dent", "scratch")
    assert dataset.synthetic is False and dataset.samples.official_split is None
    assert dataset.samples.ids.tolist()[:2] == ["dent/2.tif", "dent/deep/1.bmp"]
    assert np.bincount(dataset.samples.labels).tolist() == [6, 2, 1]
    assert dataset.images.read(3).shape == dataset.images.shape == (32, 32, 3)
    assert dataset.read_view(3, 0).shape == (20, 30, 3)
    assert dataset.skipped == ()


def test_hidden_and_other_files_are_ignored(settings, folder):
    for name in ("normal/.hidden.png", "normal/notes.txt", "normal/Thumbs.db", "normal/.cache/0.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert len(load("image_folder", settings).samples.ids) == 9


@pytest.mark.parametrize(
    "name", ["a b.png", "ü.png", "a,b\"c'.png", "line\nbreak.png", "<b>.png", os.fsdecode(b"\xff.png")]
)
def test_odd_names_are_read(settings, folder, name):
    save(folder / "normal" / name)
    dataset = load("image_folder", settings)
    assert sum(str(sample).startswith("normal/") for sample in dataset.samples.ids) == 7
    for sample in dataset.samples.ids:
        str(sample).encode()  # can be written to any file


def test_a_folder_that_cannot_be_listed_is_refused(settings, folder):
    with tempfile.TemporaryDirectory() as root:  # unlike pytest's own, one that others may enter
        os.chmod(root, 0o755)
        own = pathlib.Path(shutil.copytree(folder, f"{root}/own"))
        (own / "dent").chmod(0)
        settings = replace(settings, path=str(own))
        user = os.geteuid()
        try:
            if user == 0:  # who may list everything
                os.seteuid(_NOBODY)
            with pytest.raises(UserError, match="cannot be listed: Permission denied"):
                load("image_folder", settings)
            with pytest.raises(PermissionError) as error:
                list_pictures(own)
            assert error.value.filename == str(own / "dent")
        finally:
            os.seteuid(user)
            (own / "dent").chmod(0o755)


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "x" * 300, os.fsdecode(b"/\xff"), "a\0b"])
def test_an_impossible_path_is_refused(settings, path):
    settings = replace(settings, path=path)
    with pytest.raises(UserError, match="data.path=.*(cannot be listed|no such folder)"):
        load("image_folder", settings)


def test_a_folder_of_anomalies_may_have_any_name(settings, folder):
    (folder / "dent").rename(folder / os.fsdecode(b"d\xff"))
    dataset = load("image_folder", settings)
    assert dataset.samples.classes == ("normal", "d\\xff", "scratch")
    assert len(dataset.samples.ids) == 9


def test_ignored_pictures_are_mentioned(settings, folder, capsys):
    (folder / "normal" / "photo.psd").write_bytes(b"x")
    save(folder / "loose.png")
    assert len(load("image_folder", settings).samples.ids) == 9
    printed = capsys.readouterr().err
    assert "normal: left out 1 file whose name is not that of a picture, normal/photo.psd\n" in printed
    assert "own: left out 1 picture that is in no folder, loose.png\n" in printed
    (folder / "normal" / "notes.txt").write_bytes(b"x")
    save(folder / "also.png")
    list_pictures(folder)
    printed = capsys.readouterr().err
    assert "left out 2 files whose names are not those of pictures, such as normal/notes.txt\n" in printed
    assert "left out 2 pictures that are in no folder, such as also.png\n" in printed


def test_a_link_between_folders_of_classes_is_not_followed(settings, folder):
    os.symlink(folder / "scratch", folder / "normal" / "scratch")
    assert len(load("image_folder", settings).samples.ids) == 9


def test_a_link_inside_the_folder_is_followed(settings, folder):
    os.symlink(folder / "normal" / "0.png", folder / "normal" / "again.png")
    dataset = load("image_folder", settings)
    assert "normal/again.png" in dataset.samples.ids and dataset.skipped == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: folder.rename(folder.parent / "moved"), "no such folder or file"),
        (
            lambda folder: (folder / "normal").rename(folder / "good"),
            "has a folder good but no normal: rename it to normal",
        ),
        (
            lambda folder: [file.unlink() for file in (folder / "normal").iterdir()],
            "own has no pictures in normal/: put the normal ones there$",
        ),
    ],
)
def test_a_folder_without_normal_pictures_is_refused(settings, folder, change, message):
    change(folder)
    with pytest.raises(UserError, match=message):
        load("image_folder", settings)


def test_an_empty_path_is_refused_unless_a_stand_in_is_allowed(settings):
    settings = replace(settings, path="")
    assert load("image_folder", settings).synthetic
    settings = replace(settings, stand_in=False)
    with pytest.raises(UserError, match="data.path is empty: name the folder that holds your pictures"):
        load("image_folder", settings)


def test_what_is_found_is_announced_before_it_is_read(settings, folder, capsys):
    for number in range(6, 1200):
        (folder / "normal" / f"{number}.png").write_bytes((folder / "normal" / "0.png").read_bytes())
    (folder / "scratch" / "0.jpg").rename(folder / "scratch" / "0.png")
    list_pictures(folder)
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        f"{folder}: 1,203 pictures, in a folder normal and in one for each kind of anomaly",
        "  normal   1,200 pictures  normal/",
        "  dent         2 pictures  dent/",
        "  scratch      1 picture   scratch/",
    ]
    assert output.err == ""


def test_few_normal_pictures_cause_a_warning(settings, folder, capsys):
    list_pictures(folder)
    assert "own: 6 normal pictures, fewer than 20: too few to learn what is normal\n" in capsys.readouterr().err
    for number in range(1, 6):
        (folder / "normal" / f"{number}.png").unlink()
    list_pictures(folder)
    assert "own: 1 normal picture, fewer than 20" in capsys.readouterr().err


def test_masks_are_left_out_with_a_warning(settings, folder, capsys):
    for place in ("ground_truth/dent/2.png", "dent/2_mask.tif", "scratch/Ground_Truth/0.png", "normal/0_MASK.png"):
        save(folder / place)
    dataset = load("image_folder", settings)
    assert np.bincount(dataset.samples.labels).tolist() == [6, 2, 1] and dataset.samples.classes == (
        "normal",
        "dent",
        "scratch",
    )
    assert "own: left out 4 masks, such as dent/2_mask.tif\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("good/0.png", "good"),
        ("OK/a/0.png", "OK"),
        ("Normal/0.png", "Normal"),
        ("normals/0.png", "normals"),
        ("dent/Good/0.png", "dent/Good"),
        ("test/a/normal/0.png", "test/a/normal"),
    ],
)
def test_folders_whose_names_mean_normal_are_refused_as_anomalies(settings, folder, place, named):
    save(folder / place)
    save(folder / "Normals" / "0.png")
    with pytest.raises(UserError, match=f"pictures in .*{named}.*, beside normal, would count as anomalies.*CSV table"):
        load("image_folder", settings)


def test_inside_normal_folders_may_have_any_name(settings, folder):
    save(folder / "normal" / "good" / "0.png")
    (folder / "ok").mkdir()  # and one without pictures is none
    dataset = load("image_folder", settings)
    assert np.bincount(dataset.samples.labels).tolist() == [7, 2, 1]


def test_a_folder_without_normal_says_what_it_holds_and_what_the_options_are(settings, folder):
    (folder / "normal").rename(folder / "fine")
    save(folder / "loose.png")
    message = r"has no folder normal \(it holds dent, fine, scratch and 1 picture in no folder\): put .*CSV.*MVTec AD"
    with pytest.raises(UserError, match=message):
        load("image_folder", settings)
    (folder / "fine").rename(folder / "Normal")
    with pytest.raises(UserError, match="has a folder Normal but no normal: rename it to normal"):
        load("image_folder", settings)


def test_a_picture_is_not_a_table(settings, folder):
    settings = replace(settings, path=str(folder / "normal" / "0.png"))
    with pytest.raises(UserError, match="0.png is a picture: name the folder that holds it"):
        load("image_folder", settings)


def test_an_mvtec_object_moved_by_hand_is_read_once_its_normal_pictures_are_together(settings, tmp_path, capsys):
    folder = tmp_path / "moved"
    parts = {"normal": 12, "Normal": 3, "test/good": 4, "test/broken": 4, "ground_truth/broken": 4}
    for part, count in parts.items():
        for number in range(count):
            save(folder / part / f"{number:03d}{'_mask' * part.startswith('ground')}.png", number)
    settings = replace(settings, path=str(folder))
    with pytest.raises(UserError, match="pictures in Normal, test/good, beside normal, would count as anomalies"):
        load("image_folder", settings)
    (folder / "Normal").rename(folder / "normal" / "more")
    (folder / "test" / "good").rename(folder / "normal" / "good")
    (configuration,) = one_class.configurations(
        load("image_folder", settings), "all", Splitting(seed=0, train_fraction=0.8)
    )
    assert configuration.test_labels.sum() == 4
    assert "left out 4 masks, such as ground_truth/broken/000_mask.png" in capsys.readouterr().err


def test_masks_belong_to_their_pictures(settings, folder, tmp_path, capsys):
    truth = folder / "ground_truth"
    for place in ("dent/2_mask.png", "dent/deep/1_mask.png", "dent/9_mask.png"):
        save(truth / place)
    save(folder / "dent" / "3.png")
    save(tmp_path / "elsewhere.png")
    (truth / "dent" / "3_mask.png").symlink_to(tmp_path / "elsewhere.png")  # leads out of the folder
    dataset = load("image_folder", settings)
    masks = {str(dataset.samples.ids[sample]): mask for sample, mask in dataset.mask_files.items()}
    expected = {"dent/2.tif": truth / "dent" / "2_mask.png", "dent/deep/1.bmp": truth / "dent" / "deep" / "1_mask.png"}
    assert masks == expected
    assert "own: left out 1 mask, ground_truth/dent/9_mask.png\n" in capsys.readouterr().err


def test_kinds_whose_names_contain_a_word_for_normal_or_mask_cause_a_warning(settings, folder, capsys):
    for name in ("Normal pictures", "normal_test", "masks", "not_ok", "no-good", "non normal", "ab.normal", "goodness"):
        save(folder / name / "0.png")
    dataset = load("image_folder", settings)
    assert len(dataset.samples.classes) == 3 + 8 and len(dataset.samples.ids) == 9 + 8
    printed = capsys.readouterr().err.splitlines()
    assert [line for line in printed if "anomaly" in line] == [
        f"warning: {folder}: Normal pictures, normal_test count as kinds of anomaly, though their names say normal",
        f"warning: {folder}: masks counts as a kind of anomaly, though its name says mask",
    ]


@pytest.mark.parametrize("name", ["test_good", "OK2", "Ground truth", "not good, ok", "mask"])
def test_one_word_is_enough_for_a_warning(settings, folder, capsys, name):
    save(folder / name / "0.png")
    list_pictures(folder)
    assert f"{folder}: {name} counts as a kind of anomaly, though its name says" in capsys.readouterr().err


def test_naming_the_folder_of_normal_pictures_points_to_its_parent(settings, folder, monkeypatch):
    save(folder / "normal" / "a" / "0.png")
    message = f"is the folder of normal pictures itself: name its parent, {folder}$"
    for path in (folder / "normal", f"{folder}/normal/"):
        settings = replace(settings, path=str(path))
        with pytest.raises(UserError, match=message):
            load("image_folder", settings)
    monkeypatch.chdir(folder / "normal")
    settings = replace(settings, path=".")
    with pytest.raises(UserError, match=message):
        load("image_folder", settings)


def test_naming_a_folder_called_good_points_to_its_parent_and_asks_to_rename_it(settings, folder):
    (folder / "normal").rename(folder / "Good")
    settings = replace(settings, path=str(folder / "Good"))
    with pytest.raises(UserError, match=f"itself: name its parent, {folder}, and rename Good to normal$"):
        load("image_folder", settings)


def test_a_link_to_nowhere_is_announced_as_no_picture(settings, folder, capsys):
    (folder / "bad").symlink_to(folder.parent / "nowhere")
    (folder / "dent" / "gone.png").symlink_to(folder.parent / "nowhere.png")
    (folder / "scratch" / "more").symlink_to(folder.parent)
    with pytest.raises(UserError, match="3 of 12 samples cannot be used: 'bad' \\(a link to nowhere\\)"):
        load("image_folder", settings)
    assert capsys.readouterr().out.splitlines()[:5] == [
        f"{folder}: 9 pictures, in a folder normal and in one for each kind of anomaly",
        "  normal   6 pictures  normal/",
        "  bad      0 pictures",
        "  dent     2 pictures  dent/",
        "  scratch  1 picture   scratch/",
    ]


def test_a_folder_of_normal_pictures_that_links_nowhere_is_empty(folder, capsys):
    (folder / "normal").rename(folder.parent / "before")
    (folder / "normal").symlink_to(folder.parent / "nowhere")
    list_pictures(folder)
    output = capsys.readouterr()
    assert "  normal   0 pictures\n" in output.out and "own: 0 normal pictures, fewer than 20" in output.err
