"""Loads a data set by name as an ImageSet, preparing it first where it can be made here."""

import concurrent.futures
import contextlib
import functools
import itertools
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence

import filelock
import ml_collections
import numpy as np
import tensorflow_datasets as tfds

from brittle_jax import console
from brittle_jax.data import patches, preprocess
from brittle_jax.data.datasets.plant_pathology import PlantPathology
from brittle_jax.data.datasets.stand_in import FORMATS, StandIn
from brittle_jax.data.datasets.xray_parcels import CLASSES, VIEWS, XrayParcels, parcels_config
from brittle_jax.data.image_set import ImageSet
from brittle_jax.errors import UserError

_AS_BYTES = tfds.decode.SkipDecoding()  # `preprocess.decode` decodes every image of every data set
_ARRAY_RECORD = tfds.core.FileFormat.ARRAY_RECORD  # the one format that is read without TensorFlow
_CHUNK = 512  # examples


def load(name: str, config: ml_collections.ConfigDict) -> ImageSet:
    """Returns a data set in the form that `config.data` asks for.

    Raises:
        UserError: where it is not there and cannot be made, or is of a kind that cannot be read.
    """
    if name == "xray":
        return _load_parcels(config)
    return _load_pictures(name, config)


def classes_of(name: str) -> Sequence[str]:
    """Returns the classes of an anomaly-detection data set without reading it."""
    return CLASSES if name == "xray" else FORMATS[name].classes


def _load_pictures(name: str, config: ml_collections.ConfigDict) -> ImageSet:
    """Loads a stock data set of labelled pictures, each resized to the size that networks see."""
    side = config.data.image_size_pixels
    builder, synthetic = _stock_builder(name, config), False
    if not builder.is_prepared():
        if not config.data.stand_in:
            raise UserError(_not_found(builder))
        # Made up at the size of the originals, so that they take the same path.
        builder = StandIn(data_dir=builder.data_dir_root, config=name)
        _prepare_once(builder)
        synthetic = True
    splits = list(FORMATS[name].splits)
    sources = [_source(builder, split, ["image"]) for split in splits]
    tables = [_ids_and_labels(source, split) for source, split in zip(sources, splits, strict=True)]
    ids, labels = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    starts = np.cumsum([0, *(len(source) for source in sources)])

    def read_picture(index: int, view: int = 0) -> np.ndarray:
        which = int(np.searchsorted(starts, index, side="right")) - 1
        return preprocess.decode(sources[which][int(index - starts[which])]["image"])

    return ImageSet(
        name=name,
        classes=tuple(builder.info.features["label"].names),
        synthetic=synthetic,
        ids=ids,
        labels=labels,
        official_split=np.repeat(splits, [len(source) for source in sources]) if "test" in splits else None,
        sample_of_image=np.arange(len(ids)),
        views=("",),
        view_of_image=np.zeros(len(ids), int),
        read_image=lambda index: preprocess.resize(read_picture(index), side),
        image_shape=(side, side, 3),
        read_view=read_picture,
        box_of_image=None,
    )


def _stock_builder(name: str, config: ml_collections.ConfigDict) -> tfds.core.DatasetBuilder:
    data_dir = _data_dir(config)
    if data_dir and not pathlib.Path(data_dir).is_dir():
        raise UserError(f"--config.data.dir={data_dir}: no such folder")
    with _reporting_damage(name, data_dir):
        builder = (
            PlantPathology(data_dir=data_dir) if name == "plant_pathology" else tfds.builder(name, data_dir=data_dir)
        )
    if builder.is_prepared() and builder.info.file_format is not _ARRAY_RECORD:
        raise UserError(
            f"{builder.data_dir} is in the format {builder.info.file_format.value}, which only TensorFlow reads: "
            f"prepare it again as array_record ({_prepare_command(builder)})"
        )
    return builder


def _data_dir(config: ml_collections.ConfigDict) -> str | None:
    return os.path.expanduser(config.data.dir) or None


def _source(builder: tfds.core.DatasetBuilder, split: str, images: Sequence[str]) -> Sequence[dict]:
    """Opens a split whose images stay encoded."""
    with _reporting_damage(builder.name, builder.data_dir_root):
        source = builder.as_data_source(split, decoders={name: _AS_BYTES for name in images})
        source[0], source[len(source) - 1]  # files that were cut short fail here, before anything is trained
    return source


