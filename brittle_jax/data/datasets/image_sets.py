"""From the opened splits of a data set to a `Dataset`: whole pictures, or patches of parcels."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from brittle_jax import console
from brittle_jax.data import patches
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.images import Images
from brittle_jax.data.patches import PatchSettings
from brittle_jax.data.samples import Samples

_MOST_AT_ONCE, _BYTES_AT_ONCE = 512, 2**25  # examples that are read together, and their bytes
_TINY_PIXELS = 8


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of a data set.

    Attributes:
        num_examples: how many there are.
        read_examples: from positions to examples with all features; images are still encoded.
        read_picture: from a position, the name of an image feature, and the side to resize to, or None, to
            [height, width, 3] uint8, without parsing the rest of the example.
    """

    num_examples: int
    read_examples: Callable[[Sequence[int]], Sequence[dict[str, Any]]]
    read_picture: Callable[[int, str, int | None], np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Table:
    """What is known about the usable samples without decoding them.

    Attributes:
        ids, labels, splits, groups: [S].
        digests: [S, V], of each view's bytes.
        files: [S, V, 5], of the file of each view: height and width in pixels, bit depth, smallest and largest value;
            None if the data set does not know.
        boxes: [B, 6], as `Dataset.anomaly_boxes`.
        places: [S, 2], source and position in it.
        skipped: ids of the unusable samples, and the reasons.
    """

    ids: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    groups: np.ndarray
    digests: np.ndarray
    files: np.ndarray | None
    boxes: np.ndarray
    places: np.ndarray
    skipped: tuple[tuple[str, str], ...]


def picture_set(
    name: str, classes: Sequence[str], sources: Mapping[str, Source], side: int, *, synthetic: bool
) -> Dataset:
    """Returns a data set of labelled pictures, each resized to the size that networks see.

    Args:
        sources: by the name of their split. A source named "" holds examples that name their own split, if any.
        side: of the square images, in pixels.
    """
    table = _read_table(sources, ("image",))
    _warn_of_tiny_pictures(table)
    parts = list(sources.values())

    def read_picture(sample: int, side: int | None = None) -> np.ndarray:
        which, position = table.places[sample].tolist()
        return parts[which].read_picture(position, "image", side)

    has_split = "test" in sources or ("" in sources and np.any(table.splits != ""))
    return Dataset(
        name=name,
        synthetic=synthetic,
        samples=_samples(classes, table, table.splits if has_split else None),
        images=Images(len(table.ids), (side, side, 3), lambda sample: read_picture(sample, side)).cached(),
        sample_of_image=np.arange(len(table.ids)),
        views=("",),
        view_of_image=np.zeros(len(table.ids), int),
        read_view=lambda sample, view: read_picture(sample),
        box_of_image=None,
        skipped=table.skipped,
        intensity=_intensity(table),
        files=table.files,
    )


def patch_set(
    classes: Sequence[str],
    source: Source,
    features: Mapping[str, str],
    settings: PatchSettings,
    *,
    synthetic: bool,
) -> Dataset:
    """Returns parcels as the patches of their views (Sec. 3.1).

    Args:
        features: names of the image features, by the name of their view.
        settings: how patches are cut.
    """
    names = list(features.values())
    table = _read_table({"": source}, names)
    _warn_of_tiny_pictures(table)

    @functools.lru_cache(maxsize=16)  # patches of one view are often read one after the other
    def read_view(parcel: int, view: int) -> np.ndarray:
        return source.read_picture(int(table.places[parcel, 1]), names[view], None)

    boxes, where = _find_patches(read_view, len(table.ids), len(names), settings)

    def read_patch(index: int) -> np.ndarray:
        parcel, view, *origin = where[index].tolist()
        return patches.cut_patch(read_view(parcel, view), boxes[parcel, view], origin, settings.size_pixels)

    side = settings.size_pixels
    return Dataset(
        name="xray",
        synthetic=synthetic,
        samples=_samples(classes, table, None),
        images=Images(len(where), (side, side, 3), read_patch).cached(),
        sample_of_image=where[:, 0],
        views=tuple(features),
        view_of_image=where[:, 1],
        read_view=read_view,
        box_of_image=np.concatenate([where[:, 2:], where[:, 2:] + side], axis=1),
        skipped=table.skipped,
        intensity=_intensity(table),
        files=table.files,
        anomaly_boxes=table.boxes if len(table.boxes) else None,
    )


def _samples(classes: Sequence[str], table: _Table, official_split: np.ndarray | None) -> Samples:
    return Samples(tuple(classes), table.ids, table.labels, official_split, table.groups, table.digests)


def _warn_of_tiny_pictures(table: _Table) -> None:
    if table.files is None or not len(table.ids):
        return
    sizes = table.files[..., :2].astype(int)
    is_tiny = sizes.min(axis=(1, 2)) < _TINY_PIXELS
    if is_tiny.any():
        first = np.flatnonzero(is_tiny)[0]
        height, width = sizes[first].reshape(-1, 2).min(axis=0)
        console.warn(
            f"{console.count(int(is_tiny.sum()), 'sample')} of less than {_TINY_PIXELS} x {_TINY_PIXELS} pixels, "
            f"such as {table.ids[first]} ({width} x {height}): they show hardly anything"
        )


def _intensity(table: _Table) -> dict[str, Any] | None:
    """Returns what `Dataset.intensity` says about picture files, except for their `range`."""
    if table.files is None or not len(table.ids):
        return None
    depths, counts = np.unique(table.files[..., 2].astype(int), return_counts=True)
    return {
        "bits": {str(bits): int(number) for bits, number in zip(depths, counts, strict=True)},
        "lowest": float(table.files[..., 3].min()),
        "highest": float(table.files[..., 4].max()),
    }


def _find_patches(read_view, num_parcels: int, num_views: int, settings: PatchSettings):
    """Returns the box of each parcel and view; and the parcel, view, top and left of every patch, [N, 4]."""
    views = list(itertools.product(range(num_parcels), range(num_views)))
    boxes, where = {}, []

    def find_box(parcel_and_view: tuple[int, int]) -> patches.Box:
        return patches.inside(read_view(*parcel_and_view), settings)

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
    """Reads everything but the images, of which it takes digests; in small groups, so that memory stays flat."""
    rows, boxes, skipped = [], [], []
    for which, (split, source) in enumerate(sources.items()):
        for position, example in _examples(source, views):
            texts = {key: example[key].decode() for key in ("id", "split", "group", "bad") if key in example}
            own_id = texts.get("id") or f"{split}_{position:05d}"
            if texts.get("bad"):
                skipped.append((own_id, texts["bad"]))
                continue
            boxes += [(len(rows), *box) for box in _boxes_of(example)]
            digests = [hashlib.sha256(example[view]).hexdigest()[:32] for view in views]
            own_split = texts.get("split", split)
            group = texts.get("group") or own_id
            rows.append((own_id, example["label"], own_split, group, digests, _file_of(example), position, which))
    ids, labels, splits, groups, digests, files, positions, which = list(zip(*rows, strict=True)) or [()] * 8
    return _Table(
        ids=np.array(ids, str),
        labels=np.array(labels, int),
        splits=np.array(splits, str),
        groups=np.array(groups, str),
        digests=np.array(digests, str).reshape(-1, len(views)),
        files=None if any(file is None for file in files) else np.array(files, float).reshape(-1, len(views), 5),
        boxes=np.array(boxes, int).reshape(-1, 6),
        places=np.stack([np.array(which, int), np.array(positions, int)], axis=1),
        skipped=tuple(skipped),
    )


def _examples(source: Source, views: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields all examples with their positions. Small ones are read together, which is faster."""
    start, at_once = 0, 1
    while start < source.num_examples:
        positions = range(start, min(start + at_once, source.num_examples))
        examples = source.read_examples(positions)
        yield from zip(positions, examples, strict=True)
        start += len(positions)
        size = sum(len(example[view]) for example in examples for view in views) / len(examples)
        at_once = int(np.clip(_BYTES_AT_ONCE / max(size, 1), 1, min(2 * at_once, _MOST_AT_ONCE)))


def _file_of(example: Mapping[str, Any]) -> np.ndarray | None:
    """Returns what is known about the files of an example's views: [V, 5], as in `_Table.files`."""
    if "extrema" not in example:
        return None
    return np.concatenate([example["size"], example["bits"][:, None], example["extrema"]], axis=1)


def _boxes_of(example: Mapping[str, Any]) -> Iterator[tuple[int, ...]]:
    """Yields view, top, left, bottom and right of what an example marks, as parcels and picture files store it."""
    if "parts" in example:
        for view, box in zip(example["parts"]["view"], example["parts"]["box"], strict=True):
            yield int(view), *map(int, box)
    elif "boxes" in example:
        for of_views in example["boxes"]["box"]:
            yield from ((view, *map(int, box)) for view, box in enumerate(of_views) if np.any(box))
