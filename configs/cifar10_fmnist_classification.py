"""CIFAR-10 with a teacher trained to classify Fashion-MNIST (Tables 8 and 9, row "fmnist class").

Published (in percent, except brittleness): unimodal KD 57.60, MSE 56.53, diagonal Mahalanobis 56.58, full 56.60,
brittleness 0.054;
multimodal KD 51.08, MSE 50.70, diagonal Mahalanobis 50.77, full 50.81,
brittleness 0.081; probe 26.16.

    python -m brittle_jax.main --config=configs/cifar10_fmnist_classification.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cifar10_fmnist_classification", word, data="cifar10", teacher="classification", teacher_data="fashion_mnist"
    )
