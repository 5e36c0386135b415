"""Loads a data set by name as a `Dataset`; prepares it first if it can be made here."""

import contextlib
import dataclasses
import errno
import functools
import importlib.util
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import filelock
import ml_collections
import numpy as np
import tensorflow_datasets as tfds

from brittle_jax import console, files
from brittle_jax.config import OF_FILES, parse_range
from brittle_jax.data import preprocess
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.datasets import fashion_mnist, image_folder, picture_files, plant_pathology, xray_files
from brittle_jax.data.datasets.image_sets import Source, patch_set, picture_set
from brittle_jax.data.datasets.listing import Listing, as_text
from brittle_jax.data.datasets.picture_files import PictureFiles, feature_of, picture_files_config
from brittle_jax.data.datasets.stand_in import StandIn
from brittle_jax.data.datasets.xray_parcels import VIEWS, XrayParcels, parcels_config
from brittle_jax.data.picture_file import CANNOT_BE_READ, NOT_SUPPORTED
from brittle_jax.errors import DamagedError, UserError

_AS_BYTES = tfds.decode.SkipDecoding()  # `preprocess.decode` decodes every image of every data set
_ARRAY_RECORD = tfds.core.FileFormat.ARRAY_RECORD  # the one format that is read without TensorFlow
_OWN_BUILDERS = (XrayParcels, PictureFiles, StandIn, fashion_mnist.FashionMnistFiles)
_SHOWN_SKIPPED = 20
_NOT_DAMAGE = {  # why sound files cannot be read, and what to do
    errno.EACCES: "give yourself the right to read it",
    errno.EMFILE: "raise the limit of open files, such as ulimit -n 4096",
    errno.ENFILE: "close other programs",
}


def load(name: str, config: ml_collections.ConfigDict) -> Dataset:
    """Returns a data set in the form that `config.data` asks for.

    Raises:
        UserError: where it is not there and cannot be made, is of a kind that cannot be read, or has pictures that
            cannot be while `data.on_bad_image` is "fail".
    """
    listing = _list_files(name, config)
    if listing is not None:
        return _load_listing(name, listing, config)
    return _load_embedded_parcels(config) if name == "xray" else _load_stock(name, config)


def _list_files(name: str, config: ml_collections.ConfigDict) -> Listing | None:
    """Returns what a data set's folder of files holds; None for stock data sets, and where one is to be made up."""
    if name not in OF_FILES:
        return None
    is_named = bool(config.data.path) and name == config.data.name
    try:
        path = pathlib.Path(config.data.path).expanduser()
        if name == "plant_pathology" and not is_named:
            path = pathlib.Path(_data_dir(config)) / plant_pathology.FOLDER
            is_named = path.is_dir()
        if is_named:
            return _LISTINGS[name](path, config.data)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the home of a user who does not exist
        reason = getattr(error, "strerror", None) or error
        culprit = as_text(getattr(error, "filename", None) or config.data.path)
        raise UserError(
            f"--config.data.path={as_text(config.data.path)}: {culprit!r} cannot be listed: {reason}"
        ) from error
    if name == "xray" or config.data.stand_in:
        return None
    raise UserError(plant_pathology.how_to_get(path) if name == "plant_pathology" else image_folder.HOW_TO_NAME)


_LISTINGS = {
    "image_folder": lambda path, data: image_folder.list_pictures(path),
    "plant_pathology": lambda path, data: plant_pathology.list_leaves(path),
    "xray": lambda path, data: xray_files.list_xray(path, data.view_suffixes, data.compass_kind),
}


def _load_listing(name: str, listing: Listing, config: ml_collections.ConfigDict) -> Dataset:
    intensity_range = parse_range(config.data.intensity_range)
    builder_config = picture_files_config(listing, config.data.max_image_pixels, intensity_range)
    builder = _prepared(lambda: _own_builder(PictureFiles, config, builder_config, builder_config.name))
    features = {view: feature_of(view) for view in listing.views}
    source = _source(builder, "all", features.values())
    if name == "xray":
        dataset = patch_set(listing.classes, source, features, config.data.patches, synthetic=False)
    else:
        dataset = picture_set(name, listing.classes, {"": source}, config.data.image_size_pixels, synthetic=False)
    if dataset.skipped:
        may_skip = config.data.on_bad_image == "skip" and len(dataset.samples) > 0
        if not may_skip and any(CANNOT_BE_READ in reason for _, reason in dataset.skipped):
            # Not the file's fault: it may be read next time without having changed, so the next run must look again.
            shutil.rmtree(builder.data_dir, ignore_errors=True)
        _report_skipped(listing, dataset.skipped, may_skip=may_skip)
    dataset = dataclasses.replace(dataset, intensity={**dataset.intensity, "range": intensity_range})
    picture_files.warn_of_intensity(listing.title, dataset.intensity)
    return dataset


