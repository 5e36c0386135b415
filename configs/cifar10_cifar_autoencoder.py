"""CIFAR-10 with an autoencoder trained on the normal images as teacher (Tables 8 and 9, row "cifar ae").

Published (in percent, except brittleness): unimodal KD 61.03, MSE 60.82, diagonal Mahalanobis 61.74, full 59.33,
brittleness 0.025;
multimodal KD 51.64, MSE 51.01, diagonal Mahalanobis 51.55, full 51.22,
brittleness 0.02; probe 44.50.

    python -m brittle_jax.main --config=configs/cifar10_cifar_autoencoder.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cifar10_cifar_autoencoder", word, data="cifar10", teacher="autoencoder", teacher_data="cifar10"
    )
