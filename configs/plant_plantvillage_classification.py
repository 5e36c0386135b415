"""Plant Pathology 2020 with a teacher trained to classify PlantVillage (Table 10, row "plantvillage class").

Published (in percent, except brittleness): KD 89.82, MSE 76.57, diagonal Mahalanobis 83.73, full 90.78,
brittleness 0.00436; probe 90.92.

    python -m brittle_jax.main --config=configs/plant_plantvillage_classification.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return densenet_row(
        "plant_plantvillage_classification",
        word,
        data="plant_pathology",
        teacher="classification",
        teacher_data="plant_village",
    )