def _ids_and_labels(source: Sequence[dict], prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads ids and labels, a chunk at a time, so that the images of a chunk alone are in memory."""
    ids, labels = [], []
    for start in range(0, len(source), _CHUNK):
        for example in source.__getitems__(range(start, min(start + _CHUNK, len(source)))):
            ids.append(example["id"].decode() if "id" in example else f"{prefix}_{len(ids):05d}")
            labels.append(example["label"])
    return np.asarray(ids), np.asarray(labels)


@contextlib.contextmanager
def _reporting_damage(name: str, data_dir: str | None) -> Iterator[None]:
    """Turns whatever tfds and its readers raise on broken files into one line."""
    try:
        yield
    except Exception as error:  # AssertionError, ParseError, RuntimeError, ...: there is no common class
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{name} in {data_dir or 'the default tfds folder'} is damaged: delete its folder and prepare it again "
            f"({type(error).__name__}: {reason})"
        ) from error


def _not_found(builder: tfds.core.DatasetBuilder) -> str:
    return (
        f"{builder.name} is not in {builder.data_dir_root}: name the folder that has it with --config.data.dir, "
        f"or download it once ({_prepare_command(builder)})"
    )


def _prepare_command(builder: tfds.core.DatasetBuilder) -> str:
    if isinstance(builder, PlantPathology):  # which tfds does not know
        root = builder.data_dir_root
        return (
            f"put train.csv and images/ of Kaggle's plant-pathology-2020-fgvc7 into {root}/downloads/manual, "
            'then python -c "from brittle_jax.data.datasets.plant_pathology import PlantPathology as P; '
            f"P(data_dir='{root}').download_and_prepare(file_format='array_record')\""
        )
    return (
        "pip install 'brittle-jax[prepare]' && tfds build "
        f"{builder.name} --file_format=array_record --data_dir={builder.data_dir_root}"
    )


def _prepare_once(builder: tfds.core.DatasetBuilder) -> None:
    """Makes the examples of a builder of ours; a second process waits for the first and then finds them made."""
    root = pathlib.Path(builder.data_dir_root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f".{builder.name}-{builder.builder_config.name}.lock"):
            if not builder.is_prepared():
                console.say(f"making {builder.name} ({builder.builder_config.name}), once, in {root}")
                if not sys.stderr.isatty():
                    tfds.disable_progress_bar()
                with console.libraries_silenced():
                    builder.download_and_prepare(file_format=_ARRAY_RECORD)
    except OSError as error:
        raise UserError(f"--config.data.dir: made-up images cannot be written to {root} ({error.strerror})") from error


def _load_parcels(config: ml_collections.ConfigDict) -> ImageSet:
    """Loads parcels as the patches of their views (Sec. 3.1)."""
    settings = config.data.patches
    builder = XrayParcels(data_dir=_data_dir(config), config=parcels_config(**config.data.parcels))
    _prepare_once(builder)
    source = _source(builder, "all", VIEWS)
    ids, labels = _ids_and_labels(source, "parcel")

    @functools.lru_cache(maxsize=16)  # patches of one view are often read one after the other
    def read_view(parcel: int, view: int) -> np.ndarray:
        return preprocess.decode(source[parcel][VIEWS[view]])

    def find_box(parcel_and_view: tuple[int, int]) -> patches.Box:
        return patches.remove_air(read_view(*parcel_and_view), settings.air_level, settings.margin_pixels)

    views = list(itertools.product(range(len(source)), range(len(VIEWS))))
    boxes, where = {}, []  # of each view; parcel, view, top and left of every patch
    with (
        concurrent.futures.ThreadPoolExecutor() as pool,  # decoding releases the interpreter lock
        console.track("patches of the parcels", len(views), unit="view") as progress,
    ):
        for view, box in zip(views, pool.map(find_box, views), strict=True):
            boxes[view] = box
            origins = patches.patch_origins(box, settings.size_pixels, settings.max_stride_pixels)
            where.extend((*view, *origin) for origin in origins)
            progress.update(1)
    where = np.asarray(where)

    def read_patch(index: int) -> np.ndarray:
        parcel, view, *origin = where[index].tolist()
        return patches.cut_patch(read_view(parcel, view), boxes[parcel, view], origin, settings.size_pixels)

    return ImageSet(
        name="xray",
        classes=builder.info.features["label"].names,
        synthetic=True,
        ids=ids,
        labels=labels,
        official_split=None,
        sample_of_image=where[:, 0],
        views=VIEWS,
        view_of_image=where[:, 1],
        read_image=read_patch,
        image_shape=(settings.size_pixels, settings.size_pixels, 3),
        read_view=read_view,
        box_of_image=np.concatenate([where[:, 2:], where[:, 2:] + settings.size_pixels], axis=1),
    )
