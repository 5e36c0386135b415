"""CIFAR-10 with a teacher trained on rotations of STL-10 (Tables 8 and 9, row "stl rotnet").

Published (in percent, except brittleness): unimodal KD 70.71, MSE 70.28, diagonal Mahalanobis 70.00, full 66.32,
brittleness 0.056;
multimodal KD 55.31, MSE 52.96, diagonal Mahalanobis 52.83, full 52.90,
brittleness 0.057; probe 59.94.

    python -m brittle_jax.main --config=configs/cifar10_stl_rotnet.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row("cifar10_stl_rotnet", word, data="cifar10", teacher="rotnet", teacher_data="stl10")
