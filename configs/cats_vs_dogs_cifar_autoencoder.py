"""Cats vs. Dogs with an autoencoder trained on CIFAR-10 as teacher (Tables 6 and 7, row "cifar ae").

Published (in percent, except brittleness): cat KD 59.31, MSE 54.75, diagonal Mahalanobis 54.05, full 59.37,
brittleness 0.033;
dog KD 43.94, MSE 49.38, diagonal Mahalanobis 48.85, full 42.83,
brittleness 0.032; probe 64.11.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_cifar_autoencoder.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_cifar_autoencoder", word, data="cats_vs_dogs", teacher="autoencoder", teacher_data="cifar10"
    )
