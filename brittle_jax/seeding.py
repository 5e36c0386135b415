"""Independent random seeds, derived from what they are for."""

import hashlib
import json


def derive_seed(seed: int, *purpose: str) -> int:
    """Derives a seed in [0, 2**32) from the seed of a run and the names of its purpose.

    Different purposes give independent seeds, so a teacher and a student never share a draw. The same purpose gives
    the same seed on every machine.
    """
    # JSON keeps the names apart: ("a", "b") differs from ("ab",), and ("a", "") from ("a",).
    digest = hashlib.sha256(json.dumps([seed, *purpose]).encode()).digest()
    return int.from_bytes(digest[:4], "little")
