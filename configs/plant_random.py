"""Plant Pathology 2020 with a random teacher (Table 10, row "random").

Published (in percent, except brittleness): KD 42.50, MSE 44.16, diagonal Mahalanobis 44.07, full 41.35,
brittleness 0.00114; probe 63.67.

    python -m brittle_jax.main --config=configs/plant_random.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return densenet_row("plant_random", word, data="plant_pathology", teacher="random")
