"""CIFAR-10 with a denoising autoencoder trained on STL-10 as teacher (Tables 8 and 9, row "stl dae").

Published (in percent, except brittleness): unimodal KD 60.21, MSE 62.48, diagonal Mahalanobis 63.00, full 63.33,
brittleness 0.019;
multimodal KD 51.26, MSE 51.36, diagonal Mahalanobis 51.61, full 52.04,
brittleness 0.009; probe 49.82.

    python -m brittle_jax.main --config=configs/cifar10_stl_denoising.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row("cifar10_stl_denoising", word, data="cifar10", teacher="denoising", teacher_data="stl10")
