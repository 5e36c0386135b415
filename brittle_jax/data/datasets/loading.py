"""Loads a data set by name as an ImageSet, preparing it first where it can be made here."""

import contextlib
import functools
import io
import itertools
import pathlib
import sys

import filelock
import ml_collections
import numpy as np
import tensorflow_datasets as tfds

from brittle_jax import console
from brittle_jax.data import patches, preprocess
from brittle_jax.data.datasets.stand_in import StandIn
from brittle_jax.data.datasets.xray_parcels import VIEWS, XrayParcels, parcels_config
from brittle_jax.data.image_set import ImageSet
from brittle_jax.errors import UserError

_AS_BYTES = tfds.decode.SkipDecoding()  # `preprocess.decode` decodes every image of every data set
_ARRAY_RECORD = tfds.core.FileFormat.ARRAY_RECORD  # the one format that is read without TensorFlow
_SPLITS = ("train", "test")


def load(name: str, config: ml_collections.ConfigDict) -> ImageSet:
    """Returns a data set in the form that `config.data` asks for.

    Raises:
        UserError: where it is not there and cannot be made, or is of a kind that cannot be read.
    """
    if name == "xray":
        return _load_parcels(config)
    return _load_pictures(name, config)


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
    sources = [builder.as_data_source(split, decoders={"image": _AS_BYTES}) for split in _SPLITS]
    ids, labels = [], []
    for split, source in zip(_SPLITS, sources, strict=True):
        for index, example in enumerate(source.__getitems__(range(len(source)))):
            labels.append(example["label"])
            ids.append(example["id"].decode() if "id" in example else f"{split}_{index:05d}")
    num_train = len(sources[0])

    def read_image(index: int) -> np.ndarray:
        source, offset = (sources[0], 0) if index < num_train else (sources[1], num_train)
        return preprocess.resize(preprocess.decode(source[index - offset]["image"]), side)

    return ImageSet(
        name=name,
        classes=tuple(builder.info.features["label"].names),
        synthetic=synthetic,
        ids=np.asarray(ids),
        labels=np.asarray(labels),
        official_split=np.repeat(_SPLITS, [len(source) for source in sources]),
        sample_of_image=np.arange(len(ids)),
        views=("",),
        view_of_image=np.zeros(len(ids), int),
        read_image=read_image,
        image_shape=(side, side, 3),
    )


def _stock_builder(name: str, config: ml_collections.ConfigDict) -> tfds.core.DatasetBuilder:
    data_dir = config.data.dir
    if data_dir and not pathlib.Path(data_dir).is_dir():
        raise UserError(f"--config.data.dir={data_dir}: no such folder")
    builder = tfds.builder(name, data_dir=data_dir or None)
    if builder.is_prepared() and builder.info.file_format is not _ARRAY_RECORD:
        raise UserError(
            f"{builder.data_dir} is in the format {builder.info.file_format.value}, which only TensorFlow reads: "
            f"prepare it again as array_record ({_prepare_command(builder)})"
        )
    return builder


def _not_found(builder: tfds.core.DatasetBuilder) -> str:
    return (
        f"{builder.name} is not in {builder.data_dir_root}: name the folder that has it with --config.data.dir, "
        f"or download it once ({_prepare_command(builder)})"
    )


def _prepare_command(builder: tfds.core.DatasetBuilder) -> str:
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
                with contextlib.redirect_stdout(io.StringIO()):
                    builder.download_and_prepare(file_format=_ARRAY_RECORD)
    except OSError as error:
        raise UserError(f"--config.data.dir: made-up images cannot be written to {root} ({error.strerror})") from error


def _load_parcels(config: ml_collections.ConfigDict) -> ImageSet:
    """Loads parcels as the patches of their views (Sec. 3.1)."""
    settings = config.data.patches
    builder = XrayParcels(data_dir=config.data.dir or None, config=parcels_config(**config.data.parcels))
    _prepare_once(builder)
    source = builder.as_data_source("parcels", decoders={view: _AS_BYTES for view in VIEWS})

    @functools.lru_cache(maxsize=16)  # patches of one view are often read one after the other
    def read_view(parcel: int, view: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        image = preprocess.decode(source[parcel][VIEWS[view]])
        return image, patches.remove_air(image, settings.air_level, settings.margin_pixels)

    where = []  # parcel, view, top and left of every patch
    for parcel, view in itertools.product(range(len(source)), range(len(VIEWS))):
        _, box = read_view(parcel, view)
        origins = patches.patch_origins(box, settings.size_pixels, settings.max_stride_pixels)
        where.extend((parcel, view, *origin) for origin in origins)
    where = np.asarray(where)

    def read_patch(index: int) -> np.ndarray:
        parcel, view, *origin = where[index].tolist()
        image, box = read_view(parcel, view)
        return patches.cut_patch(image, box, origin, settings.size_pixels)

    examples = source.__getitems__(range(len(source)))
    return ImageSet(
        name="xray",
        classes=builder.info.features["label"].names,
        synthetic=True,
        ids=np.asarray([example["id"].decode() for example in examples]),
        labels=np.asarray([example["label"] for example in examples]),
        official_split=np.full(len(examples), ""),
        sample_of_image=where[:, 0],
        views=VIEWS,
        view_of_image=where[:, 1],
        read_image=read_patch,
        image_shape=(settings.size_pixels, settings.size_pixels, 3),
    )
