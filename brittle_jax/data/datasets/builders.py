"""tfds's builders: found or prepared, checked for damage, and opened."""

import contextlib
import errno
import functools
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import filelock
import numpy as np
import tensorflow_datasets as tfds

from brittle_jax import console, files
from brittle_jax.data import preprocess
from brittle_jax.data.datasets import fashion_mnist
from brittle_jax.data.datasets.image_sets import Source
from brittle_jax.data.datasets.picture_files import PictureFiles
from brittle_jax.data.datasets.stand_in import StandIn
from brittle_jax.data.datasets.xray_parcels import XrayParcels
from brittle_jax.errors import DamagedError, UserError

_AS_BYTES = tfds.decode.SkipDecoding()  # `preprocess.decode` decodes every image of every data set
_ARRAY_RECORD = tfds.core.FileFormat.ARRAY_RECORD  # the only format that can be read without TensorFlow
_OWN_BUILDERS = (XrayParcels, PictureFiles, StandIn, fashion_mnist.FashionMnistFiles)
_NOT_DAMAGE = {  # why sound files cannot be read, and what to do
    errno.EACCES: "give yourself permission to read it",
    errno.EMFILE: "raise the limit of open files, for example with ulimit -n 4096",
    errno.ENFILE: "close other programs",
}


def data_dir_of(directory: str) -> str:
    """Returns the folder of prepared data sets that `data.dir` names; an empty name is tfds's default."""
    return os.path.expanduser(directory or str(tfds.core.constants.DATA_DIR))


