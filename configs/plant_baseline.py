"""Plant Pathology 2020 with a supervised teacher: the ceiling (Table 10, row "baseline").

Published (in percent, except brittleness): KD 100.00, MSE 99.87, diagonal Mahalanobis 99.89, full 99.89,
brittleness 0.00651; probe 100.00.

    python -m brittle_jax.main --config=configs/plant_baseline.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return densenet_row(
        "plant_baseline", word, data="plant_pathology", teacher="baseline", teacher_data="plant_pathology"
    )
