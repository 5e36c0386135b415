import base64
import io

import numpy as np
import pytest
from PIL import Image

from brittle_jax import files
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.preprocess import data_uri
from brittle_jax.errors import UserError
from brittle_jax.report.examples import View, choose_examples, collect_examples, read_examples
from tests.conftest import make_dataset


def test_extremes_and_mistakes_are_chosen_worst_first():
    labels = np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([0.1, 0.9, 0.5, 0.2, 0.8, 0.7])
    assert choose_examples(labels, scores, per_group=2) == {
        "Most anomalous": [1, 4],
        "Least anomalous": [0, 3],
        "Normal with the highest scores": [1, 2],
        "Anomalous with the lowest scores": [3, 5],
    }


def read(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_small_pictures_are_kept_exactly():
    picture = np.random.default_rng(0).integers(0, 256, (32, 20, 3), np.uint8)
    uri = data_uri(picture)
    assert uri.startswith("data:image/png;base64,")
    np.testing.assert_array_equal(np.asarray(read(uri)), picture)


def test_large_pictures_are_made_smaller_and_keep_their_shape():
    uri = data_uri(np.full((900, 600, 3), 200, np.uint8))
    assert uri.startswith("data:image/jpeg;base64,")
    image = read(uri)
    assert image.size == (213, 320)
    assert np.abs(np.asarray(image).astype(int) - 200).max() <= 3


@pytest.fixture
def parcels():
    """Two parcels, two views each of 40 by 60 pixels, two patches of 48 a view, wider than the picture is high."""
    boxes = np.array([[-4, 0, 44, 48], [-4, 12, 44, 60]])
    return make_dataset(
        np.zeros((2, 40, 60, 3), np.uint8),
        classes=("soc", "threat"),
        ids=np.array(["a", "b"]),
        labels=np.array([0, 1]),
        sample_of_image=np.repeat([0, 1], 4),
        views=("top", "side"),
        view_of_image=np.tile([0, 0, 1, 1], 2),
        read_view=lambda sample, view: np.full((40, 60, 3), 100 * sample + view, np.uint8),
        box_of_image=np.tile(boxes, (4, 1)),
    )


def configuration(test):
    """Returns a configuration that tests these parcels, of which the second is anomalous."""
    nothing = np.array([])
    return Configuration("soc", "all", nothing, nothing, np.array(test), np.array(test), 0)


def test_the_deciding_patch_is_framed_in_its_own_view_and_inside_the_picture(parcels):
    image_scores = {"kd": np.array([1.0, 4.0, 2.0, 3.0, 1.0, 2.0, 9.0, 3.0])}
    chosen = configuration([0, 1])
    scores = {"kd": np.array([4.0, 9.0])}
    examples = collect_examples(parcels, chosen, np.arange(8), image_scores, scores)
    assert examples["groups"]["Most anomalous"] == ["b", "a"]
    a, b = examples["samples"]["a"], examples["samples"]["b"]
    assert (a["label"], a["class"], a["scores"]) == (0, "soc", {"kd": 4.0})
    assert [view["deciding_box"] for view in a["views"]] == [[0, 12, 40, 60], None]
    assert [view["deciding_box"] for view in b["views"]] == [None, [0, 0, 40, 48]]
    assert [view["name"] for view in b["views"]] == ["top", "side"]
    assert all(view["size"] == [40, 60] for view in b["views"])
    assert [np.asarray(read(view["picture"])).mean() for view in b["views"]] == [100, 101]


def test_examples_are_read_as_they_were_collected(parcels, tmp_path):
    image_scores = {"kd": np.array([1.0, 4.0, 2.0, 3.0, 1.0, 2.0, 9.0, 3.0])}
    chosen = configuration([1, 0])
    examples = collect_examples(parcels, chosen, np.arange(8), image_scores, {"kd": np.array([9.0, 4.0])})
    assert examples["kinds"] == ["threat", "soc"]
    path = tmp_path / "soc.json"
    files.write_json(path, examples | {"reconstructions": None})
    read = read_examples(path)
    assert read.kinds == ["threat", "soc"] and read.reconstructions is None
    assert {title: [card.id for card in cards] for title, cards in read.groups.items()} == examples["groups"]
    threat, soc = read.groups["Most anomalous"]
    assert (threat.id, threat.is_anomalous, threat.kind, threat.score) == ("b", True, "threat", 9.0)
    assert (soc.id, soc.is_anomalous, soc.kind, soc.score) == ("a", False, "soc", 4.0)
    picture = examples["samples"]["a"]["views"][0]["picture"]
    assert soc.views[0] == View("top", picture, 40, 60, (0, 12, 40, 60))


@pytest.mark.parametrize("change", ["missing", "views", "score", "size", "no pixels", "elsewhere"])
def test_examples_that_are_missing_or_damaged_are_named(parcels, tmp_path, change):
    chosen = configuration([1, 0])
    scores = {"kd": np.array([9.0, 4.0])}
    examples = collect_examples(parcels, chosen, np.arange(8), {"kd": np.arange(8.0)}, scores)
    sample = examples["samples"]["a"]
    path = tmp_path / "soc.json"
    if change == "views":
        del sample["views"]
    elif change == "score":
        sample["scores"]["kd"] = None
    elif change == "size":
        sample["views"][0]["size"] = [40]
    elif change == "no pixels":
        sample["views"][0]["size"] = [40, 0]
    elif change == "elsewhere":
        sample["views"][0]["picture"] = "https://example.org/a.png"
    if change != "missing":
        files.write_json(path, examples)
    with pytest.raises(UserError, match=f"soc.json is {'missing' if change == 'missing' else 'damaged'}"):
        read_examples(path)
