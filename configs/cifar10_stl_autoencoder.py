"""CIFAR-10 with an autoencoder trained on STL-10 as teacher (Tables 8 and 9, row "stl ae").

Published (in percent, except brittleness): unimodal KD 62.85, MSE 61.16, diagonal Mahalanobis 62.17, full 61.03,
brittleness 0.024;
multimodal KD 51.47, MSE 51.12, diagonal Mahalanobis 50.77, full 51.54,
brittleness 0.016; probe 47.13.

    python -m brittle_jax.main --config=configs/cifar10_stl_autoencoder.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cifar10_stl_autoencoder", word, data="cifar10", teacher="autoencoder", teacher_data="stl10"
    )
