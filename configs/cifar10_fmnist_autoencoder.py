"""CIFAR-10 with an autoencoder trained on Fashion-MNIST as teacher (Tables 8 and 9, row "fmnist ae").

Published (in percent, except brittleness): unimodal KD 63.50, MSE 60.77, diagonal Mahalanobis 59.82, full 59.24,
brittleness 0.021;
multimodal KD 51.89, MSE 51.16, diagonal Mahalanobis 51.46, full 51.29,
brittleness 0.018; probe 43.60.

    python -m brittle_jax.main --config=configs/cifar10_fmnist_autoencoder.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cifar10_fmnist_autoencoder", word, data="cifar10", teacher="autoencoder", teacher_data="fashion_mnist"
    )
