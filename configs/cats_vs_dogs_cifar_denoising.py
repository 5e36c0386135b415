"""Cats vs. Dogs with a denoising autoencoder trained on CIFAR-10 as teacher (Tables 6 and 7, row "cifar dae").

Published (in percent, except brittleness): cat KD 58.61, MSE 53.92, diagonal Mahalanobis 52.89, full 59.57,
brittleness 0.02;
dog KD 48.23, MSE 49.35, diagonal Mahalanobis 49.37, full 43.43,
brittleness 0.023; probe 66.13.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_cifar_denoising.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_cifar_denoising", word, data="cats_vs_dogs", teacher="denoising", teacher_data="cifar10"
    )
