"""Cats vs. Dogs with a teacher trained to classify STL-10 (Tables 6 and 7, row "stl class").

Published (in percent, except brittleness): cat KD 58.99, MSE 60.43, diagonal Mahalanobis 57.05, full 55.59,
brittleness 0.11;
dog KD 64.66, MSE 65.96, diagonal Mahalanobis 60.56, full 57.09,
brittleness 0.119; probe 71.28.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_stl_classification.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_stl_classification", word, data="cats_vs_dogs", teacher="classification", teacher_data="stl10"
    )
