"""Plant Pathology 2020 with published ImageNet weights as teacher (Table 10, row "imagenet class").

Published (in percent, except brittleness): KD 70.66, MSE 56.69, diagonal Mahalanobis 61.85, full 49.45,
brittleness 0.00356; probe 88.24.

Set `--config.teacher.weights` to torchvision's file of DenseNet-161.

    python -m brittle_jax.main --config=configs/plant_imagenet.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small."""
    return densenet_row("plant_imagenet", word, data="plant_pathology", teacher="imagenet")
