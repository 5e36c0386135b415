"""Cats vs. Dogs with a teacher trained on rotations of STL-10 (Tables 6 and 7, row "stl rotnet").

Published (in percent, except brittleness): cat KD 40.67, MSE 41.11, diagonal Mahalanobis 43.82, full 42.58,
brittleness 0.063;
dog KD 69.15, MSE 66.30, diagonal Mahalanobis 60.73, full 65.34,
brittleness 0.066; probe 75.87.

    python -m brittle_jax.main --config=configs/cats_vs_dogs_stl_rotnet.py
"""

from brittle_jax.recipes import small_resnet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return small_resnet_row(
        "cats_vs_dogs_stl_rotnet", word, data="cats_vs_dogs", teacher="rotnet", teacher_data="stl10"
    )
