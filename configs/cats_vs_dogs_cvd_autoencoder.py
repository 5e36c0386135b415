"""Cats vs. Dogs with an autoencoder trained on the normal images as teacher (Tables 6 and 7, row "cvd ae").

Published (in percent, except brittleness): cat KD 50.67, MSE 51.25, diagonal Mahalanobis 50.71, full 50.38,
brittleness 0.052;
dog KD 51.90, MSE 48.61, diagonal Mahalanobis 49.14, full 50.88,
brittleness 0.055; probe 64.47.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_cvd_autoencoder.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_cvd_autoencoder", word, data="cats_vs_dogs", teacher="autoencoder", teacher_data="cats_vs_dogs"
    )
