"""CIFAR-10 with a teacher trained with SimCLR on the normal images (Tables 8 and 9, row "cifar simclr").

Published (in percent, except brittleness): unimodal KD 54.18, MSE 33.84, diagonal Mahalanobis 34.36, full 50.85,
brittleness 0.023;
multimodal KD 49.37, MSE 31.19, diagonal Mahalanobis 31.31, full 43.45,
brittleness 0.039; probe 65.04.

    python -m brittle_jax.main --config=configs/cifar10_cifar_simclr.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row("cifar10_cifar_simclr", word, data="cifar10", teacher="simclr", teacher_data="cifar10")
