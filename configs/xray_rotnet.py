"""X-ray parcels with a teacher trained on rotations of the normal patches (Table 11, row "x-ray rotnet").

Published (in percent, except brittleness): KD 96.41, MSE 36.08, diagonal Mahalanobis 37.77, full 60.06,
brittleness 0.00453; probe 93.62.

    python -m brittle_jax.main --config=configs/xray_rotnet.py
"""

from brittle_jax.recipes import densenet_row


def get_config(word=None):
    """Returns the row's settings; the word "smoke" makes it small, "cpu" fit for a CPU."""
    return densenet_row("xray_rotnet", word, data="xray", teacher="rotnet", teacher_data="xray")
