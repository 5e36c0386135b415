"""Independent random seeds, named by what they are for."""

import zlib

import numpy as np


def derive_seed(seed: int, *purpose: str) -> int:
    """Derives a seed in [0, 2**32) from a run's seed and the names of what it is for.

    Different purposes give independent seeds (`derive_seed(0, "teacher")` and `derive_seed(0, "student")`
    never share a draw), the same purpose always the same one, on every machine.
    """
    names = [zlib.crc32(name.encode()) for name in purpose]
    return int(np.random.SeedSequence([seed, *names]).generate_state(1)[0])
