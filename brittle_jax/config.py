"""Every setting of an experiment with its default, unit and meaning, and the rules that a valid set obeys."""

import math
from typing import Any

import ml_collections

from brittle_jax.data import parcels
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.errors import UserError
from brittle_jax.published import DETECTORS
from brittle_jax.text import nearest, split_list

DATASETS = tuple(name for name, entry in CATALOGUE.items() if entry.detects_anomalies)
OF_FILES = tuple(name for name, entry in CATALOGUE.items() if entry.is_files)  # read from files in data.path
AUXILIARY_DATASETS = tuple(CATALOGUE)
AUXILIARY_TASKS = ("classification", "baseline", "rotnet", "autoencoder", "denoising", "simclr")
TASKS_WITHOUT_DATA = ("random", "imagenet", "imagenet_lite")
SMALLER_WORDS = ("smoke", "cpu")  # after the name of a config file: they make a row smaller than its recipe
TEACHERS = (*AUXILIARY_TASKS, *TASKS_WITHOUT_DATA)
CHOICES = {
    "data.name": DATASETS,
    "data.on_bad_image": ("fail", "skip"),
    "teacher.task": TEACHERS,
    "teacher.data": ("", *AUXILIARY_DATASETS),
    "teacher.random_batch_norm": ("normal_images", "initial"),
    "pretrain.optimizer": ("sgd", "adam"),
    "distill.targets": ("raw", "standardised", "whitened"),
    "network.training_dtype": ("float32", "bfloat16"),
    "evaluate.gradient_path": ("student", "both"),
    "evaluate.covariance": ("empirical", "ridge", "ledoit_wolf"),
    "attack.detector": DETECTORS,
}


_DEFAULT_TO_SEED = ("teacher.seed", "distill.seed")  # -1 stands for the value of `seed`
# By the last part of a field's name; a larger value is surely a slip.
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
    "max_image_pixels": 178_000_000,  # beyond this Pillow refuses too
}


