"""The paper's two families of rows, the recipe of each teacher, and what `:smoke` makes of them."""

import ml_collections

from brittle_jax.auxiliary import TEACHERS
from brittle_jax.config import get_base_config
from brittle_jax.errors import UserError

_LARGEST_SMALL_PIXELS = 96


def small_resnet_row(
    row: str, word: str | None, *, data: str, teacher: str, teacher_data: str = ""
) -> ml_collections.ConfigDict:
    """Returns the settings of a row at 32×32 with the small ResNet; what is shared is the base's (Sec. 3.2).

    Args:
        row: its name.
        word: "smoke", or None.
        data: the anomaly-detection data set.
        teacher: its task.
        teacher_data: the data set of the task; empty for random.
    """
    config = _row(row, word, data, teacher, teacher_data)
    if teacher in ("autoencoder", "denoising", "simclr"):
        config.pretrain.optimizer = "adam"
        config.pretrain.peak_learning_rate = 1e-3
        config.pretrain.batch_size = 128
        _do_not_augment(config)
    if teacher == "simclr":  # which has its own transforms
        config.pretrain.num_epochs = 100.0
        config.pretrain.batch_size = 1024  # 512 images, in two views each
    if word == "smoke":
        config.network.name = "small_resnet_tiny"
        if data == "cifar10":
            config.data.configurations = "unimodal/airplane,multimodal/airplane"
        _reduce_training(config)
    return config


def densenet_row(
    row: str, word: str | None, *, data: str, teacher: str, teacher_data: str = ""
) -> ml_collections.ConfigDict:
    """Returns the settings of a row at 224×224 with DenseNet-161 (Sec. 3.2); arguments as in `small_resnet_row`."""
    config = _row(row, word, data, teacher, teacher_data)
    config.data.image_size_pixels = 224
    config.network.name = "densenet161"
    config.network.output_features = 0
    config.pretrain.num_epochs = 30.0
    config.pretrain.warmup_epochs = 9.0
    config.pretrain.batch_size = 64
    config.pretrain.peak_learning_rate = 0.05 * 64 / 256
    config.pretrain.weight_decay = 1e-4
    _do_not_augment(config)
    if word == "smoke":
        config.network.name = "densenet_tiny"
        if data == "xray":
            config.data.parcels.num_normal = 60
            config.data.parcels.num_threat = 12
            config.data.parcels.side_pixels = 96
            config.data.patches.size_pixels = 64
            config.data.patches.max_stride_pixels = 32
        else:
            config.data.image_size_pixels = 64
        _reduce_training(config)
    return config


def image_folder_row(word: str | None) -> ml_collections.ConfigDict:
    """Returns the settings for pictures of one's own.

    Folders of a few hundred pictures are common, so batches are small, and the student's rate is 1e-3: at the paper's,
    1e-5, it would not learn in the few updates of 20 epochs.

    Args:
        word: "smoke"; or the side of the square images that networks see, in pixels, or a teacher, or both:
            "224", "random", "224-imagenet". Up to 96 pixels a ResNet of an eighth of the width learns, for a first look
            without a GPU, beyond that DenseNet-161. No side: 64 pixels. No teacher: RotNet.
    """
    if word == "smoke":
        config = small_resnet_row("image_folder", word, data="image_folder", teacher="rotnet")
        config.data.image_size_pixels = 32
        return config
    side, teacher = _side_and_teacher(word)
    make_row = small_resnet_row if (side or 0) <= _LARGEST_SMALL_PIXELS else densenet_row
    config = make_row("image_folder", None, data="image_folder", teacher=teacher or "rotnet")
    config.word = word or ""
    config.data.image_size_pixels = side or 64
    config.distill.batch_size = 16
    config.distill.learning_rate = 1e-3
    if make_row is small_resnet_row:
        config.network.name = "small_resnet_tiny"
        config.pretrain.batch_size = 64
        if config.pretrain.optimizer == "sgd":
            config.pretrain.num_epochs = 10.0
            config.pretrain.warmup_epochs = 2.0
            config.pretrain.peak_learning_rate = 0.05
    return config


def _side_and_teacher(word: str | None) -> tuple[int | None, str | None]:
    """Reads a word such as "224-imagenet"."""
    parts = word.split("-") if word else []
    sides = [int(part) for part in parts if part.isdecimal() and 8 <= int(part) <= 4096]
    teachers = [part for part in parts if part in TEACHERS]
    if max(len(sides), len(teachers)) > 1 or len(sides) + len(teachers) < len(parts):
        raise UserError(
            f"--config=image_folder:{word}: the word is 'smoke', the side of the images in pixels, a teacher "
            f"({', '.join(TEACHERS)}), or both, such as 224-imagenet"
        )
    return (*sides, None)[0], (*teachers, None)[0]


def _row(row: str, word: str | None, data: str, teacher: str, teacher_data: str) -> ml_collections.ConfigDict:
    if word not in (None, "smoke"):
        raise UserError(f"--config={row}:{word}: the only word is 'smoke'")
    config = get_base_config()
    config.row = row
    config.word = word or ""
    config.data.name = data
    config.teacher.task = teacher
    config.teacher.data = teacher_data
    return config


def _do_not_augment(config: ml_collections.ConfigDict) -> None:
    config.pretrain.crop_padding_pixels = 0
    config.pretrain.flip = False
    config.pretrain.cutout_pixels = 0


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
