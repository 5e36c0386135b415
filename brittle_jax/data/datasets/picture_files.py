"""Data sets of picture files, each looked at once, when it is prepared: training never meets a bad one."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from brittle_jax import console
from brittle_jax.data.datasets.listing import Entry, Listing
from brittle_jax.data.picture_file import BadPictureError, read_encoded, size_of_encoded
from brittle_jax.data.preprocess import encode_png

_BLOCK_BYTES = 3e7
_BLACK_PIXEL = encode_png(np.zeros((1, 1, 3), np.uint8))


@dataclasses.dataclass(kw_only=True)
class PictureFilesConfig(tfds.core.BuilderConfig):
    """A listing and how its files are read; its name changes whenever a file does."""

    listing: Listing | None = dataclasses.field(default=None, repr=False)  # tfds logs what it does not leave out
    max_pixels: int = 0


def picture_files_config(listing: Listing, max_pixels: int) -> PictureFilesConfig:
    """Returns the builder config of a listing."""
    digest = hashlib.sha256(repr((listing.classes, listing.views, max_pixels)).encode())
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
    return PictureFilesConfig(name=f"{listing.name}-{digest.hexdigest()[:16]}", listing=listing, max_pixels=max_pixels)


def _stamp(file: pathlib.Path | None) -> tuple[str, int, int, int, int] | None:
    """Returns what changes when a file does, or whether it can be read."""
    try:
        status = os.stat(file) if file else None
    except (OSError, ValueError):
        status = None
    return status and (os.fspath(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class PictureFiles(tfds.core.GeneratorBasedBuilder):
    """The pictures of a listing, one image feature a view, as the files have them; see `read_encoded`.

    A sample that cannot be used has the reason in `bad`, which is empty otherwise, and a black pixel for its pictures.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        listing = self.builder_config.listing
        views = {feature_of(view): tfds.features.Image(shape=(None, None, None)) for view in listing.views}
        boxes = tfds.features.Sequence(
            {"thing": tfds.features.Text(), "box": tfds.features.Tensor(shape=(len(listing.views), 4), dtype=np.int32)}
        )
        texts = {name: tfds.features.Text() for name in ("id", "split", "group", "bad")}
        label = tfds.features.ClassLabel(names=list(listing.classes))
        return tfds.core.DatasetInfo(
            builder=self,
            description="Pictures of one's own, or as a data set of files is published.",
            features=tfds.features.FeaturesDict({**texts, "label": label, **views, "boxes": boxes}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config
        with _limit_is_ours():
            blocks = list(_blocks(config.listing.entries, config.max_pixels))
        return {f"block{number:05d}": self._generate_examples(block) for number, block in enumerate(blocks)}

    def _generate_examples(self, entries: Sequence[Entry]) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        with (
            _limit_is_ours(),
            concurrent.futures.ThreadPoolExecutor() as pool,  # decoding releases the interpreter lock
            console.track(f"pictures of {config.listing.title}", len(entries), unit="sample") as progress,
        ):
            read = functools.partial(_read, config.listing, max_pixels=config.max_pixels)
            for entry, example in zip(entries, pool.map(read, entries), strict=True):
                yield entry.id, example
                progress.update(1)


@contextlib.contextmanager
def _limit_is_ours() -> Iterator[None]:
    """Keeps Pillow from warning of pictures that it finds large: what is too large here is `max_pixels`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def feature_of(view: str) -> str:
    """Returns the name of the feature that holds a view's pictures."""
    return f"image_{view}" if view else "image"


def _blocks(entries: Sequence[Entry], max_pixels: int) -> Iterator[list[Entry]]:
    """Cuts the entries into blocks of about _BLOCK_BYTES, as they will be stored.

    tfds holds a whole split in memory, and beyond 1 GB wants TensorFlow: many splits, read together as "all".
    """
    block, size = [], 0
    for entry in entries:
        block.append(entry)
        size += sum(size_of_encoded(file, max_pixels) for file in entry.files if file)
        if size >= _BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _read(listing: Listing, entry: Entry, max_pixels: int) -> dict[str, Any]:
    """Returns an entry as `PictureFiles` stores it."""
    pictures, bad = {}, ""
    for view, file in zip(listing.views, entry.files, strict=True):
        of_view = f"{view} view: " if view else ""
        try:
            if file is None:
                raise BadPictureError("missing")
            if reason := listing.refusal_of(file):
                raise BadPictureError(reason)
            pictures[feature_of(view)] = read_encoded(file, max_pixels)
        except BadPictureError as error:
            bad = bad or f"{of_view}{error}"
    if bad:
        pictures = {feature_of(view): _BLACK_PIXEL for view in listing.views}
    boxes = [{"thing": thing, "box": np.asarray(box, np.int32)} for thing, box in entry.boxes]
    texts = {"id": entry.id, "split": entry.split, "group": entry.group, "bad": bad}
    return {**texts, "label": entry.label, **pictures, "boxes": boxes}
