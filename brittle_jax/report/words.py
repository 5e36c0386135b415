"""Names as a page writes them: names break only where their words end, long ones are cut in the middle."""

import re

from markupsafe import Markup

_LONGEST_NAME, _LONGEST_WORD = 40, 14
# A file's ending stays with the word before it.
_WORD = re.compile(r"[^/_.\-\s]*\.\w{1,4}$|[^/_.\-\s]*[/_.\-\s]|[^/_.\-\s]+")


def breakable(name: str) -> Markup:
    """Returns a whole name that may be broken after / _ - and . alone, and not at all if it is short."""
    return Markup(" ").join(_with_breaks(_WORD.findall(each)) for each in name.split(" "))


def shortened(name: str) -> Markup:
    """Returns a name of at most some 40 letters, breakable likewise, with the full one in its title.

    Words go from the middle, so that the beginning and the number and ending of a file are seen; of a word of more
    than 14 letters its own middle goes. What it stands beside keeps its direction, whatever the name is written in.
    """
    words = [_cut(word) for word in _WORD.findall(name)]
    kept = list(words)
    while len(kept) > 2 and sum(map(len, kept)) > _LONGEST_NAME:
        del kept[len(kept) // 2]
    if len(kept) < len(words):
        kept.insert((len(kept) + 1) // 2, "…")
    return Markup('<bdi class="name" title="{}">{}</bdi>').format(name, _with_breaks(kept))


def _with_breaks(words: list[str]) -> Markup:
    is_long = sum(map(len, words)) > _LONGEST_WORD
    return Markup("<wbr>" if is_long else "").join(words)


def _cut(word: str) -> str:
    # A word joiner, as a line may end after an ellipsis.
    return word if len(word) <= _LONGEST_WORD else f"{word[:5]}…\u2060{word[-7:]}"
