"""Data sets of picture files, each looked at once, when it is prepared: training never meets a bad one."""

import concurrent.futures
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
from brittle_jax.data.picture_file import SUFFIXES, BadPictureError, read_encoded

_BLOCK_BYTES = 1e8


@dataclasses.dataclass(frozen=True)
class Entry:
    """A sample, as files.

    Attributes:
        id: names it; for pictures of one's own the path below the folder.
        label: name of its class.
        files: one for each view; None where a view is missing.
        split: "train", "calibration" or "test", where the data set has splits of its own.
        group: samples of one group are never split apart; empty: it is a group of its own.
        boxes: of each thing that is marked, its name and its box in each view: top, left, bottom, right in pixels,
            zeros where it is not marked.
    """

    id: str
    label: str
    files: tuple[pathlib.Path | None, ...]
    split: str = ""
    group: str = ""
    boxes: tuple[tuple[str, tuple[tuple[int, int, int, int], ...]], ...] = ()


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds, before any file is opened.

    Attributes:
        name: of the data set.
        folder: out of which no file may lead.
        classes: names of the labels.
        views: names of the views of a sample; one empty name where it has no views.
        entries: the samples, in an order that does not depend on the file system.
    """

    name: str
    folder: pathlib.Path
    classes: tuple[str, ...]
    views: tuple[str, ...]
    entries: tuple[Entry, ...]


def find_pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the picture files below a folder, by their suffix, sorted; what is hidden does not count.

    Links to folders are followed by name only: they are returned as if they were files, and then refused, unless they
    stay inside, where the pictures are found anyway.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        visible = [name for name in names if not name.startswith(".") and pathlib.Path(name).suffix.lower() in SUFFIXES]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        outside = [name for name in links if not _leads_inside(pathlib.Path(parent, name), folder)]
        found += [pathlib.Path(parent, name) for name in (*visible, *outside)]
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(found)


def id_of(file: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns the path of a file below a folder, as text whatever bytes its name has."""
    return os.fsencode(file.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def _leads_inside(file: pathlib.Path, folder: pathlib.Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


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


def _stamp(file: pathlib.Path | None) -> tuple[str, int, int] | None:
    """Returns what changes when a file does."""
    try:
        status = os.stat(file) if file else None
    except OSError:
        status = None
    return status and (os.fspath(file), status.st_size, status.st_mtime_ns)


class PictureFiles(tfds.core.GeneratorBasedBuilder):
    """The good pictures of a listing, one image feature a view, as the files have them; see `read_encoded`.

    `info.metadata["skipped"]` lists the samples that cannot be read: `[id, reason]` each.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        listing = self.builder_config.listing
        views = {feature_of(view): tfds.features.Image(shape=(None, None, None)) for view in listing.views}
        boxes = tfds.features.Sequence(
            {"thing": tfds.features.Text(), "box": tfds.features.Tensor(shape=(len(listing.views), 4), dtype=np.int32)}
        )
        texts = {name: tfds.features.Text() for name in ("id", "split", "group")}
        label = tfds.features.ClassLabel(names=list(listing.classes))
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Pictures of {listing.folder}.",
            features=tfds.features.FeaturesDict({**texts, "label": label, **views, "boxes": boxes}),
            metadata=tfds.core.MetadataDict(skipped=[]),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        blocks = enumerate(_blocks(self.builder_config.listing.entries))
        return {f"block{number:05d}": self._generate_examples(block) for number, block in blocks}

    def _generate_examples(self, entries: Sequence[Entry]) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        with (
            warnings.catch_warnings(),
            concurrent.futures.ThreadPoolExecutor() as pool,  # decoding releases the interpreter lock
            console.track(f"pictures of {config.listing.folder.name}", len(entries), unit="sample") as progress,
        ):
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is `max_pixels`
            read = functools.partial(_read, config.listing, max_pixels=config.max_pixels)
            for entry, example in zip(entries, pool.map(read, entries), strict=True):
                if isinstance(example, BadPictureError):
                    self.info.metadata["skipped"].append([entry.id, str(example)])
                else:
                    yield entry.id, example
                progress.update(1)


def feature_of(view: str) -> str:
    """Returns the name of the feature that holds a view's pictures."""
    return f"image_{view}" if view else "image"


def _blocks(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Cuts the entries into blocks of about _BLOCK_BYTES.

    tfds holds a whole split in memory, and beyond 1 GB wants TensorFlow: many splits, read together as "all".
    """
    block, size = [], 0
    for entry in entries:
        block.append(entry)
        size += sum(stamp[1] for stamp in map(_stamp, entry.files) if stamp)
        if size >= _BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _read(listing: Listing, entry: Entry, max_pixels: int) -> dict[str, Any] | BadPictureError:
    """Returns an entry as `PictureFiles` stores it, or why it cannot be."""
    pictures = {}
    for view, file in zip(listing.views, entry.files, strict=True):
        of_view = f"{view} view: " if view else ""
        try:
            if file is None:
                raise BadPictureError("missing")
            if not _leads_inside(file, listing.folder):
                raise BadPictureError("leads out of the folder")
            pictures[feature_of(view)] = read_encoded(file, max_pixels)
        except BadPictureError as error:
            return BadPictureError(f"{of_view}{error}")
    boxes = [{"thing": thing, "box": np.asarray(box, np.int32)} for thing, box in entry.boxes]
    texts = {"id": entry.id, "split": entry.split, "group": entry.group}
    return {**texts, "label": entry.label, **pictures, "boxes": boxes}
