"""Damage as disks do it: one bit, anywhere in what a network has on disk."""

import contextlib
import pathlib
from collections.abc import Iterator

import numpy as np

SEED = 20
NUM_FLIPS = 40


def flip_bit(folder: pathlib.Path, number: int) -> tuple[pathlib.Path, bytes]:
    """Flips one bit below a folder; returns the file that it is in, and what that held.

    Even flips hit the stored arrays, in which nearly all bytes are, odd ones any file but the manifest: the arrays, the
    network's description, what it was made from, and Orbax's own.
    """
    rng = np.random.default_rng([SEED, number])
    found = sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
    candidates = [file for file in found if file.name != "manifest.json"]
    largest = max(candidates, key=lambda file: file.stat().st_size)
    file = candidates[rng.integers(len(candidates))] if number % 2 else largest
    sound = file.read_bytes()
    damaged = bytearray(sound)
    damaged[rng.integers(len(sound))] ^= 1 << int(rng.integers(8))
    file.write_bytes(damaged)
    return file, sound


@contextlib.contextmanager
def flipped_bit(folder: pathlib.Path, number: int) -> Iterator[pathlib.Path]:
    """Flips a bit as `flip_bit` does, gives the file that it is in, and flips it back in the end."""
    file, sound = flip_bit(folder, number)
    try:
        yield file
    finally:
        file.write_bytes(sound)


def as_earlier_versions_saved(folder: pathlib.Path) -> None:
    """Makes of a network's folder what versions without digests wrote."""
    for name in ("manifest.json", "made_from.json"):
        (folder / name).unlink()
    (folder / "network.json").rename(folder / "description.json")
