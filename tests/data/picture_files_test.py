"""Data sets of files, from the files to what networks see."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from brittle_jax.data.datasets.loading import load
from brittle_jax.errors import UserError
from tests.data.folders import save


def test_a_picture_is_the_same_array_in_every_class_and_split(settings, folder):
    for place in ("normal/twin.png", "scratch/twin.png", "dent/deep/twin.png"):
        save(folder / place, 99)
        (folder / place).write_bytes((folder / "normal/twin.png").read_bytes())
    dataset = load("image_folder", settings)
    twins = [index for index, sample in enumerate(dataset.samples.ids) if sample.endswith("twin.png")]
    first, *others = (dataset.images.read(index) for index in twins)
    assert len(others) == 2
    for other in others:
        np.testing.assert_array_equal(first, other)
    assert len(np.unique(dataset.samples.digests[twins])) == 1


def test_changed_files_are_read_again_and_unchanged_ones_are_not(settings, folder, capsys):
    before = load("image_folder", settings)
    assert "preparing" in capsys.readouterr().out
    load("image_folder", settings)
    assert "preparing" not in capsys.readouterr().out
    save(folder / "normal" / "0.png", 230)
    os.utime(folder / "normal" / "0.png", ns=(0, 0))
    after = load("image_folder", settings)
    index = after.samples.ids.tolist().index("normal/0.png")
    assert np.abs(after.images.read(index).astype(int) - before.images.read(index)).mean() > 200
    assert before.identity() != after.identity()


def spoil(folder):
    (folder / "normal" / "empty.png").write_bytes(b"")
    (folder / "scratch" / "text.jpg").write_text("no picture")
    os.symlink("/etc/hostname", folder / "dent" / "link.png")
    os.symlink(folder / "normal" / "gone.png", folder / "dent" / "gone.png")
    os.symlink(folder.parent, folder / "dent" / "outside")
    os.symlink(folder / "dent" / "loop.png", folder / "dent" / "loop.png")


SPOILED = {
    "normal/empty.png": "empty file",
    "scratch/text.jpg": "not a picture",
    "dent/link.png": "a link that leads out of the folder",
    "dent/gone.png": "a link to nowhere",
    "dent/loop.png": "cannot be read: Too many levels of symbolic links",
    "dent/outside": "a link that leads out of the folder",
}


def test_bad_pictures_are_an_error_that_names_them_all(settings, folder):
    spoil(folder)
    with pytest.raises(UserError) as error:
        load("image_folder", settings)
    assert "6 of 15 samples cannot be used" in str(error.value)
    assert "data.on_bad_image=skip" in str(error.value)
    for sample, reason in SPOILED.items():
        assert f"'{sample}' ({reason})" in str(error.value)


def test_bad_pictures_can_be_left_out(settings, folder, capsys):
    spoil(folder)
    settings = replace(settings, on_bad_image="skip")
    dataset = load("image_folder", settings)
    assert dict(dataset.skipped) == SPOILED
    assert len(dataset.samples.ids) == 9
    assert "6 of 15 samples cannot be used" in capsys.readouterr().err
    settings = replace(settings, on_bad_image="fail")
    with pytest.raises(UserError, match="6 of 15"):
        load("image_folder", settings)


def test_repaired_files_are_checked_again(settings, folder):
    outside = folder.parent / "outside.png"
    save(outside)
    os.symlink(outside, folder / "normal" / "link.png")
    with pytest.raises(UserError, match="leads out of the folder"):
        load("image_folder", settings)
    (folder / "normal" / "link.png").unlink()
    shutil.copy2(outside, folder / "normal" / "link.png")  # of the same size and time
    assert len(load("image_folder", settings).samples.ids) == 10


def test_swapped_files_of_equal_size_and_time_are_read_again(settings, folder):
    one, other = folder / "normal" / "a.bmp", folder / "normal" / "b.bmp"
    for file, value in ((one, 10), (other, 200)):
        save(file, value)
        os.utime(file, ns=(0, 0))
    dataset = load("image_folder", settings)
    before = dataset.images.read(dataset.samples.ids.tolist().index("normal/a.bmp")).mean()
    os.rename(one, folder / "x.tmp")
    os.rename(other, one)
    os.rename(folder / "x.tmp", other)
    dataset = load("image_folder", settings)
    assert dataset.images.read(dataset.samples.ids.tolist().index("normal/a.bmp")).mean() > before + 100


def test_two_runs_at_once_prepare_once_and_both_see_what_is_bad(settings, folder):
    (folder / "normal" / "bad.png").write_bytes(b"")
    code = (
        "import sys\n"
        "from brittle_jax.data.datasets.loading import load\n"
        "from tests.data.settings import make_settings\n"
        "settings = make_settings(sys.argv[1], path=sys.argv[2], on_bad_image='skip')\n"
        "print(load('image_folder', settings).skipped)"
    )
    command = [sys.executable, "-c", code, settings.dir, settings.path]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [run.communicate()[0] for run in runs]
    assert all("(('normal/bad.png', 'empty file'),)" in text for text in printed)
    assert sum("preparing" in text for text in printed) == 1


def test_at_most_twenty_are_named(settings, folder):
    for number in range(30):
        (folder / "normal" / f"bad{number:02d}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"30 of 39 .*'normal/bad19.png' \(empty file\), and 10 more;") as error:
        load("image_folder", settings)
    assert "bad20" not in str(error.value)


def test_a_folder_without_a_readable_picture_is_refused_even_if_bad_ones_may_be_skipped(settings, folder):
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        file.write_bytes(b"")
    settings = replace(settings, on_bad_image="skip")
    with pytest.raises(UserError, match="9 of 9 samples cannot be used"):
        load("image_folder", settings)


def test_pictures_beyond_the_size_limit_are_refused(settings):
    settings = replace(settings, max_image_pixels=599)
    with pytest.raises(UserError, match="9 of 9 .*30 x 20 pixels, more than data.max_image_pixels"):
        load("image_folder", settings)
