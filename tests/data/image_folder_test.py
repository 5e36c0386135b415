"""Folders of pictures of one's own."""

import os
import pathlib
import shutil
import tempfile

import numpy as np
import pytest

from brittle_jax.data.datasets.loading import load
from brittle_jax.errors import UserError
from tests.data.folders import save

_NOBODY = 65534


def test_a_folder_is_read_with_its_kinds_of_anomalies(config):
    images = load("image_folder", config)
    assert images.classes == ("normal", "dent", "scratch")
    assert images.synthetic is False and images.official_split is None
    assert images.ids.tolist()[:2] == ["dent/2.tif", "dent/deep/1.bmp"]
    assert np.bincount(images.labels).tolist() == [6, 2, 1]
    assert images.read_image(3).shape == images.image_shape == (32, 32, 3)
    assert images.read_view(3, 0).shape == (20, 30, 3)
    assert images.skipped == ()


def test_hidden_and_other_files_do_not_count(config, folder):
    for name in ("normal/.hidden.png", "normal/notes.txt", "normal/Thumbs.db", "normal/.cache/0.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert len(load("image_folder", config).ids) == 9


@pytest.mark.parametrize(
    "name", ["a b.png", "ü.png", "a,b\"c'.png", "line\nbreak.png", "<b>.png", os.fsdecode(b"\xff.png")]
)
def test_odd_names_are_read(config, folder, name):
    save(folder / "normal" / name)
    images = load("image_folder", config)
    assert sum(str(sample).startswith("normal/") for sample in images.ids) == 7
    for sample in images.ids:
        str(sample).encode()  # can be written to any file


def test_a_folder_that_cannot_be_listed_is_refused(config, folder):
    with tempfile.TemporaryDirectory() as root:  # unlike pytest's own, one that others may enter
        os.chmod(root, 0o755)
        own = pathlib.Path(shutil.copytree(folder, f"{root}/own"))
        (own / "dent").chmod(0)
        config.data.path = str(own)
        user = os.geteuid()
        try:
            if user == 0:  # who may list everything
                os.seteuid(_NOBODY)
            with pytest.raises(UserError, match="cannot be listed: Permission denied"):
                load("image_folder", config)
        finally:
            os.seteuid(user)
            (own / "dent").chmod(0o755)


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "x" * 300, os.fsdecode(b"/\xff"), "a\0b"])
def test_a_path_that_cannot_be_is_refused(config, path):
    config.data.path = path
    with pytest.raises(UserError, match="data.path=.*(cannot be listed|no such folder)"):
        load("image_folder", config)


def test_a_folder_of_anomalies_may_have_any_name(config, folder):
    (folder / "dent").rename(folder / os.fsdecode(b"d\xff"))
    images = load("image_folder", config)
    assert images.classes == ("normal", "d\\xff", "scratch")
    assert len(images.ids) == 9


def test_pictures_that_do_not_count_are_mentioned(config, folder, capsys):
    (folder / "normal" / "photo.psd").write_bytes(b"x")
    save(folder / "loose.png")
    assert len(load("image_folder", config).ids) == 9
    printed = capsys.readouterr().err
    assert "left out, 1 whose names are not pictures', such as normal/photo.psd" in printed
    assert "left out, 1 that lie in no folder, such as loose.png" in printed


def test_a_link_between_folders_of_classes_is_not_followed(config, folder):
    os.symlink(folder / "scratch", folder / "normal" / "scratch")
    assert len(load("image_folder", config).ids) == 9


def test_a_link_inside_the_folder_is_followed(config, folder):
    os.symlink(folder / "normal" / "0.png", folder / "normal" / "again.png")
    images = load("image_folder", config)
    assert "normal/again.png" in images.ids and images.skipped == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: folder.rename(folder.parent / "moved"), "no such folder or file"),
        (
            lambda folder: (folder / "normal").rename(folder / "good"),
            "but good: rename it to normal",
        ),
        (lambda folder: [file.unlink() for file in (folder / "normal").iterdir()], "no pictures of the class normal"),
    ],
)
def test_a_folder_without_normal_pictures_is_refused(config, folder, change, message):
    change(folder)
    with pytest.raises(UserError, match=message):
        load("image_folder", config)


def test_no_folder_at_all_is_refused_unless_one_may_be_made_up(config):
    config.data.path = ""
    assert load("image_folder", config).synthetic
    config.data.stand_in = False
    with pytest.raises(UserError, match="data.path is empty: name the folder that has your pictures"):
        load("image_folder", config)
