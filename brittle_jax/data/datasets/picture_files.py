"""Data sets of picture files, each looked at once, when it is prepared: training never meets a bad one."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import tensorflow_datasets as tfds

from brittle_jax import console
from brittle_jax.data.datasets.listing import Entry, Listing
from brittle_jax.data.picture_file import BadPictureError, Picture, decoders_silenced, read_picture
from brittle_jax.data.preprocess import encode_png

# In a bad one's place.
_NO_PICTURE = Picture(encode_png(np.zeros((1, 1, 3), np.uint8)), 1, 1, 8, 0.0, 0.0, (0.0, 255.0))
_MOST_AHEAD = 16  # pictures that are read before they are written
_LEAST_SHARE_OF_RANGE = 0.3  # 14 bits in a file of 16 use a quarter

_Item, _Result = TypeVar("_Item"), TypeVar("_Result")


@dataclasses.dataclass(kw_only=True)
class PictureFilesConfig(tfds.core.BuilderConfig):
    """A listing and how its files are read; its name changes whenever a file does.

    Attributes:
        listing: which files make which sample.
        max_pixels, intensity_range: as in `read_picture`.
    """

    listing: Listing | None = dataclasses.field(default=None, repr=False)  # tfds logs what it does not leave out
    max_pixels: int = 0
    intensity_range: tuple[float, float] | None = None


def picture_files_config(
    listing: Listing, max_pixels: int, intensity_range: tuple[float, float] | None
) -> PictureFilesConfig:
    """Returns the builder config of a listing."""
    digest = hashlib.sha256(repr((listing.classes, listing.views, max_pixels, intensity_range)).encode())
    for entry in listing.entries:
        described = (
            entry.id,
            entry.label,
            entry.split,
            entry.group,
            entry.boxes,
            [_stamp(file) for file in entry.files],
        )
        digest.update(repr(described).encode())
    return PictureFilesConfig(
        name=f"{listing.name}-{digest.hexdigest()[:16]}",
        listing=listing,
        max_pixels=max_pixels,
        intensity_range=intensity_range,
    )


def _stamp(file: pathlib.Path | None) -> tuple[str, int, int, int, int] | None:
    """Returns what changes when a file does, or whether it can be read."""
    try:
        status = os.stat(file) if file else None
    except (OSError, ValueError):
        status = None
    return status and (os.fspath(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class PictureFiles(tfds.core.ShardBasedBuilder):
    """The pictures of a listing, one image feature a view, as `read_picture` encodes them, in one file.

    A sample that cannot be used has the reason in `bad`, which is empty otherwise, and a black pixel for its pictures.
    Of each view's picture, `size` has height and width in pixels, `bits` those of a sample in the file, `extrema` the
    smallest and largest value there.
    """

    VERSION = tfds.core.Version("2.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        listing = self.builder_config.listing
        num_views = len(listing.views)
        views = {feature_of(view): tfds.features.Image(shape=(None, None, None)) for view in listing.views}
        boxes = tfds.features.Sequence(
            {"thing": tfds.features.Text(), "box": tfds.features.Tensor(shape=(num_views, 4), dtype=np.int32)}
        )
        of_views = {
            "size": tfds.features.Tensor(shape=(num_views, 2), dtype=np.int32),
            "bits": tfds.features.Tensor(shape=(num_views,), dtype=np.int32),
            "extrema": tfds.features.Tensor(shape=(num_views, 2), dtype=np.float32),
        }
        texts = {name: tfds.features.Text() for name in ("id", "split", "group", "bad")}
        label = tfds.features.ClassLabel(names=list(listing.classes))
        return tfds.core.DatasetInfo(
            builder=self,
            description="Pictures of one's own, or as a data set of files is published.",
            features=tfds.features.FeaturesDict({**texts, "label": label, **views, **of_views, "boxes": boxes}),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager):
        # One file, written as the pictures are read: tfds's generator-based builders first collect a split in memory.
        return {"pictures": [self._examples]}

    def _examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        entries = config.listing.entries
        with (
            decoders_silenced(),
            concurrent.futures.ThreadPoolExecutor() as pool,  # decoding releases the interpreter lock
            console.track(f"pictures of {config.listing.title}", len(entries), unit="sample") as progress,
        ):
            for entry, example in _in_order(pool, lambda entry: _read(config, entry), entries):
                yield entry.id, example
                example.clear()  # it is written by now, and tfds keeps all that it was given until it has counted them
                progress.update(1)


def _in_order(
    pool: concurrent.futures.Executor, function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[tuple[_Item, _Result]]:
    """Yields items and their results in order; no more than _MOST_AHEAD results wait in memory."""
    under_way: collections.deque[tuple[_Item, concurrent.futures.Future[_Result]]] = collections.deque()
    for item in items:
        under_way.append((item, pool.submit(function, item)))
        if len(under_way) == _MOST_AHEAD:
            first, future = under_way.popleft()
            yield first, future.result()
    for item, future in under_way:
        yield item, future.result()


def feature_of(view: str) -> str:
    """Returns the name of the feature that holds a view's pictures."""
    return f"image_{view}" if view else "image"


def _read(config: PictureFilesConfig, entry: Entry) -> dict[str, Any]:
    """Returns an entry as `PictureFiles` stores it."""
    listing, pictures, bad = config.listing, [], ""
    for view, file in zip(listing.views, entry.files, strict=True):
        of_view = f"{view} view: " if view else ""
        try:
            if file is None:
                raise BadPictureError("missing")
            if reason := listing.refusal_of(file):
                raise BadPictureError(reason)
            pictures.append(read_picture(file, config.max_pixels, config.intensity_range))
        except BadPictureError as error:
            bad = bad or f"{of_view}{error}"
    if bad:
        pictures = [_NO_PICTURE] * len(listing.views)
    return {
        "id": entry.id,
        "split": entry.split,
        "group": entry.group,
        "bad": bad,
        "label": entry.label,
        **{feature_of(view): picture.encoded for view, picture in zip(listing.views, pictures, strict=True)},
        "size": np.array([(picture.height, picture.width) for picture in pictures], np.int32),
        "bits": np.array([picture.bits for picture in pictures], np.int32),
        "extrema": np.array([(picture.low, picture.high) for picture in pictures], np.float32),
        "boxes": [{"thing": thing, "box": np.asarray(box, np.int32)} for thing, box in entry.boxes],
    }


def warn_of_intensity(title: str, intensity: Mapping[str, Any]) -> None:
    """Warns where pictures of more than 8 bits use little of their range, or are cut by the one that was given.

    Args:
        title: of their folder.
        intensity: as in `ImageSet`.
    """
    bits, lowest, highest = max(map(int, intensity["bits"])), intensity["lowest"], intensity["highest"]
    if intensity["range"] is not None:
        low, high = intensity["range"]
        if lowest < low or highest > high:
            console.warn(
                f"{title}: values from {lowest:g} to {highest:g} are cut to {low:g},{high:g}, as "
                "data.intensity_range says"
            )
    elif bits > 8 and 0 < highest - lowest < _LEAST_SHARE_OF_RANGE * (2**bits - 1):
        depth = 2 ** math.ceil(math.log2(highest + 1)) - 1
        uses_depth = highest - lowest >= _LEAST_SHARE_OF_RANGE * depth
        suggested = f"0,{depth}" if uses_depth else f"{lowest:g},{highest:g}"
        console.warn(
            f"{title}: pictures of {bits} bits have values from {lowest:g} to {highest:g} of {2**bits - 1} alone, and "
            f"come out nearly all alike: set data.intensity_range={suggested}"
        )
