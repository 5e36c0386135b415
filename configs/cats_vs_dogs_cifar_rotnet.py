"""Cats vs. Dogs with a teacher trained on rotations of CIFAR-10 (Tables 6 and 7, row "cifar rotnet").

Published (in percent, except brittleness): cat KD 54.54, MSE 51.11, diagonal Mahalanobis 51.26, full 54.82,
brittleness 0.077;
dog KD 58.83, MSE 51.59, diagonal Mahalanobis 51.62, full 56.87,
brittleness 0.081; probe 76.65.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_cifar_rotnet.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_cifar_rotnet", word, data="cats_vs_dogs", teacher="rotnet", teacher_data="cifar10"
    )
