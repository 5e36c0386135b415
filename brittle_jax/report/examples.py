"""The test samples that say most about a detector: its extremes, and where it is most wrong; as pictures for a page."""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from brittle_jax import files
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.preprocess import data_uri
from brittle_jax.errors import DamagedError
from brittle_jax.evaluate.samples import Scores, deciding_images

DETECTOR = "kd"  # the method's own score chooses, unless another is recommended
_PER_GROUP = 6


def choose_examples(labels: np.ndarray, scores: np.ndarray, per_group: int = _PER_GROUP) -> dict[str, list[int]]:
    """Returns positions of the most and least anomalous samples, and of the worst mistakes, worst first.

    Args:
        labels: [S], 0 normal, 1 anomalous.
        scores: [S], higher is more anomalous.
        per_group: at most so many in each group.
    """
    ascending = np.argsort(scores, kind="stable")
    descending = ascending[::-1]
    groups = {
        "Most anomalous": descending,
        "Least anomalous": ascending,
        "Normal with the highest scores": descending[labels[descending] == 0],
        "Anomalous with the lowest scores": ascending[labels[ascending] == 1],
    }
    return {title: members[:per_group].tolist() for title, members in groups.items()}


def collect_examples(
    dataset: Dataset,
    configuration: Configuration,
    indices: np.ndarray,
    image_scores: Scores,
    scores: Scores,
    detector: str = DETECTOR,
) -> dict[str, Any]:
    """Returns the chosen test samples with their scores and pictures, ready for JSON.

    Args:
        indices: [M], the images that were scored.
        image_scores: [M] each, by detector.
        scores: [S] each, by detector: those of the configuration's test samples.
        detector: whose scores choose.

    Returns:
        `{"groups": {title: [id, ...]}, "samples": {id: {"label": 0, "class": "normal", "scores": {...}, "views":
        [...]}}, "kinds": [S]}`; a view has `name`, `picture` (a data URI), `size` (height, width in pixels) and
        `deciding_box` (where the score comes from: top, left, bottom, right, within the picture; null in views that
        did not decide, and without patches); `detector` is as given; `kinds` are the classes of all test samples, in
        their order.
    """
    groups = choose_examples(configuration.test_labels, scores[detector])
    deciding = deciding_images(dataset, indices, image_scores[detector], configuration.test)
    samples = {}
    for position in sorted({position for members in groups.values() for position in members}):
        samples[str(dataset.samples.ids[configuration.test[position]])] = {
            "label": int(configuration.test_labels[position]),
            "class": dataset.samples.classes[dataset.samples.labels[configuration.test[position]]],
            "scores": {name: float(values[position]) for name, values in scores.items()},
            "views": _views(dataset, configuration.test[position], deciding[position]),
        }
    ids = dataset.samples.ids[configuration.test]
    return {
        "groups": {title: ids[members].tolist() for title, members in groups.items()},
        "samples": samples,
        "detector": detector,
        "kinds": [dataset.samples.classes[label] for label in dataset.samples.labels[configuration.test]],
    }


def _views(dataset: Dataset, sample: int, deciding: int) -> list[dict[str, Any]]:
    views = []
    for view, name in enumerate(dataset.views):
        picture = dataset.read_view(sample, view)
        height, width = picture.shape[:2]
        box = None
        if dataset.box_of_image is not None and dataset.view_of_image[deciding] == view:
            box = np.clip(dataset.box_of_image[deciding], 0, [height, width, height, width]).tolist()
        views.append({"name": name, "picture": data_uri(picture), "size": [height, width], "deciding_box": box})
    return views


class View(NamedTuple):
    """One picture of a sample; `box` is where the score comes from, or None."""

    name: str
    picture: str
    height: int
    width: int
    box: tuple[int, int, int, int] | None  # top, left, bottom, right


class Card(NamedTuple):
    """A sample as a page shows it."""

    id: str
    is_anomalous: bool
    kind: str
    score: float
    views: list[View]


class Examples(NamedTuple):
    """What a page shows of one configuration's samples."""

    groups: dict[str, list[Card]]
    kinds: list[str]  # of all test samples; empty where an earlier version wrote the file
    reconstructions: str | None  # a data URI
    detector: str  # whose scores chose


def read_examples(path: pathlib.Path) -> Examples:
    """Reads what `collect_examples` gave.

    Raises:
        DamagedError: where the file is missing or damaged.
    """
    content = files.read_json(path)
    try:
        detector = content.get("detector", DETECTOR)
        cards = {id: _card(id, sample, detector) for id, sample in content["samples"].items()}
        groups = {title: [cards[id] for id in members] for title, members in content["groups"].items()}
        reconstructions = content.get("reconstructions")
        return Examples(
            groups=groups,
            kinds=[str(kind) for kind in content.get("kinds", ())],
            reconstructions=None if reconstructions is None else _picture(reconstructions),
            detector=detector,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(path, "not the examples of a run") from error


def _card(id: str, sample: dict[str, Any], detector: str) -> Card:
    return Card(
        id=id,
        is_anomalous=bool(sample["label"]),
        kind=str(sample["class"]),
        score=float(sample["scores"][detector]),
        views=[_view(view) for view in sample["views"]],
    )


def _view(view: dict[str, Any]) -> View:
    height, width = (int(pixels) for pixels in view["size"])
    if min(height, width) < 1:
        raise ValueError("no pixels")
    box = view["deciding_box"]
    if box is not None:
        top, left, bottom, right = (int(edge) for edge in box)
        box = (top, left, bottom, right)
    return View(str(view["name"]), _picture(view["picture"]), height, width, box)


def _picture(uri: str) -> str:
    if not uri.startswith("data:image/"):
        raise ValueError("not a picture within the page")
    return uri
