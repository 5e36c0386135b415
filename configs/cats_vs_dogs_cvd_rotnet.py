"""Cats vs. Dogs with a teacher trained on rotations of the normal images (Tables 6 and 7, row "cvd rotnet").

Published (in percent, except brittleness): cat KD 49.39, MSE 50.71, diagonal Mahalanobis 50.35, full 49.00,
brittleness 0.062;
dog KD 50.97, MSE 47.44, diagonal Mahalanobis 48.23, full 50.28,
brittleness 0.054; probe 70.12.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_cvd_rotnet.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_cvd_rotnet", word, data="cats_vs_dogs", teacher="rotnet", teacher_data="cats_vs_dogs"
    )