def get_base_config() -> ml_collections.ConfigDict:
    """Returns every field with its default. Each file in `configs/` changes those that its row needs."""
    config = ml_collections.ConfigDict()
    config.row = ""  # name of the row, and of its config file
    config.word = ""  # what followed the colon of --config=FILE:WORD
    config.seed = 0  # of all random draws: splits, subsets, the bootstrap and, unless they have their own, networks
    config.seeds = ""  # repeat the row once for each of these comma-separated seeds, instead of one run with `seed`

    config.data = data = ml_collections.ConfigDict()
    data.name = ""  # anomaly-detection data set, one of DATASETS; set by every row
    data.dir = ""  # tfds data_dir; empty: the default of tfds (TFDS_DATA_DIR or ~/tensorflow_datasets)
    data.path = ""  # folder of your own or published files: image_folder, plant_pathology, xray
    data.view_suffixes = "_top,_side"  # endings of file names, by view, of your own X-ray parcels; empty: one view
    data.compass_kind = "Colour"  # which kind of image of COMPASS-XP
    data.on_bad_image = "fail"  # images that cannot be read end the run before training; or `skip` them
    data.max_image_pixels = 100_000_000  # larger images are refused before they are decoded
    data.intensity_range = ""  # LOW,HIGH: black and white in files of more than 8 bits; empty: as the files declare
    data.configurations = "all"  # comma-separated names or groups, such as unimodal/airplane,multimodal
    data.stand_in = False  # if the data set is not found, make up small (synthetic) images instead
    data.image_size_pixels = 32  # side of the square input images (for patches see below)
    data.train_fraction = (
        0.8  # of the samples of a class, if the data set has no split of its own; the rest are for testing
    )
    data.calibration_fraction = 0.0  # of the training samples of a class, set aside for thresholds
    data.baseline_fraction = 0.5  # of the anomalous samples train the supervised baseline, if all would be for testing
    data.max_train_samples = 0  # normal training samples used in each configuration; 0: all
    data.max_test_samples = 0  # normal, and anomalous, test samples used in each configuration; 0: all

    config.data.patches = patches = ml_collections.ConfigDict()  # for parcels only
    patches.size_pixels = 224  # side of the square input patches
    patches.max_stride_pixels = 112  # patches are evenly spaced, never further apart than this
    patches.air_level = 0.92  # in [0, 1]; a pixel is air if all its channels are above this
    patches.margin_pixels = 8  # width of the air left around a parcel
    patches.inset_pixels = 56  # embedded parcels only: width of the rim, with the walls of the box, that is left out

    config.data.parcels = parcels = ml_collections.ConfigDict()  # the embedded, synthetic parcels
    parcels.num_normal = 5000  # parcels without a threat (stream of commerce)
    parcels.num_threat = 234  # parcels with a threat
    parcels.side_pixels = 560  # length of the longest side of the largest parcel
    parcels.seed = 0  # of making parcels; config.seed does not change them

    config.network = network = ml_collections.ConfigDict()
    network.name = "small_resnet"  # of the teacher; one of models.network.ARCHITECTURES
    network.student = ""  # architecture of the student; empty: the teacher's
    network.output_features = 128  # width of the random linear head; 0: no head, the pooled features are the output
    network.levels = ""  # comma-separated stages that make the features, by averages or extremes; empty: the final ones
    network.training_dtype = (
        "float32"  # of the trunk in training: `float32` or `bfloat16`; evaluation is always in float32
    )

    config.teacher = teacher = ml_collections.ConfigDict()
    teacher.task = ""  # one of TEACHERS; set by every row
    teacher.seed = -1  # of the teacher's draws: weights, head, pre-training; -1: `seed`
    teacher.data = ""  # data set of the auxiliary task; empty: the anomaly-detection data; none for TASKS_WITHOUT_DATA
    teacher.weights = ""  # file of DenseNet weights, .pth or .safetensors, for imagenet and pretrain.from_weights
    teacher.weights_sha256 = (
        "8d451a50"  # of that file, or its beginning (default: torchvision's DenseNet-161); empty: any
    )
    teacher.from_run = ""  # folder of a finished run whose teacher to use
    teacher.store = ""  # folder of pre-trained teachers; empty: `teachers` beside the folder of the run
    teacher.random_batch_norm = (
        "normal_images"  # running averages of a random teacher: measured on normal images, or `initial`
    )
    teacher.batch_norm_batch_size = 64  # images per measurement of those averages, over all devices

    config.pretrain = pretrain = ml_collections.ConfigDict()
    pretrain.num_epochs = 24.0
    pretrain.optimizer = "sgd"  # `sgd` with Nesterov momentum and a one-cycle schedule, or `adam` at a constant rate
    pretrain.from_weights = False  # start a DenseNet from teacher.weights instead of random weights
    pretrain.warmup_epochs = 5.0  # SGD only: the rate rises linearly from 0 to its peak, then falls linearly to 0
    pretrain.batch_size = 512  # inputs of the network, over all devices
    pretrain.peak_learning_rate = 0.4  # for Adam the constant rate
    pretrain.momentum = 0.9  # SGD only
    pretrain.weight_decay = 5e-4  # SGD only: L2 penalty on every parameter, added to the gradient
    pretrain.crop_padding_pixels = 4  # reflection padding before a random crop; 0: no crop
    pretrain.flip = True  # flip half of the images left to right (never for RotNet)
    pretrain.cutout_pixels = 8  # side of the blanked square; 0: none
    pretrain.noise_deviation = 0.1  # denoising only: standard deviation of the noise, for pixels in [0, 1]
    pretrain.temperature = 0.5  # SimCLR only
    pretrain.colour_strength = 0.5  # SimCLR only: strength of the colour jitter
    pretrain.max_train_samples = 0  # training samples used; 0: all
    pretrain.max_test_samples = 0  # test samples used for the held-out accuracy; 0: all

    config.distill = distill = ml_collections.ConfigDict()
    distill.seed = -1  # of the student's draws: weights, order of batches; -1: `seed`
    distill.targets = "raw"  # what the student learns: the teacher's outputs, or these `standardised` or `whitened`
    distill.num_epochs = 20.0
    distill.update_steps = 0  # if above 0, the number of updates, instead of num_epochs
    distill.batch_size = 64  # images, over all devices
    distill.learning_rate = 1e-5  # of Adam
    distill.keep_movement = False  # take, instead, the rate at which the weights move as far as in the row's recipe
    distill.measure_at = ""  # comma-separated updates after which the student is measured on the way; empty: none
    distill.measure_samples = 512  # normal training samples, normal and anomalous test samples, for each measurement

    config.probe = probe = ml_collections.ConfigDict()
    probe.inverse_penalty = 1.0  # C of the logistic regression on standardised features
    probe.max_train_samples = 0  # labelled training samples used; 0: all
    probe.max_test_samples = 0  # test samples used; 0: all

    config.evaluate = evaluate = ml_collections.ConfigDict()
    evaluate.batch_size = 64  # images, over all devices; smaller on a CPU if memory requires it
    evaluate.covariance = "empirical"  # of the full Mahalanobis detector: `empirical`, `ridge` or `ledoit_wolf`
    evaluate.ridge = 1e-3  # `ridge` only: fraction of the mean variance that is added to each variance
    evaluate.gradient_path = "student"  # in Equation 2: only the student depends on x, or `both` networks do
    evaluate.dimension_images = 0  # normal training images whose gradients are split by output dimension; 0: none
    evaluate.keep_errors_mib = 32.0  # of errors kept per configuration, of training and test images each; or a sample
    evaluate.bootstrap_samples = 1000  # resamplings of the test samples for each 95% interval

    config.attack = attack = ml_collections.ConfigDict()  # attacks on the score, as its robustness to small changes
    attack.enabled = False
    attack.detector = "kd"  # whose score is attacked
    attack.l2_epsilons = "0.05,0.1,0.2,0.5,1"  # ascending radii, for pixels in [0, 1]; empty: no attack in this norm
    attack.linf_epsilons = "0.0005,0.001,0.002,0.005,0.01"  # the same; 1/255 is a level of grey
    attack.steps = 10  # of each attack
    attack.samples = 100  # normal, and anomalous, test samples that are attacked
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


