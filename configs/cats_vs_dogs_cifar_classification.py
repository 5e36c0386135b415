"""Cats vs. Dogs with a teacher trained to classify CIFAR-10 (Tables 6 and 7, row "cifar class").

Published (in percent, except brittleness): cat KD 82.08, MSE 90.74, diagonal Mahalanobis 77.34, full 70.77,
brittleness 0.142;
dog KD 81.88, MSE 93.84, diagonal Mahalanobis 79.12, full 79.05,
brittleness 0.161; probe 87.57.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_cifar_classification.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_cifar_classification", word, data="cats_vs_dogs", teacher="classification", teacher_data="cifar10"
    )
