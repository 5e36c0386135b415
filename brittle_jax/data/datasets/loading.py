"""Loads a data set by name as a `Dataset`. What can be made here is prepared first, once."""

import dataclasses
import pathlib
import shutil
from collections.abc import Sequence

from brittle_jax import console
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.datasets import image_folder, picture_files, plant_pathology, xray_files
from brittle_jax.data.datasets.builders import (
    data_dir_of,
    download_of,
    open_split,
    own_builder,
    prepared,
    stock_builder,
)
from brittle_jax.data.datasets.image_sets import patch_set, picture_set
from brittle_jax.data.datasets.listing import Listing, as_text
from brittle_jax.data.datasets.picture_files import PictureFiles, feature_of, picture_files_config
from brittle_jax.data.datasets.stand_in import StandIn
from brittle_jax.data.datasets.xray_parcels import VIEWS, XrayParcels, parcels_config
from brittle_jax.data.picture_file import CANNOT_BE_READ, NOT_SUPPORTED
from brittle_jax.data.settings import DataSettings
from brittle_jax.errors import UserError

_MOST_SKIPPED_SHOWN = 20


def load(name: str, settings: DataSettings) -> Dataset:
    """Returns a data set by its name in the catalogue.

    Raises:
        UserError: if it is missing and cannot be made, is of a kind that cannot be read, or has pictures that cannot be
            read while `settings.on_bad_image` is "fail".
    """
    listing = _list_files(name, settings)
    if listing is not None:
        return _load_listing(name, listing, settings)
    return _load_embedded_parcels(settings) if name == "xray" else _load_stock(name, settings)


def check_available(name: str, settings: DataSettings) -> str:
    """Returns what `load` would download, as text, empty if nothing; prepares nothing.

    Raises:
        UserError: if files are missing or damaged, and cannot be downloaded.
    """
    if CATALOGUE[name].is_files:
        _list_files(name, settings)
    elif settings.stand_in:
        stock_builder(name, settings.dir)  # raises if it is damaged
    else:
        return download_of(name, settings.dir)
    return ""


def _list_files(name: str, settings: DataSettings) -> Listing | None:
    """Returns what a data set's folder of files holds; None for stock data sets, and for one that is to be made up."""
    if not CATALOGUE[name].is_files:
        return None
    is_named = bool(settings.path)
    try:
        path = pathlib.Path(settings.path).expanduser()
        if name == "plant_pathology" and not is_named:
            path = pathlib.Path(data_dir_of(settings.dir)) / plant_pathology.FOLDER
            is_named = path.is_dir()
        if is_named:
            return _LISTINGS[name](path, settings)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the home of a user who does not exist
        reason = getattr(error, "strerror", None) or error
        culprit = as_text(getattr(error, "filename", None) or settings.path)
        raise UserError(f"data.path={as_text(settings.path)}: {culprit!r} cannot be listed: {reason}") from error
    if name == "xray" or settings.stand_in:
        return None
    raise UserError(plant_pathology.how_to_get(path) if name == "plant_pathology" else image_folder.HOW_TO_NAME)


_LISTINGS = {
    "image_folder": lambda path, settings: image_folder.list_pictures(path),
    "plant_pathology": lambda path, settings: plant_pathology.list_leaves(path),
    "xray": lambda path, settings: xray_files.list_xray(path, settings.view_suffixes, settings.compass_kind),
}


def _load_listing(name: str, listing: Listing, settings: DataSettings) -> Dataset:
    builder_config = picture_files_config(listing, settings.max_image_pixels, settings.intensity_range)
    builder = prepared(lambda: own_builder(PictureFiles, data_dir_of(settings.dir), builder_config))
    features = {view: feature_of(view) for view in listing.views}
    source = open_split(builder, "all", features.values())
    if name == "xray":
        dataset = patch_set(listing.classes, source, features, settings.patches, synthetic=False)
    else:
        dataset = picture_set(name, listing.classes, {"": source}, settings.image_size_pixels, synthetic=False)
    if dataset.skipped:
        may_skip = settings.on_bad_image == "skip" and len(dataset.samples) > 0
        if not may_skip and any(CANNOT_BE_READ in reason for _, reason in dataset.skipped):
            # Not the file's fault: it may become readable without changing, so the next run must look again.
            shutil.rmtree(builder.data_dir, ignore_errors=True)
        _report_skipped(listing, dataset.skipped, may_skip=may_skip)
    intensity = {**dataset.intensity, "range": settings.intensity_range}
    dataset = dataclasses.replace(dataset, intensity=intensity, mask_files=_masks_of(listing, dataset))
    picture_files.warn_of_intensity(listing.title, dataset.intensity)
    return dataset


def _masks_of(listing: Listing, dataset: Dataset) -> dict[int, pathlib.Path]:
    """Returns the masks of a data set's samples; those that lead out of its folder are left out."""
    masks = {entry.id: entry.mask for entry in listing.entries if entry.mask and not listing.refusal_of(entry.mask)}
    return {sample: masks[id] for sample, id in enumerate(dataset.samples.ids.tolist()) if id in masks}


def _report_skipped(listing: Listing, skipped: Sequence[tuple[str, str]], *, may_skip: bool) -> None:
    """Names the samples that cannot be used; raises UserError unless they may be left out."""
    shown = [f"{sample!r} ({reason})" for sample, reason in skipped[:_MOST_SKIPPED_SHOWN]]
    if len(skipped) > len(shown):
        shown.append(f"and {len(skipped) - len(shown)} more")
    of_all = f"{len(skipped)} of {console.count(len(listing.entries), 'sample')}"
    what = f"{listing.title}: {of_all} cannot be used: {', '.join(shown)}"
    if any(NOT_SUPPORTED in reason for _, reason in skipped):
        what += (
            "; convert unsupported files to PNG, for example with `magick mogrify -format png FILES` (ImageMagick), "
            "and move the originals away"
        )
    if not may_skip:
        raise UserError(f"{what}; repair or remove them, or leave them out with data.on_bad_image=skip")
    console.warn(f"{what}; they are left out")


def _load_stock(name: str, settings: DataSettings) -> Dataset:
    """Loads a data set that tfds knows, or its stand-in. Either is prepared first if that can be done here."""
    is_files = CATALOGUE[name].is_files
    is_stand_in = settings.stand_in and (is_files or not stock_builder(name, settings.dir).is_prepared())
    if is_stand_in:
        # Of the size of the originals, so that it takes the same path.
        builder = prepared(lambda: own_builder(StandIn, data_dir_of(settings.dir), name))
    else:
        builder = prepared(lambda: stock_builder(name, settings.dir))
    # Held-out accuracies are measured on what is called validation: ImageNet's test images have no labels.
    roles = {"test" if split == "validation" else split: split for split in CATALOGUE[name].stand_in.splits}
    sources = {role: open_split(builder, split, ["image"]) for role, split in roles.items()}
    classes = builder.info.features["label"].names
    return picture_set(name, classes, sources, settings.image_size_pixels, synthetic=is_stand_in)


def _load_embedded_parcels(settings: DataSettings) -> Dataset:
    builder_config = parcels_config(settings.parcels)
    builder = prepared(lambda: own_builder(XrayParcels, data_dir_of(settings.dir), builder_config))
    source = open_split(builder, "all", VIEWS)
    views = {view: view for view in VIEWS}
    return patch_set(CATALOGUE["xray"].classes, source, views, settings.patches, synthetic=True)
