"""Plant Pathology 2020, a teacher that learned the classes of PlantVillage (Table 10, row "plantvillage class").

Published, in percent: KD 89.82, MSE 76.57, diagonal Mahalanobis 83.73, full 90.78,
brittleness 0.00436; probe 90.92.

    python -m brittle_jax.main --config=configs/plant_plantvillage_classification.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings, with word "smoke" made small."""
    return densenet_row(
        "plant_plantvillage_classification",
        word,
        data="plant_pathology",
        teacher="classification",
        teacher_data="plant_village",
    )
