"""Data sets of files, from the files to what networks see."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from PIL import Image

from brittle_jax.data import one_class
from brittle_jax.data.datasets import plant_pathology
from brittle_jax.data.datasets.loading import load
from brittle_jax.errors import UserError
from brittle_jax.recipes import image_folder_row

_NOBODY = 65534


def save(file, value=0, size=(20, 30)):
    """Saves a picture of noise around a grey value."""
    noise = np.random.default_rng([value, *os.fsencode(file.name)]).integers(0, 20, (*size, 3))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((value + noise).astype(np.uint8)).save(file)


@pytest.fixture
def folder(tmp_path):
    """Six normal pictures, and three anomalies of two kinds."""
    for number in range(6):
        save(tmp_path / "own" / "normal" / f"{number}.png", 10 * number)
    save(tmp_path / "own" / "scratch" / "0.jpg", 200)
    save(tmp_path / "own" / "dent" / "deep" / "1.bmp", 210)
    save(tmp_path / "own" / "dent" / "2.tif", 220)
    return tmp_path / "own"


@pytest.fixture
def config(folder, tmp_path):
    config = image_folder_row("smoke")
    config.data.dir, config.data.path = str(tmp_path / "data"), str(folder)
    return config


def test_a_folder_is_read_with_its_kinds_of_anomalies(config):
    images = load("image_folder", config)
    assert images.classes == ("normal", "dent", "scratch")
    assert images.synthetic is False and images.official_split is None
    assert images.ids.tolist()[:2] == ["dent/2.tif", "dent/deep/1.bmp"]
    assert np.bincount(images.labels).tolist() == [6, 2, 1]
    assert images.read_image(3).shape == images.image_shape == (32, 32, 3)
    assert images.read_view(3, 0).shape == (20, 30, 3)
    assert images.skipped == ()


def test_a_picture_is_the_same_array_in_every_class_and_split(config, folder):
    for place in ("normal/twin.png", "scratch/twin.png", "dent/deep/twin.png"):
        save(folder / place, 99)
        (folder / place).write_bytes((folder / "normal/twin.png").read_bytes())
    images = load("image_folder", config)
    twins = [index for index, sample in enumerate(images.ids) if sample.endswith("twin.png")]
    first, *others = (images.read_image(index) for index in twins)
    assert len(others) == 2
    for other in others:
        np.testing.assert_array_equal(first, other)
    assert len(np.unique(images.digests[twins])) == 1


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


def test_changed_files_are_read_again_and_unchanged_ones_are_not(config, folder, capsys):
    before = load("image_folder", config)
    assert "preparing" in capsys.readouterr().out
    load("image_folder", config)
    assert "preparing" not in capsys.readouterr().out
    save(folder / "normal" / "0.png", 230)
    os.utime(folder / "normal" / "0.png", ns=(0, 0))
    after = load("image_folder", config)
    index = after.ids.tolist().index("normal/0.png")
    assert np.abs(after.read_image(index).astype(int) - before.read_image(index)).mean() > 200
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
    "dent/link.png": "leads out of the folder, or nowhere",
    "dent/gone.png": "cannot be read: No such file or directory",
    "dent/loop.png": "cannot be read: Too many levels of symbolic links",
    "dent/outside": "leads out of the folder, or nowhere",
}


def test_bad_pictures_end_the_run_with_all_of_them_named(config, folder):
    spoil(folder)
    with pytest.raises(UserError) as error:
        load("image_folder", config)
    assert "6 of 15 samples cannot be used" in str(error.value)
    assert "--config.data.on_bad_image=skip" in str(error.value)
    for sample, reason in SPOILED.items():
        assert f"'{sample}' ({reason})" in str(error.value)


def test_bad_pictures_can_be_left_out(config, folder, capsys):
    spoil(folder)
    config.data.on_bad_image = "skip"
    images = load("image_folder", config)
    assert dict(images.skipped) == SPOILED
    assert len(images.ids) == 9
    assert "6 of 15 samples cannot be used" in capsys.readouterr().err
    config.data.on_bad_image = "fail"
    with pytest.raises(UserError, match="6 of 15"):
        load("image_folder", config)


def test_mended_files_are_looked_at_again(config, folder):
    outside = folder.parent / "outside.png"
    save(outside)
    os.symlink(outside, folder / "normal" / "link.png")
    with pytest.raises(UserError, match="leads out of the folder"):
        load("image_folder", config)
    (folder / "normal" / "link.png").unlink()
    shutil.copy2(outside, folder / "normal" / "link.png")  # of the same size and time
    assert len(load("image_folder", config).ids) == 10


def test_swapped_files_of_one_size_and_time_are_read_again(config, folder):
    one, other = folder / "normal" / "a.bmp", folder / "normal" / "b.bmp"
    for file, value in ((one, 10), (other, 200)):
        save(file, value)
        os.utime(file, ns=(0, 0))
    images = load("image_folder", config)
    before = images.read_image(images.ids.tolist().index("normal/a.bmp")).mean()
    os.rename(one, folder / "x.tmp")
    os.rename(other, one)
    os.rename(folder / "x.tmp", other)
    images = load("image_folder", config)
    assert images.read_image(images.ids.tolist().index("normal/a.bmp")).mean() > before + 100


def test_two_runs_at_once_prepare_once_and_both_see_what_is_bad(config, folder):
    (folder / "normal" / "bad.png").write_bytes(b"")
    code = (
        "import sys; from brittle_jax.recipes import image_folder_row\n"
        "from brittle_jax.data.datasets.loading import load\n"
        "config = image_folder_row('smoke'); config.data.dir, config.data.path = sys.argv[1:]\n"
        "config.data.on_bad_image = 'skip'; print(load('image_folder', config).skipped)"
    )
    command = [sys.executable, "-c", code, config.data.dir, config.data.path]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [run.communicate()[0] for run in runs]
    assert all("(('normal/bad.png', 'empty file'),)" in text for text in printed)
    assert sum("preparing" in text for text in printed) == 1


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


def test_a_table_without_test_pictures_keeps_its_splits(config, folder):
    config.data.path = write_table(
        folder, "path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,calibration\n"
    )
    images = load("image_folder", config)
    assert images.official_split.tolist() == ["train", "calibration"]
    with pytest.raises(UserError, match="has no normal test samples"):
        one_class.configurations(images, config)


def test_the_order_of_a_table_changes_nothing(config, folder):
    lines = [f"normal/{number}.png,normal" for number in range(6)] + ["scratch/0.jpg,scratch"]
    config.data.max_train_samples = 2
    chosen = []
    for ordered in (lines, lines[::-1]):
        config.data.path = write_table(folder, "\n".join(["path,label", *ordered]) + "\n")
        images = load("image_folder", config)
        (configuration,) = one_class.configurations(images, config)
        chosen.append(images.ids[configuration.train].tolist())
    assert chosen[0] == chosen[1]


def test_other_labels_are_another_data_set(config, folder):
    keys = []
    for label in ("normal", "scratch"):
        config.data.path = write_table(folder, f"path,label\nnormal/0.png,normal\nnormal/1.png,{label}\n")
        keys.append(load("image_folder", config).identity()["sha256"])
    assert keys[0] != keys[1]


def test_at_most_twenty_are_named(config, folder):
    for number in range(30):
        (folder / "normal" / f"bad{number:02d}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"30 of 39 .*'normal/bad19.png' \(empty file\), and 10 more;") as error:
        load("image_folder", config)
    assert "bad20" not in str(error.value)


def test_where_no_picture_can_be_read_all_are_named(config, folder):
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        file.write_bytes(b"")
    config.data.on_bad_image = "skip"
    with pytest.raises(UserError, match="9 of 9 samples cannot be used"):
        load("image_folder", config)


def test_larger_pictures_than_the_limit_are_refused(config):
    config.data.max_image_pixels = 599
    with pytest.raises(UserError, match="9 of 9 .*30 x 20 pixels, more than data.max_image_pixels"):
        load("image_folder", config)


def test_a_link_inside_the_folder_is_followed(config, folder):
    os.symlink(folder / "normal" / "0.png", folder / "normal" / "again.png")
    images = load("image_folder", config)
    assert "normal/again.png" in images.ids and images.skipped == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: folder.rename(folder.parent / "moved"), "no such folder or file"),
        (lambda folder: (folder / "normal").rename(folder / "good"), "has no folder normal: put the normal pictures"),
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


def write_table(folder, text):
    table = folder / "table.csv"
    table.write_text(text)
    return str(table)


def test_a_table_gives_labels_and_splits(config, folder):
    config.data.path = write_table(
        folder,
        "path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,calibration\nnormal/2.png,normal,test\n"
        "scratch/0.jpg,scratch,test\n",
    )
    images = load("image_folder", config)
    assert images.ids.tolist() == ["normal/0.png", "normal/1.png", "normal/2.png", "scratch/0.jpg"]
    assert images.classes == ("normal", "scratch")
    assert images.official_split.tolist() == ["train", "calibration", "test", "test"]


def test_a_table_without_splits_leaves_them_to_the_draw(config, folder):
    config.data.path = write_table(folder, "\ufeffpath,label\nnormal/0.png,normal\nnormal/1.png,normal\n")
    assert load("image_folder", config).official_split is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column label and no path, or no lines"),
        ("file,label\na.png,normal\n", "no column path"),
        ("path,label\nnormal/0.png,\n", "line 2: no label"),
        ("path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,\n", "line 3: split is ''"),
        ("path,label,split\nnormal/0.png,normal,training\n", "line 2: split is 'training', not one of train"),
        ("path,label\nnormal/0.png,normal\nnormal/0.png,normal\n", "two samples have the id 'normal/0.png'"),
        ("path,label\nnormal/0.png,normal\n./normal//0.png,normal\n", "two samples have the id 'normal/0.png'"),
        ("path,label\n\n\nnormal/0.png,Normal\n", "line 4: label is 'Normal', write 'normal'"),
        ("path,label\nnormal/\0.png,normal\n", "cannot be used"),
        ("path,label\nnormal/0.png,scratch\n", "no pictures of the class normal"),
        ("path,label\n/etc/passwd,normal\n", "'/etc/passwd' \\(leads out of the folder, or nowhere\\)"),
        ("path,label\n../../x.png,normal\n", "'../../x.png' \\(leads out of the folder, or nowhere\\)"),
        ("path,label\nmissing.png,normal\n", "'missing.png' \\(cannot be read: No such file or directory\\)"),
    ],
)
def test_a_table_that_does_not_hold_is_refused(config, folder, text, message):
    config.data.path = write_table(folder, text)
    with pytest.raises(UserError, match=message):
        load("image_folder", config)


@pytest.fixture
def leaves(tmp_path):
    """Plant Pathology's files, as Kaggle has them."""
    folder = tmp_path / "leaves"
    lines = ["image_id,healthy,multiple_diseases,rust,scab"]
    for number in range(12):
        columns = ["0"] * 4
        columns[number % 4] = "1"
        lines.append(f"Train_{number},{','.join(columns)}")
        save(folder / "images" / f"Train_{number}.jpg", 10 * number, (32, 48))
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def plant_config(leaves, tmp_path):
    config = image_folder_row("smoke")
    config.data.name, config.data.dir, config.data.path = "plant_pathology", str(tmp_path / "data"), str(leaves)
    return config