def stock_builder(name: str, directory: str) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set that tfds knows, or that of Fashion-MNIST's published files if they are there.

    Args:
        directory: `data.dir`.

    Raises:
        UserError: if there is no such folder, or its data set is damaged or in a format that only TensorFlow reads.
    """
    data_dir = data_dir_of(directory)
    if directory and not pathlib.Path(data_dir).is_dir():
        raise UserError(f"data.dir={data_dir}: no such folder")
    again = f"prepare it again (tfds build {name} --file_format=array_record --data_dir={data_dir})"
    with _reporting_damage(f"{name} in {data_dir}", os.path.join(data_dir, name), again):
        builder = tfds.builder(name, data_dir=data_dir)
    if name == "fashion_mnist" and not builder.is_prepared():
        own = own_builder(fashion_mnist.FashionMnistFiles, data_dir)
        published = fashion_mnist.files_of(pathlib.Path(data_dir) / fashion_mnist.FOLDER)
        if own.is_prepared() or all(file.is_file() for file in published):
            return own
    if builder.is_prepared() and builder.info.file_format is not _ARRAY_RECORD:
        raise UserError(
            f"{builder.data_dir} is in the format {builder.info.file_format.value}, which only TensorFlow reads: "
            f"prepare it again as array_record ({_prepare_command(builder)})"
        )
    return builder


def download_of(name: str, directory: str) -> str:
    """Returns what `prepared` would download of a stock data set, as text, empty if nothing; prepares nothing.

    Raises:
        UserError: as `stock_builder`; and where the data set is missing and cannot be downloaded.
    """
    builder = stock_builder(name, directory)
    if builder.is_prepared() or isinstance(builder, _OWN_BUILDERS):
        return ""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS or not _has_tensorflow():
        raise UserError(f"{name} is not prepared in {builder.data_dir_root}")
    return f"{name}{_download_size(builder)} is downloaded to {builder.data_dir_root}"


def own_builder(
    builder_class: type[tfds.core.DatasetBuilder],
    data_dir: str,
    builder_config: tfds.core.BuilderConfig | str | None = None,
) -> tfds.core.DatasetBuilder:
    """Returns one of this project's builders, after checking what it has prepared for damage.

    array_record notices damage by itself. The files beside it, such as dataset_info.json, do not, so they have digests.

    Raises:
        UserError: if something is damaged.
    """
    name = getattr(builder_config, "name", builder_config) or ""
    folder = pathlib.Path(data_dir, builder_class.name, name)
    with _reporting_damage(f"{builder_class.name} in {data_dir}", folder, "the next run makes it again"):
        builder = builder_class(data_dir=data_dir, config=builder_config)
        prepared_in = pathlib.Path(builder.data_dir)
        if builder.is_prepared() and os.path.lexists(prepared_in / files.MANIFEST):  # earlier versions wrote none
            if changes := files.changes_since_manifest(prepared_in):
                raise DamagedError(prepared_in, ", ".join(f"{file}: {change}" for file, change in changes.items()))
    return builder


def prepared(make_builder: Callable[[], tfds.core.DatasetBuilder]) -> tfds.core.DatasetBuilder:
    """Returns a builder whose data set is prepared. A second process waits for the first, then finds it there.

    Raises:
        UserError: if the data set cannot be prepared here, or the folder cannot be written to.
    """
    builder = make_builder()
    if builder.is_prepared():
        return builder
    root = pathlib.Path(builder.data_dir_root)
    name = builder.name if builder.builder_config is None else f"{builder.name} ({builder.builder_config.name})"
    prepare = _prepare_own if isinstance(builder, _OWN_BUILDERS) else _download_and_prepare
    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f".{name.replace(' ', '-')}.lock"):
            builder = make_builder()  # only a new builder sees what another process has prepared
            if not builder.is_prepared():
                prepare(builder, name)
    except OSError as error:
        raise UserError(f"data.dir: prepared images cannot be written to {root} ({error.strerror})") from error
    return builder


def open_split(builder: tfds.core.DatasetBuilder, split: str, images: Iterable[str]) -> Source:
    """Opens a split whose images stay encoded. Damage in it is a UserError, whenever it is met.

    Args:
        images: names of the features that hold images.
    """
    decoders = {name: _AS_BYTES for name in images}
    is_made_here = isinstance(builder, _OWN_BUILDERS)
    again = "the next run makes it again" if is_made_here else f"prepare it again ({_prepare_command(builder)})"
    reporting = functools.partial(
        _reporting_damage, f"{builder.name} in {builder.data_dir_root}", builder.data_dir, again
    )
    with reporting():
        examples = builder.as_data_source(split, decoders=decoders)
        examples[0], examples[len(examples) - 1]  # files that were cut short fail here, before any training
    parsers = {name: tfds.features.FeaturesDict({name: builder.info.features[name]}) for name in decoders}

    def read_examples(positions: Sequence[int]) -> Sequence[dict[str, Any]]:
        with reporting():
            return examples.__getitems__(positions)

    def read_picture(position: int, name: str, side: int | None) -> np.ndarray:
        with reporting():
            record = examples.data_source[position]  # as stored: parsing all features takes a tenth of decoding's time
            encoded = parsers[name].deserialize_example_np(record, decoders={name: _AS_BYTES})[name]
            return preprocess.decode(encoded, side)

    return Source(len(examples), read_examples, read_picture)


@contextlib.contextmanager
def _reporting_damage(what: str, folder: str | pathlib.Path, again: str) -> Iterator[None]:
    """Turns whatever tfds, its readers and decoders raise on broken or unreadable files into one line."""
    try:
        yield
    except Exception as error:  # AssertionError, ParseError, RuntimeError, ...: there is no common class
        reason = error.reason if isinstance(error, DamagedError) else " ".join(str(error).split())[:200]
        said = f"{error} {error.__context__}"  # array_record gives no number, and tfds raises another error of its own
        for code, remedy in _NOT_DAMAGE.items():
            if os.strerror(code) in said:
                raise UserError(f"{what} cannot be read: {remedy} ({type(error).__name__}: {reason})") from error
        raise UserError(
            f"{what} is damaged: delete {folder}, and {again} ({type(error).__name__}: {reason})"
        ) from error


def _prepare_command(builder: tfds.core.DatasetBuilder) -> str:
    return (
        "python -m pip install 'tensorflow-cpu>=2.20' && tfds build "
        f"{builder.name} --file_format=array_record --data_dir={builder.data_dir_root}"
    )


def _prepare_own(builder: tfds.core.DatasetBuilder, name: str) -> None:
    console.say(f"preparing {name}, once, in {builder.data_dir_root}")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    folder = pathlib.Path(builder.data_dir)
    for left in folder.parent.glob(f"incomplete.*_{folder.name}"):  # as tfds names what it is writing
        files.drop(left)  # of a process that was killed: no other prepares this data set now
    with console.libraries_silenced():
        builder.download_and_prepare(file_format=_ARRAY_RECORD)
    beside = {file.name for file in folder.iterdir() if ".array_record" not in file.name}
    files.write_manifest(folder, files.digests_of(folder, only=beside))


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _download_size(builder: tfds.core.DatasetBuilder) -> str:
    return f" ({builder.info.download_size})" if builder.info.download_size else ""


def _download_and_prepare(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Has tfds download and prepare a stock data set, which takes TensorFlow, a network and disk space."""
    root = builder.data_dir_root
    by_hand = ""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        by_hand = "tfds asks you to get its files first: " + " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    if name == "fashion_mnist":
        folder = pathlib.Path(root) / fashion_mnist.FOLDER
        by_hand = f"or put {', '.join(file.name for file in fashion_mnist.files_of(folder))} into {folder}"
    elsewhere = (
        "name the folder that has it with data.dir, or prepare it where there is a network "
        f"({_prepare_command(builder)})" + (f"; {by_hand}" if by_hand else "")
    )
    if not _has_tensorflow():
        raise UserError(
            f"{name} is not in {root}, and preparing it takes TensorFlow, which is not installed: {elsewhere}"
        )
    # tfds tries again and again: for 3.5 minutes if connections are refused.
    console.say(
        f"downloading {name}{_download_size(builder)} and preparing it, once, in {root}; without a network this fails "
        "after minutes"
    )
    try:
        builder.download_and_prepare(file_format=_ARRAY_RECORD)
    except Exception as error:  # of the network, of checksums, of files to be put there by hand: no common class
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{name} cannot be downloaded and prepared ({type(error).__name__}: {reason}): {elsewhere}"
        ) from error
