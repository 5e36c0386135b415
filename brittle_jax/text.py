"""Small steps on text that people type."""

import difflib
from collections.abc import Sequence


def split_list(text: str) -> list[str]:
    """Splits comma-separated text; spaces around items and empty items are dropped."""
    return [item.strip() for item in text.split(",") if item.strip()]


def nearest(name: str, known: Sequence[str]) -> str:
    """Returns a hint such as ` (did you mean data.name?)`, or an empty string if no known name is similar."""
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""