def test_plant_pathology_is_read_as_published(plant_config):
    images = load("plant_pathology", plant_config)
    assert images.classes == ("healthy", "multiple_diseases", "rust", "scab")
    numbers = [int(sample.removeprefix("Train_")) for sample in images.ids]
    assert images.labels.tolist() == [number % 4 for number in numbers]
    assert 50 <= images.read_image(numbers.index(5)).mean() <= 70


def test_plant_pathology_is_found_in_the_manual_folder(plant_config, leaves, tmp_path):
    manual = tmp_path / "data" / plant_pathology.FOLDER
    manual.parent.mkdir(parents=True)
    leaves.rename(manual)
    plant_config.data.path = ""
    assert load("plant_pathology", plant_config).synthetic is False
    (manual / "train.csv").write_text("image_id,healthy\nTrain_0,1\n")
    with pytest.raises(UserError, match="no column multiple_diseases and no rust and no scab"):
        load("plant_pathology", plant_config)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Train_0,0,0,0,0", "line 2: one of healthy, .* must be 1, 0 are"),
        ("Train_0,1,0,1,0", "line 2: one of healthy, .* must be 1, 2 are"),
        ("Train_0,1,0", "line 2: no rust and no scab"),
        ("Train_0,1,0,0,0\nTrain_0,0,0,0,1", "two samples have the id 'Train_0'"),
    ],
)
def test_a_label_that_does_not_hold_is_refused(plant_config, leaves, line, message):
    (leaves / "train.csv").write_text(f"image_id,healthy,multiple_diseases,rust,scab\n{line}\n")
    with pytest.raises(UserError, match=message):
        load("plant_pathology", plant_config)


def test_plant_pathology_that_is_not_there_says_how_to_get_it(plant_config, tmp_path):
    plant_config.data.path, plant_config.data.stand_in = "", False
    with pytest.raises(UserError, match="plant-pathology-2020-fgvc7 from Kaggle, unpack"):
        load("plant_pathology", plant_config)
    plant_config.data.path = str(tmp_path)
    with pytest.raises(UserError, match="has no train.csv"):
        load("plant_pathology", plant_config)
