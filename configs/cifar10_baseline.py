"""CIFAR-10 with a supervised teacher of its ten classes: the ceiling (Tables 8 and 9, row "baseline").

Published (in percent, except brittleness): unimodal KD 95.44, MSE 94.83, diagonal Mahalanobis 94.99, full 89.96,
brittleness 0.164;
multimodal KD 87.60, MSE 57.20, diagonal Mahalanobis 57.39, full 69.57,
brittleness 0.094; probe 94.08.

    python -m brittle_jax.main --config=configs/cifar10_baseline.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row("cifar10_baseline", word, data="cifar10", teacher="baseline", teacher_data="cifar10")
