"""Plant Pathology as Kaggle has it."""

from dataclasses import replace

import pytest

from brittle_jax.data.datasets import plant_pathology
from brittle_jax.data.datasets.loading import load
from brittle_jax.errors import UserError
from tests.data.folders import save
from tests.data.settings import make_settings


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
def settings(leaves, tmp_path):
    return make_settings(tmp_path / "data", path=str(leaves))


def test_plant_pathology_is_read_as_published(settings):
    dataset = load("plant_pathology", settings)
    assert dataset.samples.classes == ("healthy", "multiple_diseases", "rust", "scab")
    numbers = [int(sample.removeprefix("Train_")) for sample in dataset.samples.ids]
    assert dataset.samples.labels.tolist() == [number % 4 for number in numbers]
    assert 50 <= dataset.images.read(numbers.index(5)).mean() <= 70


def test_plant_pathology_is_found_in_the_manual_folder(settings, leaves, tmp_path):
    manual = tmp_path / "data" / plant_pathology.FOLDER
    manual.parent.mkdir(parents=True)
    leaves.rename(manual)
    settings = replace(settings, path="")
    assert load("plant_pathology", settings).synthetic is False
    (manual / "train.csv").write_text("image_id,healthy\nTrain_0,1\n")
    with pytest.raises(UserError, match="no column multiple_diseases, rust or scab"):
        load("plant_pathology", settings)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Train_0,0,0,0,0", "line 2: one of healthy, .* must be 1, 0 are"),
        ("Train_0,1,0,1,0", "line 2: one of healthy, .* must be 1, 2 are"),
        ("Train_0,1,0", "line 2: no rust or scab"),
        ("Train_0,1,0,0,0\nTrain_0,0,0,0,1", "train.csv: lines 2 and 3 both name 'Train_0': remove one"),
    ],
)
def test_an_invalid_label_is_refused(settings, leaves, line, message):
    (leaves / "train.csv").write_text(f"image_id,healthy,multiple_diseases,rust,scab\n{line}\n")
    with pytest.raises(UserError, match=message):
        load("plant_pathology", settings)


def test_missing_files_of_plant_pathology_say_how_to_get_them(settings, tmp_path):
    settings = replace(settings, path="", stand_in=False)
    with pytest.raises(UserError, match="plant-pathology-2020-fgvc7 from Kaggle and unpack"):
        load("plant_pathology", settings)
    settings = replace(settings, path=str(tmp_path))
    with pytest.raises(UserError, match="has no train.csv"):
        load("plant_pathology", settings)


def test_the_images_may_be_a_link_and_are_counted(settings, leaves, tmp_path, capsys):
    (leaves / "images").rename(tmp_path / "elsewhere")
    (leaves / "images").symlink_to(tmp_path / "elsewhere")
    assert len(load("plant_pathology", settings).samples.ids) == 12
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"{leaves}: 12 pictures, Plant Pathology 2020 as Kaggle has it",
        "  healthy            3 pictures  images/",
    ]
