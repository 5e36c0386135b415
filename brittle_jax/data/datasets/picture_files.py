"""Data sets of picture files, each looked at once, when it is prepared: training never meets a bad one."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from brittle_jax import console
from brittle_jax.data.picture_file import SUFFIXES, BadPictureError, decoders_silenced, read_encoded, size_of_encoded
from brittle_jax.data.preprocess import encode_png
from brittle_jax.errors import UserError

_BLOCK_BYTES = 3e7
_BLACK_PIXEL = encode_png(np.zeros((1, 1, 3), np.uint8))


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
        entries: the samples, sorted by id, whatever order they were listed in.

    Raises:
        UserError: where two samples have one id.
    """

    name: str
    folder: pathlib.Path
    classes: tuple[str, ...]
    views: tuple[str, ...]
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        entries = sorted(self.entries, key=lambda entry: entry.id)
        for one, other in itertools.pairwise(entries):
            if one.id == other.id:
                raise UserError(f"{self.title}: two samples have the id {one.id!r}")
        object.__setattr__(self, "entries", tuple(entries))

    @property
    def title(self) -> str:
        """The folder as text that can be printed, whatever bytes its name has."""
        return as_text(self.folder)


def find_pictures(folder: pathlib.Path, root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the picture files below a folder, by their suffix, sorted; what is hidden does not count.

    Links to folders are not followed. Those that lead out of `root` are returned as if they were files, so that they
    are refused by name; inside of it the pictures are found anyway.

    Raises:
        OSError: where a folder cannot be listed.
    """
    found, others = [], []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        visible = [pathlib.Path(parent, name) for name in names if not name.startswith(".")]
        found += [file for file in visible if file.suffix.lower() in SUFFIXES]
        others += [file for file in visible if file.suffix.lower() not in SUFFIXES]
        links = [pathlib.Path(parent, name) for name in folders if os.path.islink(os.path.join(parent, name))]
        found += [link for link in links if not _leads_inside(link, root)]
        folders[:] = [name for name in folders if not name.startswith(".")]
    if others:
        example = as_text(min(others).relative_to(root))
        console.warn(f"{as_text(folder)}: left out, {len(others)} whose names are not pictures', such as {example}")
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def as_text(path: str | pathlib.Path) -> str:
    """Returns a path as text, whatever bytes its name has."""
    return os.fsencode(os.fspath(path)).decode("utf-8", "backslashreplace")


def id_of(file: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns the path of a file below a folder, as text."""
    return as_text(file.relative_to(folder).as_posix())


def _leads_inside(file: pathlib.Path, folder: pathlib.Path) -> bool:
    try:
        return file.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # a link to itself, before Python 3.13; reading it will say so
        return True
    except (OSError, ValueError):  # a name that no file can have
        return False


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
        with decoders_silenced():
            blocks = list(_blocks(config.listing.entries, config.max_pixels))
        return {f"block{number:05d}": self._generate_examples(block) for number, block in enumerate(blocks)}

    def _generate_examples(self, entries: Sequence[Entry]) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        with (
            decoders_silenced(),
            concurrent.futures.ThreadPoolExecutor() as pool,  # decoding releases the interpreter lock
            console.track(f"pictures of {config.listing.title}", len(entries), unit="sample") as progress,
        ):
            read = functools.partial(_read, config.listing, max_pixels=config.max_pixels)
            for entry, example in zip(entries, pool.map(read, entries), strict=True):
                yield entry.id, example
                progress.update(1)


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
            if not _leads_inside(file, listing.folder):
                raise BadPictureError("leads out of the folder, or nowhere")
            pictures[feature_of(view)] = read_encoded(file, max_pixels)
        except BadPictureError as error:
            bad = bad or f"{of_view}{error}"
    if bad:
        pictures = {feature_of(view): _BLACK_PIXEL for view in listing.views}
    boxes = [{"thing": thing, "box": np.asarray(box, np.int32)} for thing, box in entry.boxes]
    texts = {"id": entry.id, "split": entry.split, "group": entry.group, "bad": bad}
    return {**texts, "label": entry.label, **pictures, "boxes": boxes}
