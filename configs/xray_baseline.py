"""X-ray parcels with a supervised teacher that saw half of the threats: the ceiling (Table 11, row "baseline").

Published (in percent, except brittleness): KD 99.74, MSE 99.25, diagonal Mahalanobis 99.68, full 99.63,
brittleness 0.00418; probe 98.98.

The other half of the threats is the test, on which a random teacher is run too.

    python -m brittle_jax.main --config=configs/xray_baseline.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small, "cpu" fit for a CPU."""
    return densenet_row("xray_baseline", word, data="xray", teacher="baseline", teacher_data="xray")
