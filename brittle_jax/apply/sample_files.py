"""Picture files to score: which there are, and what networks see of each, read ahead by threads."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from brittle_jax.apply.preprocessing import Preprocessing
from brittle_jax.data.ahead import in_order
from brittle_jax.data.datasets.listing import Entry, Listing, as_text, find_pictures, id_of, without_masks
from brittle_jax.data.picture_file import BadPictureError, decoders_silenced, read_pixels
from brittle_jax.errors import UserError
from brittle_jax.evaluate.calibration import is_grey
from brittle_jax.text import split_list


@dataclasses.dataclass(frozen=True)
class SampleFile:
    """A picture, or the views of a parcel.

    Attributes:
        path: as it is written: that of the file, of several views without what tells them apart.
        files: of each view, its name and its file; None if that is missing. The name is empty if there is one view.
        group: the folder below the one that was named.
        refusal_of: returns why a file must not be read; None if it may be.
        error: why it cannot be read at all; empty otherwise.
    """

    path: str
    files: tuple[tuple[str, pathlib.Path | None], ...]
    group: str
    refusal_of: Callable[[pathlib.Path], str | None] = lambda file: None
    error: str = ""


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no single truth value
class ReadSample:
    """What networks see of a sample.

    Attributes:
        file: which it is.
        images: [P, H, W, 3] uint8; P is 0 if it cannot be read.
        views: [P] names of the view that each image is of.
        boxes: [P, 4], the part of the view that it shows: top, left, bottom, right in pixels.
        properties: of each view's file, as `Calibration.properties`.
        digests: of the pixels of each view; empty unless they are asked for.
        error: why it cannot be read; empty otherwise.
    """

    file: SampleFile
    images: np.ndarray
    views: np.ndarray
    boxes: np.ndarray
    properties: list[tuple[int, int, int, int]]
    digests: list[str]
    error: str = ""


def list_samples(paths: Sequence[str], suffixes: str = "") -> list[SampleFile]:
    """Lists the pictures in folders and beside them, each folder sorted; masks and hidden files are left out.

    Args:
        paths: folders and files.
        suffixes: how the file names of a parcel's views end, comma-separated; empty if there is only one view.

    Raises:
        UserError: if a path does not exist, or there are no pictures.
    """
    samples: list[SampleFile] = []
    ends = split_list(suffixes)
    for path in map(pathlib.Path, paths):
        path = path.expanduser()
        if path.is_dir():
            samples += _list_folder(path, ends)
        elif path.is_file():
            samples.append(SampleFile(as_text(path), ((_view_of(_end_of(path, ends)), path),), ""))
        else:
            raise UserError(f"{as_text(path)}: no such folder or file")
    if not samples:
        raise UserError(f"{', '.join(map(as_text, paths))}: no pictures, or none whose names end like a picture's")
    return samples


def _list_folder(folder: pathlib.Path, suffixes: Sequence[str]) -> Iterator[SampleFile]:
    try:
        files = without_masks(find_pictures(folder, folder), folder)
    except OSError as error:
        raise UserError(f"{as_text(error.filename or folder)} cannot be read ({error.strerror})") from error
    parcels: dict[pathlib.Path, dict[str, pathlib.Path]] = collections.defaultdict(dict)
    errors: dict[pathlib.Path, str] = {}
    for file in files:
        suffix = _end_of(file, suffixes)
        sample = file.with_name(file.stem.removesuffix(suffix)) if suffix else file
        if suffixes and not suffix:
            errors[sample] = f"its name, without the extension, ends in none of {', '.join(suffixes)}"
        if parcels[sample].setdefault(suffix, file) is not file:
            errors[sample] = "two files for the same view"
    # A listing knows which links lead out of its folder.
    entries = [Entry(id_of(sample, folder), "", tuple(views.values())) for sample, views in parcels.items()]
    listing = Listing("images", folder, ("",), ("",), tuple(entries))
    for sample in sorted(parcels):
        files_of_views = tuple((_view_of(suffix), parcels[sample].get(suffix)) for suffix in suffixes or ("",))
        group = id_of(sample.parent, folder)
        yield SampleFile(as_text(sample), files_of_views, group, listing.refusal_of, errors.get(sample, ""))


def _end_of(file: pathlib.Path, suffixes: Sequence[str]) -> str:
    """Returns which of the suffixes of views a file's name ends in, before the extension; empty for none."""
    return next((suffix for suffix in suffixes if file.stem.endswith(suffix)), "")


def _view_of(suffix: str) -> str:
    """Returns the name of a view: top of `_top`."""
    return suffix.strip("_-. ") or suffix


def read_samples(
    samples: Iterable[SampleFile],
    preprocessing: Preprocessing,
    max_pixels: int,
    *,
    most_ahead: int,
    with_digests: bool = False,
) -> Iterator[ReadSample]:
    """Reads samples in order; threads decode, resize and cut up to `most_ahead` of them ahead.

    Args:
        max_pixels: as in `read_picture`.
        with_digests: take digests of the pixels, by which equal pictures are known.
    """

    def read(sample: SampleFile) -> ReadSample:
        return _read(sample, preprocessing, max_pixels, with_digests)

    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())  # decoding releases the interpreter lock
    with decoders_silenced():
        try:
            for _, found in in_order(pool, read, samples, most_ahead):
                yield found
        finally:
            pool.shutdown(cancel_futures=True)


def _read(sample: SampleFile, preprocessing: Preprocessing, max_pixels: int, with_digests: bool) -> ReadSample:
    parts, properties, digests = [], [], []
    error = sample.error
    for view, file in sample.files:
        try:
            if error:
                break
            if file is None:
                raise BadPictureError("missing")
            if reason := sample.refusal_of(file):
                raise BadPictureError(reason)
            pixels, bits = read_pixels(file, max_pixels, preprocessing.intensity_range)
        except BadPictureError as bad:
            error = f"{view} view: {bad}" if view else str(bad)
            break
        images, boxes = preprocessing.images_and_boxes(pixels)
        parts.append((images, np.full(len(images), view), boxes))
        properties.append((*pixels.shape[:2], bits, int(is_grey(images))))
        if with_digests:
            digests.append(hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:32])
    if error:
        empty = np.zeros((0, *preprocessing.image_shape), np.uint8)
        return ReadSample(sample, empty, np.zeros(0, str), np.zeros((0, 4), int), [], [], error)
    stacks = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    return ReadSample(sample, *stacks, properties, digests)
