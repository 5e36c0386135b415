"""From the opened sources of a data set to an ImageSet: whole pictures, or patches of parcels."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from brittle_jax import console
from brittle_jax.data import patches, preprocess
from brittle_jax.data.image_set import ImageSet, remembered

_CHUNK = 512  # examples


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of a data set.

    Attributes:
        examples: by position, all features; its images are still encoded.
        read_encoded: position and name of an image feature to its bytes, without parsing the rest of the example.
    """

    examples: Sequence[dict]
    read_encoded: Callable[[int, str], bytes]


@dataclasses.dataclass(frozen=True)
class _Table:
    """What is known of the samples that can be used, without decoding them.

    Attributes:
        ids, labels, splits, groups: [S].
        digests: [S, V], of each view's bytes.
        places: [S, 2], source and position in it.
        skipped: ids and reasons of the others.
    """

    ids: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    groups: np.ndarray
    digests: np.ndarray
    places: np.ndarray
    skipped: tuple[tuple[str, str], ...]


def picture_set(
    name: str, classes: Sequence[str], sources: Mapping[str, Source], side: int, *, synthetic: bool
) -> ImageSet:
    """Returns a data set of labelled pictures, each resized to the size that networks see.

    Args:
        sources: by the name of their split; a source named "" holds examples that name theirs, if they have one.
        side: of the square images, in pixels.
    """
    table = _read_table(sources, ("image",))
    parts = list(sources.values())

    def read_encoded(sample: int) -> bytes:
        which, position = table.places[sample].tolist()
        return parts[which].read_encoded(position, "image")

    def read_resized(sample: int) -> np.ndarray:
        return preprocess.decode(read_encoded(sample), side)

    return ImageSet(
        **_fields_of(name, classes, table, synthetic),
        official_split=table.splits if "test" in sources or ("" in sources and np.any(table.splits != "")) else None,
        sample_of_image=np.arange(len(table.ids)),
        views=("",),
        view_of_image=np.zeros(len(table.ids), int),
        read_image=remembered(read_resized, len(table.ids), (side, side, 3)),
        image_shape=(side, side, 3),
        read_view=lambda sample, view: preprocess.decode(read_encoded(sample)),
        box_of_image=None,
    )


def patch_set(
    classes: Sequence[str],
    source: Source,
    features: Mapping[str, str],
    settings: ml_collections.ConfigDict,
    *,
    synthetic: bool,
) -> ImageSet:
    """Returns parcels as the patches of their views (Sec. 3.1).

    Args:
        features: names of the image features, by the name of their view.
        settings: `config.data.patches`.
    """
    names = list(features.values())
    table = _read_table({"": source}, names)

    @functools.lru_cache(maxsize=16)  # patches of one view are often read one after the other
    def read_view(parcel: int, view: int) -> np.ndarray:
        return preprocess.decode(source.read_encoded(int(table.places[parcel, 1]), names[view]))

    boxes, where = _find_patches(read_view, len(table.ids), len(names), settings)
    image_shape = (settings.size_pixels, settings.size_pixels, 3)

    def read_patch(index: int) -> np.ndarray:
        parcel, view, *origin = where[index].tolist()
        return patches.cut_patch(read_view(parcel, view), boxes[parcel, view], origin, settings.size_pixels)

    return ImageSet(
        **_fields_of("xray", classes, table, synthetic),
        official_split=None,
        sample_of_image=where[:, 0],
        views=tuple(features),
        view_of_image=where[:, 1],
        read_image=remembered(read_patch, len(where), image_shape),
        image_shape=image_shape,
        read_view=read_view,
        box_of_image=np.concatenate([where[:, 2:], where[:, 2:] + settings.size_pixels], axis=1),
    )


def _fields_of(name: str, classes: Sequence[str], table: _Table, synthetic: bool) -> dict[str, Any]:
    """Returns the fields of an ImageSet that do not depend on what an image is."""
    known = {field: getattr(table, field) for field in ("ids", "labels", "groups", "digests", "skipped")}
    return {"name": name, "classes": tuple(classes), "synthetic": synthetic, **known}


def _find_patches(read_view, num_parcels: int, num_views: int, settings: ml_collections.ConfigDict):
    """Returns the box of each parcel and view, and of every patch its parcel, view, top and left: [N, 4]."""
    views = list(itertools.product(range(num_parcels), range(num_views)))
    boxes, where = {}, []

    def find_box(parcel_and_view: tuple[int, int]) -> patches.Box:
        return patches.remove_air(read_view(*parcel_and_view), settings.air_level, settings.margin_pixels)

    with (
        concurrent.futures.ThreadPoolExecutor() as pool,  # decoding releases the interpreter lock
        console.track("patches of the parcels", len(views), unit="view") as progress,
    ):
        for view, box in zip(views, pool.map(find_box, views), strict=True):
            boxes[view] = box
            origins = patches.patch_origins(box, settings.size_pixels, settings.max_stride_pixels)
            where.extend((*view, *origin) for origin in origins)
            progress.update(1)
    return boxes, np.array(where, int).reshape(-1, 4)


def _read_table(sources: Mapping[str, Source], views: Sequence[str]) -> _Table:
    """Reads all but the images, of which it takes digests; a chunk at a time, so that memory stays flat."""
    rows, skipped = [], []
    for which, (split, source) in enumerate(sources.items()):
        for start in range(0, len(source.examples), _CHUNK):
            positions = range(start, min(start + _CHUNK, len(source.examples)))
            for position, example in zip(positions, source.examples.__getitems__(positions), strict=True):
                texts = {key: example[key].decode() for key in ("id", "split", "group", "bad") if key in example}
                own_id = texts.get("id") or f"{split}_{position:05d}"
                if texts.get("bad"):
                    skipped.append((own_id, texts["bad"]))
                    continue
                digests = [hashlib.sha256(example[view]).hexdigest()[:32] for view in views]
                own_split = texts.get("split", split)
                rows.append(
                    (own_id, example["label"], own_split, texts.get("group") or own_id, digests, position, which)
                )
    ids, labels, splits, groups, digests, positions, which = list(zip(*rows, strict=True)) or [()] * 7
    return _Table(
        ids=np.array(ids, str),
        labels=np.array(labels, int),
        splits=np.array(splits, str),
        groups=np.array(groups, str),
        digests=np.array(digests, str).reshape(-1, len(views)),
        places=np.stack([np.array(which, int), np.array(positions, int)], axis=1),
        skipped=tuple(skipped),
    )
