"""Cats vs. Dogs with a supervised teacher: the ceiling (Tables 6 and 7, row "baseline").

Published (in percent, except brittleness): cat KD 88.67, MSE 88.51, diagonal Mahalanobis 75.70, full 85.11,
brittleness 0.126;
dog KD 90.07, MSE 89.57, diagonal Mahalanobis 76.54, full 86.74,
brittleness 0.152; probe 83.40.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_baseline.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_baseline", word, data="cats_vs_dogs", teacher="baseline", teacher_data="cats_vs_dogs"
    )
