"""CIFAR-10 with a random teacher (Tables 8 and 9, row "random").

Published (in percent, except brittleness): unimodal KD 60.09, MSE 58.73, diagonal Mahalanobis 58.69, full 57.25,
brittleness 0.053;
multimodal KD 50.98, MSE 51.16, diagonal Mahalanobis 51.10, full 51.13,
brittleness 0.059; probe 40.31.

    python -m brittle_jax.main --config=configs/cifar10_random.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row("cifar10_random", word, data="cifar10", teacher="random")
