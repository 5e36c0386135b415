"""CIFAR-10 with a teacher trained on rotations of the normal images (Tables 8 and 9, row "cifar rotnet").

Published (in percent, except brittleness): unimodal KD 85.35, MSE 85.99, diagonal Mahalanobis 85.98, full 84.88,
brittleness 0.046;
multimodal KD 61.35, MSE 59.90, diagonal Mahalanobis 60.16, full 53.59,
brittleness 0.048; probe 37.27.

    python -m brittle_jax.main --config=configs/cifar10_cifar_rotnet.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row("cifar10_cifar_rotnet", word, data="cifar10", teacher="rotnet", teacher_data="cifar10")
