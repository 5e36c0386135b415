"""Cats vs. Dogs with a denoising autoencoder trained on the normal images as teacher (Tables 6 and 7, row "cvd dae").

Published (in percent, except brittleness): cat KD 50.37, MSE 51.64, diagonal Mahalanobis 51.08, full 51.84,
brittleness 0.055;
dog KD 51.37, MSE 49.11, diagonal Mahalanobis 49.27, full 49.48,
brittleness 0.051; probe 57.23.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_cvd_denoising.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_cvd_denoising", word, data="cats_vs_dogs", teacher="denoising", teacher_data="cats_vs_dogs"
    )
