"""CIFAR-10 with a teacher trained on rotations of Fashion-MNIST (Tables 8 and 9, row "fmnist rotnet").

Published (in percent, except brittleness): unimodal KD 57.90, MSE 54.91, diagonal Mahalanobis 55.32, full 52.81,
brittleness 0.05;
multimodal KD 51.46, MSE 50.37, diagonal Mahalanobis 50.54, full 50.52,
brittleness 0.087; probe 21.59.

    python -m brittle_jax.main --config=configs/cifar10_fmnist_rotnet.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cifar10_fmnist_rotnet", word, data="cifar10", teacher="rotnet", teacher_data="fashion_mnist"
    )
