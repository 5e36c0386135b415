"""The paper's two families of rows, and what `:smoke` makes of them."""

import ml_collections

from brittle_jax.config import get_base_config
from brittle_jax.errors import UserError


def small_resnet_row(row: str, word: str | None) -> ml_collections.ConfigDict:
    """Returns the settings shared by the rows at 32×32 with the small ResNet; those are the base's (Sec. 3.2)."""
    config = _named(row, word)
    if word == "smoke":
        config.data.stand_in = True
        config.network.name = "small_resnet_tiny"
        config.data.configurations = "unimodal/airplane,multimodal/airplane"
        _reduce_training(config)
    return config


def densenet_row(row: str, word: str | None) -> ml_collections.ConfigDict:
    """Returns the settings shared by the rows at 224×224 with DenseNet-161 (Sec. 3.2)."""
    config = _named(row, word)
    config.network.name = "densenet161"
    config.network.output_features = 0
    config.pretrain.num_epochs = 30.0
    config.pretrain.warmup_epochs = 9.0
    config.pretrain.batch_size = 64
    config.pretrain.peak_learning_rate = 0.05 * 64 / 256
    config.pretrain.weight_decay = 1e-4
    config.pretrain.crop_padding_pixels = 0
    config.pretrain.flip = False
    config.pretrain.cutout_pixels = 0
    if word == "smoke":
        config.network.name = "densenet_tiny"
        config.data.parcels.num_normal = 60
        config.data.parcels.num_threat = 12
        config.data.parcels.side_pixels = 96
        config.data.patches.size_pixels = 64
        config.data.patches.max_stride_pixels = 32
        _reduce_training(config)
    return config


def _named(row: str, word: str | None) -> ml_collections.ConfigDict:
    if word not in (None, "smoke"):
        raise UserError(f"--config={row}:{word}: the only word is 'smoke'")
    config = get_base_config()
    config.row = row
    config.word = word or ""
    return config


def _reduce_training(config: ml_collections.ConfigDict) -> None:
    config.data.max_train_samples = 96
    config.data.max_test_samples = 32
    config.pretrain.num_epochs = 3.0
    config.pretrain.warmup_epochs = 1.0
    config.pretrain.batch_size = 64
    config.pretrain.peak_learning_rate = 0.05
    config.pretrain.max_train_samples = 192
    config.pretrain.max_test_samples = 64
    config.distill.num_epochs = 30.0
    config.distill.batch_size = 32
    config.distill.learning_rate = 1e-2
    config.evaluate.bootstrap_samples = 200
