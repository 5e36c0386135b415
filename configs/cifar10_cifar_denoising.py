"""CIFAR-10 with a denoising autoencoder trained on the normal images as teacher (Tables 8 and 9, row "cifar dae").

Published (in percent, except brittleness): unimodal KD 60.06, MSE 55.53, diagonal Mahalanobis 57.41, full 58.52,
brittleness 0.022;
multimodal KD 50.84, MSE 50.36, diagonal Mahalanobis 50.04, full 50.99,
brittleness 0.013; probe 14.67.

    python -m brittle_jax.main --config=configs/cifar10_cifar_denoising.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cifar10_cifar_denoising", word, data="cifar10", teacher="denoising", teacher_data="cifar10"
    )
