"""Cats vs. Dogs with a random teacher (Tables 6 and 7, row "random").

Published (in percent, except brittleness): cat KD 48.46, MSE 52.50, diagonal Mahalanobis 52.03, full 53.52,
brittleness 0.064;
dog KD 53.28, MSE 47.99, diagonal Mahalanobis 48.63, full 48.83,
brittleness 0.06; probe 64.11.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_random.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row("cats_vs_dogs_random", word, data="cats_vs_dogs", teacher="random")