def _report_skipped(listing: Listing, skipped: Sequence[tuple[str, str]], *, may_skip: bool) -> None:
    """Names the samples that cannot be used; raises UserError unless they may be left out."""
    shown = [f"{sample!r} ({reason})" for sample, reason in skipped[:_SHOWN_SKIPPED]]
    if len(skipped) > len(shown):
        shown.append(f"and {len(skipped) - len(shown)} more")
    of_all = f"{len(skipped)} of {console.count(len(listing.entries), 'sample')}"
    what = f"{listing.title}: {of_all} cannot be used: {', '.join(shown)}"
    if any(NOT_SUPPORTED in reason for _, reason in skipped):
        what += (
            "; convert what is not supported to PNG, for example by `magick mogrify -format png FILES` (ImageMagick), "
            "and move the originals away"
        )
    if not may_skip:
        raise UserError(f"{what}; mend or remove them, or leave them out with --config.data.on_bad_image=skip")
    console.warn(f"{what}; they are left out")


def _load_stock(name: str, config: ml_collections.ConfigDict) -> Dataset:
    """Loads a data set that tfds knows, or what stands in for one; prepares it first where that can be done here."""
    is_stand_in = config.data.stand_in and (name in OF_FILES or not _stock_builder(name, config).is_prepared())
    if is_stand_in:
        # Made up at the size of the originals, so that they take the same path.
        builder = _prepared(lambda: _own_builder(StandIn, config, name, name))
    else:
        builder = _prepared(lambda: _stock_builder(name, config))
    # What is called validation is what held-out accuracies are measured on: ImageNet's test images have no labels.
    roles = {"test" if split == "validation" else split: split for split in CATALOGUE[name].stand_in.splits}
    sources = {role: _source(builder, split, ["image"]) for role, split in roles.items()}
    classes = builder.info.features["label"].names
    return picture_set(name, classes, sources, config.data.image_size_pixels, synthetic=is_stand_in)


def _stock_builder(name: str, config: ml_collections.ConfigDict) -> tfds.core.DatasetBuilder:
    data_dir = _data_dir(config)
    if config.data.dir and not pathlib.Path(data_dir).is_dir():
        raise UserError(f"--config.data.dir={data_dir}: no such folder")
    again = f"prepare it again (tfds build {name} --file_format=array_record --data_dir={data_dir})"
    with _reporting_damage(f"{name} in {data_dir}", os.path.join(data_dir, name), again):
        builder = tfds.builder(name, data_dir=data_dir)
    if name == "fashion_mnist" and not builder.is_prepared():
        own = _own_builder(fashion_mnist.FashionMnistFiles, config, None, "")
        published = fashion_mnist.files_of(pathlib.Path(data_dir) / fashion_mnist.FOLDER)
        if own.is_prepared() or all(file.is_file() for file in published):
            return own
    if builder.is_prepared() and builder.info.file_format is not _ARRAY_RECORD:
        raise UserError(
            f"{builder.data_dir} is in the format {builder.info.file_format.value}, which only TensorFlow reads: "
            f"prepare it again as array_record ({_prepare_command(builder)})"
        )
    return builder


def _data_dir(config: ml_collections.ConfigDict) -> str:
    return os.path.expanduser(config.data.dir or str(tfds.core.constants.DATA_DIR))


def _source(builder: tfds.core.DatasetBuilder, split: str, images: Iterable[str]) -> Source:
    """Opens a split whose images stay encoded; whatever is damaged in it is a UserError, whenever it is met."""
    decoders = {name: _AS_BYTES for name in images}
    is_made_here = isinstance(builder, _OWN_BUILDERS)
    again = "the next run makes it again" if is_made_here else f"prepare it again ({_prepare_command(builder)})"
    reporting = functools.partial(
        _reporting_damage, f"{builder.name} in {builder.data_dir_root}", builder.data_dir, again
    )
    with reporting():
        examples = builder.as_data_source(split, decoders=decoders)
        examples[0], examples[len(examples) - 1]  # files that were cut short fail here, before anything is trained
    parsers = {name: tfds.features.FeaturesDict({name: builder.info.features[name]}) for name in decoders}

    def read_examples(positions: Sequence[int]) -> Sequence[dict[str, Any]]:
        with reporting():
            return examples.__getitems__(positions)

    def read_picture(position: int, name: str, side: int | None) -> np.ndarray:
        with reporting():
            record = examples.data_source[position]  # as stored: parsing all features costs a tenth of decoding
            encoded = parsers[name].deserialize_example_np(record, decoders={name: _AS_BYTES})[name]
            return preprocess.decode(encoded, side)

    return Source(len(examples), read_examples, read_picture)


