"""CIFAR-10 with a denoising autoencoder trained on Fashion-MNIST as teacher (Tables 8 and 9, row "fmnist dae").

Published (in percent, except brittleness): unimodal KD 60.19, MSE 58.98, diagonal Mahalanobis 59.42, full 57.47,
brittleness 0.02;
multimodal KD 52.31, MSE 51.11, diagonal Mahalanobis 51.14, full 51.06,
brittleness 0.017; probe 40.57.

    python -m brittle_jax.main --config=configs/cifar10_fmnist_denoising.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cifar10_fmnist_denoising", word, data="cifar10", teacher="denoising", teacher_data="fashion_mnist"
    )
