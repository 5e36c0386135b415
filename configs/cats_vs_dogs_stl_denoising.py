"""Cats vs. Dogs with a denoising autoencoder trained on STL-10 as teacher (Tables 6 and 7, row "stl dae").

Published (in percent, except brittleness): cat KD 58.19, MSE 57.37, diagonal Mahalanobis 55.04, full 62.04,
brittleness 0.017;
dog KD 49.10, MSE 45.31, diagonal Mahalanobis 46.73, full 40.99,
brittleness 0.017; probe 64.69.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_stl_denoising.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_stl_denoising", word, data="cats_vs_dogs", teacher="denoising", teacher_data="stl10"
    )
