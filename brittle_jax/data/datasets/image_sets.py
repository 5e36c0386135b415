"""From the opened sources of a data set to an ImageSet: whole pictures, or patches of parcels."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from brittle_jax import console
from brittle_jax.data import patches, preprocess
from brittle_jax.data.image_set import ImageSet

Source = Sequence[dict]  # of examples whose images are still encoded

_CHUNK = 512  # examples


@dataclasses.dataclass(frozen=True)
class _Table:
    """What is known of the samples without decoding them; all arrays [S]."""

    ids: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    groups: np.ndarray
    digests: np.ndarray


def picture_set(
    name: str,
    classes: Sequence[str],
    sources: Mapping[str, Source],
    side: int,
    *,
    synthetic: bool,
    skipped: Sequence[tuple[str, str]] = (),
) -> ImageSet:
    """Returns a data set of labelled pictures, each resized to the size that networks see.

    Args:
        sources: by the name of their split; a source named "" holds examples that name theirs, if they have one.
        side: of the square images, in pixels.
        skipped: ids of samples that are left out, with the reason.
    """
    tables = [_read_table(source, split, ("image",)) for split, source in sources.items()]
    table = _Table(*(np.concatenate(column) for column in zip(*map(dataclasses.astuple, tables), strict=True)))
    parts = list(sources.values())
    starts = np.cumsum([0, *map(len, parts)])

    def read_picture(index: int, view: int = 0) -> np.ndarray:
        which = int(np.searchsorted(starts, index, side="right")) - 1
        return preprocess.decode(parts[which][int(index - starts[which])]["image"])

    return ImageSet(
        name=name,
        classes=tuple(classes),
        synthetic=synthetic,
        ids=table.ids,
        labels=table.labels,
        official_split=table.splits if "test" in table.splits else None,
        groups=table.groups,
        digests=table.digests,
        skipped=tuple(map(tuple, skipped)),
        sample_of_image=np.arange(len(table.ids)),
        views=("",),
        view_of_image=np.zeros(len(table.ids), int),
        read_image=lambda index: preprocess.resize(read_picture(index), side),
        image_shape=(side, side, 3),
        read_view=read_picture,
        box_of_image=None,
    )


def patch_set(
    classes: Sequence[str],
    source: Source,
    features: Mapping[str, str],
    settings: ml_collections.ConfigDict,
    *,
    synthetic: bool,
    skipped: Sequence[tuple[str, str]] = (),
) -> ImageSet:
    """Returns parcels as the patches of their views (Sec. 3.1).

    Args:
        features: names of the image features, by the name of their view.
        settings: `config.data.patches`.
        skipped: as in `picture_set`.
    """
    views = list(features.values())
    table = _read_table(source, "parcel", views)

    @functools.lru_cache(maxsize=16)  # patches of one view are often read one after the other
    def read_view(parcel: int, view: int) -> np.ndarray:
        return preprocess.decode(source[parcel][views[view]])

    boxes, where = _find_patches(read_view, len(source), len(views), settings)

    def read_patch(index: int) -> np.ndarray:
        parcel, view, *origin = where[index].tolist()
        return patches.cut_patch(read_view(parcel, view), boxes[parcel, view], origin, settings.size_pixels)

    return ImageSet(
        name="xray",
        classes=tuple(classes),
        synthetic=synthetic,
        ids=table.ids,
        labels=table.labels,
        official_split=None,
        groups=table.groups,
        digests=table.digests,
        skipped=tuple(map(tuple, skipped)),
        sample_of_image=where[:, 0],
        views=tuple(features),
        view_of_image=where[:, 1],
        read_image=read_patch,
        image_shape=(settings.size_pixels, settings.size_pixels, 3),
        read_view=read_view,
        box_of_image=np.concatenate([where[:, 2:], where[:, 2:] + settings.size_pixels], axis=1),
    )


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
    return boxes, np.asarray(where)


def _read_table(source: Source, split: str, views: Sequence[str]) -> _Table:
    """Reads all but the images, of which it takes digests; a chunk at a time, so that memory stays flat."""
    rows = []
    for start in range(0, len(source), _CHUNK):
        for example in source.__getitems__(range(start, min(start + _CHUNK, len(source)))):
            own_id = example["id"].decode() if "id" in example else f"{split}_{len(rows):05d}"
            own_split = example["split"].decode() if "split" in example else split
            group = example["group"].decode() if "group" in example else ""
            digest = hashlib.sha256(b"".join(example[view] for view in views)).hexdigest()[:32]
            rows.append((own_id, example["label"], own_split, group or own_id, digest))
    return _Table(*map(np.asarray, zip(*rows, strict=True)))
