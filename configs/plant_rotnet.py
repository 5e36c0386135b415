"""Plant Pathology 2020 with a teacher trained on rotations of the healthy leaves (Table 10, row "plant rotnet").

Published (in percent, except brittleness): KD 48.09, MSE 46.70, diagonal Mahalanobis 47.14, full 47.51,
brittleness 0.00097; probe 57.97.

    python -m brittle_jax.main --config=configs/plant_rotnet.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return densenet_row("plant_rotnet", word, data="plant_pathology", teacher="rotnet", teacher_data="plant_pathology")
