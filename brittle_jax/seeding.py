"""Independent random seeds, named by what they are for."""

import hashlib
import json


def derive_seed(seed: int, *purpose: str) -> int:
    """Derives a seed in [0, 2**32) from a run's seed and the names of what it is for.

    Different purposes give independent seeds (a teacher and a student never share a draw), the same purpose
    always the same one, on every machine.
    """
    # JSON keeps the names apart: ("a", "b") is not ("ab",), nor is ("a", "") the same as ("a",).
    digest = hashlib.sha256(json.dumps([seed, *purpose]).encode()).digest()
    return int.from_bytes(digest[:4], "little")