@contextlib.contextmanager
def _reporting_damage(what: str, folder: str | pathlib.Path, again: str) -> Iterator[None]:
    """Turns whatever tfds, its readers and decoders raise on broken files, or on unreadable ones, into one line."""
    try:
        yield
    except Exception as error:  # AssertionError, ParseError, RuntimeError, ...: there is no common class
        reason = error.reason if isinstance(error, DamagedError) else " ".join(str(error).split())[:200]
        said = f"{error} {error.__context__}"  # array_record gives no number, and tfds another error of its own
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


def _prepared(make_builder: Callable[[], tfds.core.DatasetBuilder]) -> tfds.core.DatasetBuilder:
    """Returns a builder whose data set is prepared; a second process waits for the first and then finds it there."""
    builder = make_builder()
    if builder.is_prepared():
        return builder
    root = pathlib.Path(builder.data_dir_root)
    name = builder.name if builder.builder_config is None else f"{builder.name} ({builder.builder_config.name})"
    prepare = _prepare_own if isinstance(builder, _OWN_BUILDERS) else _download_and_prepare
    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f".{name.replace(' ', '-')}.lock"):
            builder = make_builder()  # anew: what another process has prepared is known to new builders alone
            if not builder.is_prepared():
                prepare(builder, name)
    except OSError as error:
        raise UserError(f"--config.data.dir: prepared images cannot be written to {root} ({error.strerror})") from error
    return builder


def _own_builder(
    builder_class: type[tfds.core.DatasetBuilder],
    config: ml_collections.ConfigDict,
    builder_config: tfds.core.BuilderConfig | str | None,
    name: str,
) -> tfds.core.DatasetBuilder:
    """Returns a builder of this project's, after looking for damage in what it has prepared.

    array_record notices damage by itself; the files beside it, such as dataset_info.json, do not, and have digests.
    """
    folder = pathlib.Path(_data_dir(config), builder_class.name, name)
    with _reporting_damage(f"{builder_class.name} in {_data_dir(config)}", folder, "the next run makes it again"):
        builder = builder_class(data_dir=_data_dir(config), config=builder_config)
        prepared = pathlib.Path(builder.data_dir)
        if builder.is_prepared() and os.path.lexists(prepared / files.MANIFEST):  # earlier versions wrote none
            if changes := files.changes_since_manifest(prepared):
                raise DamagedError(prepared, ", ".join(f"{file}: {change}" for file, change in changes.items()))
    return builder


def _prepare_own(builder: tfds.core.DatasetBuilder, name: str) -> None:
    console.say(f"preparing {name}, once, in {builder.data_dir_root}")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with console.libraries_silenced():
        builder.download_and_prepare(file_format=_ARRAY_RECORD)
    folder = pathlib.Path(builder.data_dir)
    beside = {file.name for file in folder.iterdir() if ".array_record" not in file.name}
    files.write_manifest(folder, files.digests_of(folder, only=beside))


def _download_and_prepare(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Has tfds download a stock data set and prepare it, which takes TensorFlow, a network and room on the disk."""
    root = builder.data_dir_root
    by_hand = ""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        by_hand = "tfds asks you to get its files first: " + " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    if name == "fashion_mnist":
        folder = pathlib.Path(root) / fashion_mnist.FOLDER
        by_hand = f"or put {', '.join(file.name for file in fashion_mnist.files_of(folder))} into {folder}"
    elsewhere = (
        "name the folder that has it with --config.data.dir, or prepare it where there is a network "
        f"({_prepare_command(builder)})" + (f"; {by_hand}" if by_hand else "")
    )
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(f"{name} is not in {root}, and TensorFlow is not here to prepare it: {elsewhere}")
    size = f" ({builder.info.download_size})" if builder.info.download_size else ""
    # tfds tries again and again: 3.5 minutes where connections are refused.
    console.say(f"downloading {name}{size} and preparing it, once, in {root}; without a network, minutes go by first")
    try:
        builder.download_and_prepare(file_format=_ARRAY_RECORD)
    except Exception as error:  # of the network, of checksums, of files to be put there by hand: no common class
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{name} cannot be downloaded and prepared ({type(error).__name__}: {reason}): {elsewhere}"
        ) from error


def _load_embedded_parcels(config: ml_collections.ConfigDict) -> Dataset:
    builder_config = parcels_config(**config.data.parcels)
    builder = _prepared(lambda: _own_builder(XrayParcels, config, builder_config, builder_config.name))
    source = _source(builder, "all", VIEWS)
    return patch_set(
        CATALOGUE["xray"].classes, source, {view: view for view in VIEWS}, config.data.patches, synthetic=True
    )