def parse_range(text: str) -> tuple[float, float] | None:
    """Returns the two numbers of a field such as "0,4095", or None if it is empty.

    Raises:
        ValueError: if it is not two finite numbers, the smaller one first.
    """
    if not text.strip():
        return None
    low, high = (float(part) for part in text.split(","))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{low} is not below {high}")
    return low, high


def parse_counts(text: str) -> list[int]:
    """Returns the numbers of a field such as "10,100".

    Raises:
        ValueError: for anything that is not a whole number above 0.
    """
    counts = [int(part) for part in split_list(text)]
    if any(count < 1 for count in counts):
        raise ValueError(f"{min(counts)} is not above 0")
    return counts


def parse_radii(text: str) -> list[float]:
    """Returns the numbers of a field such as "0.1,0.5,1".

    Raises:
        ValueError: for anything but finite numbers above 0 in ascending order.
    """
    radii = [float(part) for part in split_list(text)]
    if not all(0 < low < high < math.inf for low, high in zip([1e-300, *radii], [*radii, 1e300], strict=True)):
        raise ValueError(f"{text} are not numbers above 0 in ascending order")
    return radii


def seeds_of(config: ml_collections.ConfigDict) -> tuple[int, ...]:
    """Returns the seeds over which a row is repeated; none for a single run.

    Raises:
        UserError: if `seeds` are not different whole numbers, or `seed` is set too.
    """
    if not config.seeds.strip():
        return ()
    try:
        seeds = tuple(int(part) for part in config.seeds.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(
            f"seeds={config.seeds!r}: give different whole numbers, 0 or more, separated by commas, such as 0,1,2"
        )
    if config.seed:
        raise UserError(f"seed={config.seed} and seeds={config.seeds!r} are both set: leave out one of them")
    return seeds


def parcels_version(config: ml_collections.ConfigDict) -> str | None:
    """Returns the version of the embedded parcels that a run is on; None if it is on other images."""
    known = CATALOGUE.get(config.data.name)  # None before the settings are validated
    return parcels.VERSION if known and known.is_parcels and not config.data.path else None


def completed(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns a copy of the settings in which an empty `teacher.data` names the data set that it stands for."""
    config = config.copy_and_resolve_references()
    if not config.teacher.data and config.teacher.task not in ("", *TASKS_WITHOUT_DATA):
        config.teacher.data = config.data.name
    return config


def validate(config: ml_collections.ConfigDict) -> None:
    """Raises UserError if a value cannot be used, naming its field."""
    config = completed(config)
    fields = flatten(config)
    for name, choices in CHOICES.items():
        if fields[name] not in choices:
            hint = nearest(fields[name], list(choices))
            raise UserError(f"{name}={fields[name]!r} is not one of {', '.join(map(repr, choices))}{hint}")
    _validate_ranges(fields)
    seeds_of(config)
    _validate_image_size(config)
    _validate_files(config)
    _validate_attacks(config)
    try:
        parse_counts(config.distill.measure_at)
    except ValueError:
        raise UserError(
            f"distill.measure_at={config.distill.measure_at!r}: give numbers of updates, such as 10,100,1000"
        ) from None


def _validate_attacks(config: ml_collections.ConfigDict) -> None:
    radii = []
    for name in ("l2_epsilons", "linf_epsilons"):
        try:
            radii += parse_radii(config.attack[name])
        except ValueError:
            raise UserError(
                f"attack.{name}={config.attack[name]!r}: give numbers above 0 in ascending order, such as 0.1,0.5,1"
            ) from None
    if config.attack.enabled and not radii:
        raise UserError("attack.enabled=True, but l2_epsilons and linf_epsilons are both empty: give one of them")


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
        "distill.measure_samples",
        "evaluate.batch_size",
        "evaluate.bootstrap_samples",
        "attack.steps",
        "attack.samples",
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
            raise UserError(f"{name}={value}: give a finite number")
        if name in above_zero and value <= 0:
            raise UserError(f"{name}={value}: give a number above 0")
        lowest, otherwise = (-1, ", or -1 for the value of seed") if name in _DEFAULT_TO_SEED else (0, "")
        if value < lowest:
            raise UserError(f"{name}={value}: give 0 or more{otherwise}")
        if value > _LARGEST.get(name.rpartition(".")[2], math.inf):
            raise UserError(f"{name}={value}: give at most {_LARGEST[name.rpartition('.')[2]]}")
        if name in at_least_one and value < 1:
            raise UserError(f"{name}={value}: give at least 1")
        if name in below_one and value >= 1:
            raise UserError(f"{name}={value}: give a number below 1")


def _validate_image_size(config: ml_collections.ConfigDict) -> None:
    is_parcels = CATALOGUE[config.data.name].is_parcels
    field = "data.patches.size_pixels" if is_parcels else "data.image_size_pixels"
    side = config.data.patches.size_pixels if is_parcels else config.data.image_size_pixels
    names = (config.network.name, config.network.student)
    if any(name.startswith("densenet") for name in names) and side < 32:
        raise UserError(f"{field}={side}: a DenseNet halves its images five times: give at least 32")
    if any(name.startswith("small_resnet") for name in names) and side % 8:
        raise UserError(f"{field}={side}: the small ResNet halves its images three times: give a multiple of 8")
    if is_parcels and config.data.parcels.side_pixels < 32:
        raise UserError(f"data.parcels.side_pixels={config.data.parcels.side_pixels}: give at least 32")


def _validate_files(config: ml_collections.ConfigDict) -> None:
    if config.data.path and config.data.name not in OF_FILES:
        raise UserError(f"data.path={config.data.path!r}: {config.data.name} is read from data.dir: leave it empty")
    try:
        parse_range(config.data.intensity_range)
    except ValueError:
        raise UserError(
            f"data.intensity_range={config.data.intensity_range!r}: give two numbers, the values of "
            "black and white, such as 0,4095"
        ) from None
    if config.data.intensity_range and config.data.name not in OF_FILES:
        raise UserError(
            f"data.intensity_range={config.data.intensity_range!r}: {config.data.name} has 8 bits: leave it empty"
        )
