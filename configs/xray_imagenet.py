"""X-ray parcels with published ImageNet weights as teacher (Table 11, row "imagenet class").

Published (in percent, except brittleness): KD 76.36, MSE 68.37, diagonal Mahalanobis 69.35, full 73.46,
brittleness 0.00383; probe 96.79.

Set `--config.teacher.weights` to torchvision's file of DenseNet-161. The word "cpu" needs no file: there, the weights
of EfficientNet-Lite0 stand in, from the extra `imagenet`.

    python -m brittle_jax.main --config=configs/xray_imagenet.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small, "cpu" fit for a CPU."""
    return densenet_row("xray_imagenet", word, data="xray", teacher="imagenet")
