"""X-ray parcels, a randomly drawn teacher (Table 11, row "Random").

Published, in percent: KD 73.61, MSE 42.41, diagonal Mahalanobis 44.85, full Mahalanobis 71.87, probe 88.56;
brittleness 0.0012.

    python -m brittle_jax.main --config=configs/xray_random.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings, with word "smoke" made small."""
    config = densenet_row("xray_random", word)
    config.data.name = "xray"
    config.teacher.task = "random"
    return config
