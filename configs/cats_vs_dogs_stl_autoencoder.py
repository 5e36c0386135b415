"""Cats vs. Dogs with an autoencoder trained on STL-10 as teacher (Tables 6 and 7, row "stl ae").

Published (in percent, except brittleness): cat KD 59.71, MSE 55.98, diagonal Mahalanobis 54.62, full 59.22,
brittleness 0.023;
dog KD 44.35, MSE 48.33, diagonal Mahalanobis 48.58, full 44.31,
brittleness 0.023; probe 64.66.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_stl_autoencoder.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_stl_autoencoder", word, data="cats_vs_dogs", teacher="autoencoder", teacher_data="stl10"
    )
