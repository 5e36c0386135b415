"""X-ray parcels with a random teacher (Table 11, row "random").

Published (in percent, except brittleness): KD 73.61, MSE 42.41, diagonal Mahalanobis 44.85, full 71.87,
brittleness 0.0012; probe 88.56.

    python -m brittle_jax.main --config=configs/xray_random.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small, "cpu" fit for a CPU."""
    return densenet_row("xray_random", word, data="xray", teacher="random")
