"""X-ray parcels, a teacher that learned rotations of the normal patches (Table 11, row "X-ray RotNet").

Published, in percent: KD 96.41, MSE 36.08, diagonal Mahalanobis 37.77, full Mahalanobis 60.06, probe 93.62;
brittleness 0.00453.

    python -m brittle_jax.main --config=configs/xray_rotnet.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings, with word "smoke" made small."""
    config = densenet_row("xray_rotnet", word)
    config.data.name = "xray"
    config.teacher.task = "rotnet"
    config.teacher.data = "xray"
    return config
