"""Every setting of an experiment: its default, its unit, its meaning; and what makes a set of them valid."""

import difflib
import math
from typing import Any

import ml_collections

from brittle_jax.errors import UserError

DATASETS = ("cifar10", "cats_vs_dogs", "plant_pathology", "xray", "image_folder")
OF_FILES = ("plant_pathology", "xray", "image_folder")  # read from data.path
AUXILIARY_DATASETS = (*DATASETS, "fashion_mnist", "stl10", "plant_village", "imagenet2012")
TASKS_WITHOUT_DATA = ("random", "imagenet")
CHOICES = {
    "data.name": DATASETS,
    "data.on_bad_image": ("fail", "skip"),
    "teacher.data": ("", *AUXILIARY_DATASETS),
    "teacher.random_batch_norm": ("normal_images", "initial"),
    "pretrain.optimizer": ("sgd", "adam"),
    "network.training_dtype": ("float32", "bfloat16"),
    "evaluate.gradient_path": ("student", "both"),
    "evaluate.covariance": ("empirical", "ridge", "ledoit_wolf"),
}


# By the last part of a field's name: beyond these it is a slip of the finger.
_LARGEST = {
    "batch_size": 65_536,
    "batch_norm_batch_size": 65_536,
    "num_epochs": 1_000_000,
    "update_steps": 1_000_000_000,
    "size_pixels": 4096,
    "image_size_pixels": 4096,
    "side_pixels": 8192,
    "noise_deviation": 10.0,
    "colour_strength": 1.0,
    "max_image_pixels": 178_000_000,  # beyond which Pillow refuses by itself
}


def get_base_config() -> ml_collections.ConfigDict:
    """Returns every field with its default. The files in `configs/` change what a row needs."""
    config = ml_collections.ConfigDict()
    config.row = ""  # name of the row, and of its config file
    config.word = ""  # what followed the colon of --config=FILE:WORD
    config.seed = 0  # of every random draw; teacher, student, splits and shuffling derive their own from it

    config.data = data = ml_collections.ConfigDict()
    data.name = ""  # anomaly-detection data set, one of DATASETS; every row names its own
    data.dir = ""  # tfds data_dir; empty: tfds's own default (TFDS_DATA_DIR or ~/tensorflow_datasets)
    data.path = ""  # folder of files of one's own, or as published: image_folder, plant_pathology, xray
    data.view_suffixes = "_top,_side"  # of one's own X-ray parcels: how file names of each view end; empty: one view
    data.compass_kind = "Colour"  # of COMPASS-XP: which of its kinds of image
    data.on_bad_image = "fail"  # pictures that cannot be read end the run before any training; or `skip` them
    data.max_image_pixels = 100_000_000  # larger pictures are refused before they are decoded
    data.intensity_range = ""  # LOW,HIGH: what becomes black and white in files of more than 8 bits; empty: they say
    data.configurations = "all"  # comma-separated names or groups, such as unimodal/airplane,multimodal
    data.stand_in = False  # where the data set is not found, make small images up instead (called synthetic)
    data.image_size_pixels = 32  # side of the square images a network sees (whole images; patches: see below)
    data.train_fraction = 0.8  # of the samples of a class, where the data set has no split of its own; the rest tests
    data.calibration_fraction = 0.0  # of the training samples of a class are set aside, for thresholds
    data.baseline_fraction = 0.5  # of the anomalous samples train the supervised baseline, where all test otherwise
    data.max_train_samples = 0  # of each configuration's normal training samples use so many; 0: all
    data.max_test_samples = 0  # of each configuration's normal, and anomalous, test samples use so many; 0: all

    config.data.patches = patches = ml_collections.ConfigDict()  # of parcels only
    patches.size_pixels = 224  # side of the square patches a network sees
    patches.max_stride_pixels = 112  # windows are evenly spaced, never further apart than this
    patches.air_level = 0.92  # in [0, 1]; a pixel is air where all its channels are above this
    patches.margin_pixels = 8  # air left around a parcel

    config.data.parcels = parcels = ml_collections.ConfigDict()  # the embedded, synthetic parcels
    parcels.num_normal = 5000  # stream-of-commerce parcels
    parcels.num_threat = 234  # parcels with a threat
    parcels.side_pixels = 448  # of the longest parcel's longest side
    parcels.seed = 0  # of the parcels themselves; config.seed does not change them

    config.network = network = ml_collections.ConfigDict()
    network.name = "small_resnet"  # of teacher and student alike; one of models.network.ARCHITECTURES
    network.output_features = 128  # of the random linear head; 0: the pooled features are the output
    network.training_dtype = "float32"  # of the trunk in training; or `bfloat16`. Evaluation is always float32

    config.teacher = teacher = ml_collections.ConfigDict()
    teacher.task = ""  # random, imagenet or one of auxiliary.TASKS; every row names its own
    teacher.data = ""  # data set of the auxiliary task; empty: the anomaly-detection data, or none for random, imagenet
    teacher.weights = ""  # of imagenet, and of pretrain.from_weights: file of DenseNet weights, .pth or .safetensors
    teacher.weights_sha256 = "8d451a50"  # of that file, or how it begins (torchvision's DenseNet-161); empty: any
    teacher.from_run = ""  # folder of a finished run, whose teacher is taken instead of making one
    teacher.store = ""  # folder of pre-trained teachers; empty: `teachers` beside the run's own folder
    teacher.random_batch_norm = "normal_images"  # running averages of a random teacher: measured, or `initial`
    teacher.batch_norm_batch_size = 64  # images whose statistics are measured together, over all devices

    config.pretrain = pretrain = ml_collections.ConfigDict()
    pretrain.num_epochs = 24.0
    pretrain.optimizer = "sgd"  # with Nesterov momentum and a one-cycle rate; or `adam`, at a constant rate
    pretrain.from_weights = False  # start a DenseNet from teacher.weights instead of a random draw
    pretrain.warmup_epochs = 5.0  # of sgd: the rate rises from 0 to its peak, then falls to 0, both linearly
    pretrain.batch_size = 512  # images that enter the network, over all devices
    pretrain.peak_learning_rate = 0.4  # of sgd; the constant rate of adam
    pretrain.momentum = 0.9  # of sgd
    pretrain.weight_decay = 5e-4  # of sgd: added to the gradient, of every parameter
    pretrain.crop_padding_pixels = 4  # reflected border before a random crop; 0: no crop
    pretrain.flip = True  # mirror half of the images (RotNet never does)
    pretrain.cutout_pixels = 8  # side of the square that is blanked; 0: none
    pretrain.noise_deviation = 0.1  # of denoising: standard deviation of the noise on pixels in [0, 1]
    pretrain.temperature = 0.5  # of simclr
    pretrain.colour_strength = 0.5  # of simclr's colour jitter
    pretrain.max_train_samples = 0  # use so many training samples; 0: all
    pretrain.max_test_samples = 0  # measure the held-out accuracy on so many; 0: all

    config.distill = distill = ml_collections.ConfigDict()
    distill.num_epochs = 20.0
    distill.update_steps = 0  # if above 0, so many updates instead of num_epochs
    distill.batch_size = 64  # images, over all devices
    distill.learning_rate = 1e-5  # of Adam

    config.probe = probe = ml_collections.ConfigDict()
    probe.inverse_penalty = 1.0  # C of the logistic regression on standardised features
    probe.max_train_samples = 0  # fit on so many labelled training samples; 0: all
    probe.max_test_samples = 0  # measure on so many test samples; 0: all

    config.evaluate = evaluate = ml_collections.ConfigDict()
    evaluate.batch_size = 64  # images, over all devices; on a CPU no more than memory is kept bounded with
    evaluate.covariance = "empirical"  # of the full Mahalanobis detector: `empirical`, `ridge`, `ledoit_wolf`
    evaluate.ridge = 1e-3  # for `ridge`: share of the mean variance added to each variance
    evaluate.gradient_path = "student"  # of Equation 2: the teacher's output is constant, or `both` depend on x
    evaluate.keep_errors_mib = 32.0  # of each configuration's errors f(x) - h(x) are kept with the run; then a sample
    evaluate.bootstrap_samples = 1000  # resamplings of the test samples behind each 95% interval
    return config


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the fields by dotted name: `{"data.name": "cifar10", ...}`."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            fields.update({f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()})
        else:
            fields[name] = value
    return fields


