"""Data sets of picture files. Each file is checked once, in preparation, so that training never meets a bad one."""

import concurrent.futures
import dataclasses
import hashlib
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from brittle_jax import console
from brittle_jax.data.ahead import in_order
from brittle_jax.data.datasets.listing import Entry, Listing
from brittle_jax.data.picture_file import BadPictureError, Picture, decoders_silenced, read_picture
from brittle_jax.data.preprocess import encode_png

# In place of a bad one.
_NO_PICTURE = Picture(encode_png(np.zeros((1, 1, 3), np.uint8)), 1, 1, 8, 0.0, 0.0, (0.0, 255.0))
_LEAST_SHARE_OF_RANGE = 0.3  # 14-bit values in a 16-bit file use a quarter


@dataclasses.dataclass(kw_only=True)
class PictureFilesConfig(tfds.core.BuilderConfig):
    """A listing, and how its files are read. The name changes whenever a file does.

    Attributes:
        listing: which files make which sample.
        max_pixels, intensity_range: as in `read_picture`.
    """

    listing: Listing | None = dataclasses.field(default=None, repr=False)  # tfds logs the others
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
    """Returns what changes when a file changes, or when it becomes readable or unreadable."""
    try:
        status = os.stat(file) if file else None
    except (OSError, ValueError):
        status = None
    return status and (os.fspath(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class PictureFiles(tfds.core.ShardBasedBuilder):
    """The pictures of a listing as `read_picture` encodes them, one image feature for each view, in one file.

    `bad` says why a sample cannot be used; its pictures are then a black pixel. It is empty for usable samples. For
    each view's picture, `size` has height and width in pixels, `bits` the bit depth of the file, and `extrema` its
    smallest and largest value.
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
            description="Your own images, or a data set that is published as files.",
            features=tfds.features.FeaturesDict({**texts, "label": label, **views, **of_views, "boxes": boxes}),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager):
        # One file, written while pictures are read: tfds's generator-based builders first collect a split in memory.
        return {"pictures": [self._examples]}

    def _examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        entries = config.listing.entries
        with (
            decoders_silenced(),
            concurrent.futures.ThreadPoolExecutor() as pool,  # decoding releases the interpreter lock
            console.track(f"pictures of {config.listing.title}", len(entries), unit="sample") as progress,
        ):
            for entry, example in in_order(pool, lambda entry: _read(config, entry), entries):
                yield entry.id, example
                example.clear()  # it is written by now, but tfds keeps all examples until it has counted them
                progress.update(1)


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
    """Warns if pictures of more than 8 bits use little of their range, or are clipped by the given one.

    Args:
        title: of their folder.
        intensity: as in `Dataset`.
    """
    bits, lowest, highest = max(map(int, intensity["bits"])), intensity["lowest"], intensity["highest"]
    if intensity["range"] is not None:
        low, high = intensity["range"]
        if lowest < low or highest > high:
            console.warn(
                f"{title}: values from {lowest:g} to {highest:g} are clipped to data.intensity_range={low:g},{high:g}"
            )
    elif bits > 8 and 0 < highest - lowest < _LEAST_SHARE_OF_RANGE * (2**bits - 1):
        depth = 2 ** math.ceil(math.log2(highest + 1)) - 1
        uses_depth = highest - lowest >= _LEAST_SHARE_OF_RANGE * depth
        suggested = f"0,{depth}" if uses_depth else f"{lowest:g},{highest:g}"
        console.warn(
            f"{title}: {bits}-bit pictures only have values from {lowest:g} to {highest:g} of {2**bits - 1}, so they "
            f"come out nearly all alike: set data.intensity_range={suggested}"
        )
