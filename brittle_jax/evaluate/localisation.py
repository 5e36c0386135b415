"""How well maps and patches find where an anomaly is, where that is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from brittle_jax.data.dataset import Dataset
from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate.metrics import share
from brittle_jax.evaluate.samples import Scores, deciding_images

_HIT = 0.5  # part of the smaller box that both have to share


def hit_rate(places: np.ndarray, boxes: Sequence[np.ndarray]) -> float:
    """Returns how often the place that decided a score shows an anomaly of its picture.

    A place and an anomaly meet if they share half of the smaller one, at least: a patch has to show half of a small
    object, and a single pixel has to lie within it.

    Args:
        places: [S, 4] int, top, left, bottom, right of the deciding patch of each anomalous picture; or [S, 2], row and
            column of a pixel, such as the largest of a map (`largest_pixel`).
        boxes: S times [B, 4], of the anomalies of each picture, at least one.

    Raises:
        DegenerateDataError: without pictures, or for a picture without a box.
    """
    places = np.asarray(places)
    if len(places) != len(boxes) or not len(places) or not all(len(each) for each in boxes):
        raise DegenerateDataError(f"{len(places)} places and {len(boxes)} lists of boxes: each place needs a box")
    if places.shape[1] == 2:
        places = np.concatenate([places, places + 1], axis=1)
    return float(np.mean([_meets(place[None], np.asarray(each)) for place, each in zip(places, boxes, strict=True)]))


def _meets(places: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns [P] bool: which places [P, 4] meet any of some boxes [B, 4]."""
    places, boxes = places[:, None], boxes[None]
    overlap = np.minimum(places[..., 2:], boxes[..., 2:]) - np.maximum(places[..., :2], boxes[..., :2])
    shared = np.maximum(overlap, 0).prod(axis=-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(axis=-1) for each in (places, boxes)]
    return np.any(shared >= _HIT * np.minimum(*areas), axis=1)


def hit_rates(dataset: Dataset, indices: np.ndarray, image_scores: Scores, samples: np.ndarray) -> dict[str, Any]:
    """Returns how often the patch that decides a sample's score shows its anomaly, and how often any patch would.

    Only samples count whose anomaly is marked in every view: elsewhere a patch could show one that nobody marked.

    Args:
        indices: [M], the images that were scored: the patches.
        image_scores: [M] each, by detector.
        samples: [S], indices of samples; all their images are among `indices`.

    Returns:
        `num_samples`, those that count; `hit_rate` and `hit_rate_interval` (95%, Wilson, over samples) by detector;
        `random_hit_rate`: what a patch drawn at random from all views of a sample would have, in the mean over samples.
        Empty if no sample counts, or images are not patches.
    """
    if dataset.box_of_image is None or dataset.anomaly_boxes is None:
        return {}
    marked = np.unique(dataset.anomaly_boxes[:, :2], axis=0)[:, 0]  # a sample, once for each view with a box
    counts = np.bincount(marked, minlength=len(dataset.samples))
    judged = samples[counts[samples] == len(dataset.views)]
    if not len(judged):
        return {}
    is_hit = np.zeros(len(dataset.images), bool)
    images = dataset.images_of(judged)
    for sample, view in np.unique(dataset.anomaly_boxes[:, :2], axis=0):
        patches = images[(dataset.sample_of_image[images] == sample) & (dataset.view_of_image[images] == view)]
        of_view = (dataset.anomaly_boxes[:, :2] == (sample, view)).all(axis=1)
        is_hit[patches] = _meets(dataset.box_of_image[patches], dataset.anomaly_boxes[of_view, 2:])
    num_images = np.bincount(dataset.sample_of_image[images], minlength=len(dataset.samples))[judged]
    num_hits = np.bincount(dataset.sample_of_image[images], is_hit[images], len(dataset.samples))[judged]
    found = {
        name: share(is_hit[deciding_images(dataset, indices, values, judged)]) for name, values in image_scores.items()
    }
    return {
        "num_samples": len(judged),
        "hit_rate": {name: rate for name, (rate, _) in found.items()},
        "hit_rate_interval": {name: interval for name, (_, interval) in found.items()},
        "random_hit_rate": float(np.mean(num_hits / num_images)),
    }


def largest_pixel(heat_map: np.ndarray, shape: tuple[int, int]) -> tuple[int, int]:
    """Returns row and column in a picture of `shape` where a map [h, w] is largest: the middle of that place."""
    row, column = np.unravel_index(np.argmax(heat_map), heat_map.shape)
    height, width = heat_map.shape
    return int((row + 0.5) * shape[0] / height), int((column + 0.5) * shape[1] / width)


def pixel_auroc(maps: np.ndarray, masks: np.ndarray) -> float:
    """Returns how often a map is larger at an anomalous pixel than at a normal one, over all pixels of all pictures.

    Args:
        maps: [N, H, W], of normal and of anomalous pictures.
        masks: [N, H, W]; pixels that are not 0 are anomalous.

    Raises:
        DegenerateDataError: if the shapes differ, or all pixels are of one kind.
    """
    maps, masks = np.asarray(maps), np.asarray(masks) != 0
    if maps.shape != masks.shape:
        raise DegenerateDataError(f"maps of shape {maps.shape} and masks of shape {masks.shape}: resize one of them")
    if masks.all() or not masks.any():
        raise DegenerateDataError("all pixels are of one kind: pixel AUROC needs normal and anomalous ones")
    return float(roc_auc_score(masks.ravel(), maps.ravel()))