def split_list(text: str) -> list[str]:
    """Splits a comma-separated field; spaces around items and empty items do not count."""
    return [item.strip() for item in text.split(",") if item.strip()]


def parse_range(text: str) -> tuple[float, float] | None:
    """Returns the two numbers of a field such as "0,4095"; None where it is empty.

    Raises:
        ValueError: where it is not two finite numbers, the smaller one first.
    """
    if not text.strip():
        return None
    low, high = (float(part) for part in text.split(","))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{low} is not below {high}")
    return low, high


def nearest(name: str, known: list[str]) -> str:
    """Returns a hint such as ` (did you mean data.name?)`, empty where nothing is near."""
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def completed(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the settings with the data set of the auxiliary task named where it is left to be one's own."""
    config = config.copy_and_resolve_references()
    if not config.teacher.data and config.teacher.task not in ("", *TASKS_WITHOUT_DATA):
        config.teacher.data = config.data.name
    return config


def validate(config: ml_collections.ConfigDict) -> None:
    """Raises UserError, naming the field, where a value cannot be used."""
    config = completed(config)
    fields = flatten(config)
    for name, choices in CHOICES.items():
        if fields[name] not in choices:
            hint = nearest(fields[name], list(choices))
            raise UserError(f"--config.{name}={fields[name]!r} is not one of {', '.join(map(repr, choices))}{hint}")
    _validate_ranges(fields)
    _validate_image_size(config)
    _validate_files(config)
    _validate_teacher(config)


def _validate_ranges(fields: dict[str, Any]) -> None:
    at_least_one = (
        "data.image_size_pixels",
        "data.max_image_pixels",
        "data.patches.size_pixels",
        "data.patches.max_stride_pixels",
        "data.parcels.num_normal",
        "teacher.batch_norm_batch_size",
        "pretrain.batch_size",
        "distill.batch_size",
        "evaluate.batch_size",
        "evaluate.bootstrap_samples",
    )
    above_zero = (
        "pretrain.num_epochs",
        "pretrain.temperature",
        "distill.num_epochs",
        "distill.learning_rate",
        "probe.inverse_penalty",
    )
    below_one = (
        "data.patches.air_level",
        "data.train_fraction",
        "data.calibration_fraction",
        "data.baseline_fraction",
        "pretrain.momentum",
    )
    for name, value in fields.items():
        if isinstance(value, str | bool):
            continue
        if value != value or value in (float("inf"), float("-inf")):
            raise UserError(f"--config.{name}={value}: give a finite number")
        if name in above_zero and value <= 0:
            raise UserError(f"--config.{name}={value}: give a number above 0")
        if value < 0:
            raise UserError(f"--config.{name}={value}: give 0 or more")
        if value > _LARGEST.get(name.rpartition(".")[2], math.inf):
            raise UserError(f"--config.{name}={value}: give at most {_LARGEST[name.rpartition('.')[2]]}")
        if name in at_least_one and value < 1:
            raise UserError(f"--config.{name}={value}: give at least 1")
        if name in below_one and value >= 1:
            raise UserError(f"--config.{name}={value}: give a number below 1")


def _validate_image_size(config: ml_collections.ConfigDict) -> None:
    is_parcels = config.data.name == "xray"
    field = "data.patches.size_pixels" if is_parcels else "data.image_size_pixels"
    side = config.data.patches.size_pixels if is_parcels else config.data.image_size_pixels
    if config.network.name.startswith("densenet") and side < 32:
        raise UserError(f"--config.{field}={side}: a DenseNet halves its images five times, give at least 32")
    if config.network.name.startswith("small_resnet") and side % 8:
        raise UserError(
            f"--config.{field}={side}: the small ResNet halves its images three times, give a multiple of 8"
        )
    if is_parcels and config.data.parcels.side_pixels < 32:
        raise UserError(f"--config.data.parcels.side_pixels={config.data.parcels.side_pixels}: give at least 32")
    for name in ("crop_padding_pixels", "cutout_pixels") if config.teacher.task != "random" else ():
        if config.pretrain[name] >= side:
            raise UserError(f"--config.pretrain.{name}={config.pretrain[name]}: give less than {field}, {side}")


def _validate_files(config: ml_collections.ConfigDict) -> None:
    if config.data.path and config.data.name not in OF_FILES:
        raise UserError(
            f"--config.data.path={config.data.path!r}: {config.data.name} lies in --config.data.dir, leave it empty"
        )
    try:
        parse_range(config.data.intensity_range)
    except ValueError:
        raise UserError(
            f"--config.data.intensity_range={config.data.intensity_range!r}: give two numbers, the values that become "
            "black and white, such as 0,4095"
        ) from None
    if config.data.intensity_range and config.data.name not in OF_FILES:
        raise UserError(
            f"--config.data.intensity_range={config.data.intensity_range!r}: {config.data.name} has 8 bits, leave it "
            "empty"
        )


def _validate_teacher(config: ml_collections.ConfigDict) -> None:
    task, data = config.teacher.task, config.teacher.data
    if task in TASKS_WITHOUT_DATA and data:
        raise UserError(f"--config.teacher.data={data!r}: the teacher {task} has no data set, leave it empty")
    if (task == "imagenet" or config.pretrain.from_weights) and not config.network.name.startswith("densenet"):
        raise UserError(f"--config.network.name={config.network.name!r}: weights are published for DenseNets alone")
    if task in TASKS_WITHOUT_DATA and config.pretrain.from_weights:
        raise UserError(f"--config.pretrain.from_weights: the teacher {task} is not pre-trained here, leave it False")
    if task == "baseline" and data != config.data.name:
        raise UserError(
            f"--config.teacher.data={data!r}: the supervised baseline learns the anomaly-detection data itself, "
            f"give {config.data.name!r}"
        )
    if task == "classification" and data == config.data.name:
        raise UserError(
            "--config.teacher.task='classification' on the anomaly-detection data itself would see anomalies: "
            "use teacher.task='baseline' for that, or another teacher.data"
        )
    if task == "simclr" and config.pretrain.batch_size < 4:
        raise UserError(f"--config.pretrain.batch_size={config.pretrain.batch_size}: simclr tells images apart, give 4")
    if task == "denoising" and not config.pretrain.noise_deviation:
        raise UserError("--config.pretrain.noise_deviation=0.0: without noise the teacher is autoencoder, name that")
    if data == "image_folder" != config.data.name:
        raise UserError("--config.teacher.data='image_folder': pictures of one's own teach on themselves alone")
    if (data == "xray") != (config.data.name == "xray") and data:
        raise UserError(f"--config.teacher.data={data!r} does not go with --config.data.name={config.data.name!r}")
