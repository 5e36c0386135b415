"""CIFAR-10, a teacher that learned rotations of Fashion-MNIST (Tables 8 and 9, rows "FMNIST RotNet").

Published, in percent: unimodal KD 57.90, MSE 54.91, diagonal Mahalanobis 55.32, full 52.81,
brittleness 0.05;
multimodal KD 51.46, MSE 50.37, diagonal Mahalanobis 50.54, full 50.52,
brittleness 0.087; probe 21.59.

    python -m brittle_jax.main --config=configs/cifar10_fmnist_rotnet.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings, with word "smoke" made small."""
    config = small_resnet_row("cifar10_fmnist_rotnet", word)
    config.data.name = "cifar10"
    config.teacher.task = "rotnet"
    config.teacher.data = "fashion_mnist"
    return config
