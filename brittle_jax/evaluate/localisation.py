"""How well maps and patches find where an anomaly is, where that is known."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from brittle_jax.errors import DegenerateDataError

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
    return float(np.mean([_meets(place, np.asarray(each)) for place, each in zip(places, boxes, strict=True)]))


def _meets(place: np.ndarray, boxes: np.ndarray) -> bool:
    overlap = np.minimum(place[2:], boxes[:, 2:]) - np.maximum(place[:2], boxes[:, :2])
    shared = np.maximum(overlap, 0).prod(axis=1)
    smaller = np.minimum((place[2:] - place[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    return bool(np.any(shared >= _HIT * smaller))


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
