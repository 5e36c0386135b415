"""CIFAR-10 with a teacher trained to classify STL-10 (Tables 8 and 9, row "stl class").

Published (in percent, except brittleness): unimodal KD 85.29, MSE 88.45, diagonal Mahalanobis 89.05, full 82.66,
brittleness 0.09;
multimodal KD 76.28, MSE 54.03, diagonal Mahalanobis 55.81, full 63.33,
brittleness 0.128; probe 56.70.

    python -m brittle_jax.main --config=configs/cifar10_stl_classification.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cifar10_stl_classification", word, data="cifar10", teacher="classification", teacher_data="stl10"
    )
