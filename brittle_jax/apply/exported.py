"""Reads an exported detector, and scores pictures with it. This one file is all that it takes.

It needs JAX, NumPy and flatbuffers; copy it to wherever the detector is used. The exported file has a copy of it, too:

    unzip -p leaves.zip exported.py > exported.py
    python exported.py leaves.zip                     # compares this machine's scores with stored ones

    import exported
    detector = exported.load("leaves.zip")
    scores = detector.score([np.asarray(PIL.Image.open("1.png").convert("RGB"))])   # {"kd": [...], ...}
    detector.is_anomalous(scores)
"""

import dataclasses
import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

FORMAT_VERSION = 1
HEADER, SCORING, RESIZING = "header.json", "scoring.bin", "resizing.bin"
LARGEST_BATCH = 32  # images that are scored at once

_DAMAGE = (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, NotImplementedError)


class ExportedDetectorError(Exception):
    """A file that cannot be used, or pictures that it cannot score. The message is one line."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How this machine's scores compare with the stored ones.

    Attributes:
        largest_difference: relative, over all stored inputs and detectors.
        decisions_agree: whether each input is called anomalous where it was before; True where there is no threshold.
        num_inputs: how many inputs are stored.
        tolerance: the largest difference that rounding explains.
    """

    largest_difference: float
    decisions_agree: bool
    num_inputs: int
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether this machine gives what the exporting one gave, up to rounding."""
        return self.decisions_agree and self.largest_difference <= self.tolerance

    def __str__(self) -> str:
        decisions = "the same" if self.decisions_agree else "DIFFERENT"
        return (
            f"{self.num_inputs} stored inputs on {jax.default_backend()}: largest relative difference "
            f"{self.largest_difference:.1e} (at most {self.tolerance:.0e} is rounding), decisions {decisions}"
        )


class ExportedDetector:
    """A detector that was exported.

    Attributes:
        header: what the file says about itself: detectors, side of the images, thresholds, versions and dates.
    """

    def __init__(self, header: Mapping[str, Any], entries: Mapping[str, bytes]):
        """Use `load`."""
        from jax import export

        self.header = header
        self._entries = entries
        self._score = jax.jit(export.deserialize(bytearray(entries[SCORING])).call)
        self._resize = None
        if RESIZING in entries:
            self._resize = jax.jit(export.deserialize(bytearray(entries[RESIZING])).call)

    @property
    def side_pixels(self) -> int:
        """Side of the square images that are scored."""
        return self.header["side_pixels"]

    def score(self, pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the scores [N] float32 of N pictures by detector; higher is more anomalous.

        Args:
            pictures: [height, width, 3] uint8 each, of any size. A detector of patches takes patches alone.

        Raises:
            ExportedDetectorError: if a picture is of another type or shape, or this is no machine for the program.
        """
        platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
        if platform not in self.header["platforms"]:
            known = ", ".join(self.header["platforms"])
            raise ExportedDetectorError(f"the program is for {known}, not for {platform}: export it for that, too")
        chunks = [pictures[first : first + LARGEST_BATCH] for first in range(0, len(pictures), LARGEST_BATCH)]
        parts = [self._score_batch([self._image_of(picture) for picture in chunk]) for chunk in chunks]
        return {name: np.concatenate([[], *(part[name] for part in parts)]) for name in self.header["detectors"]}

    def is_anomalous(self, scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns which scores are above the threshold [N] by detector.

        Scores equal those of the run up to rounding. So that the picture that set the threshold stays below it, a score
        has to be above it by more than that.

        Raises:
            ExportedDetectorError: if the run had no calibration pictures, or too few.
        """
        if self.header["thresholds"] is None:
            raise ExportedDetectorError("there is no threshold: the run had no calibration pictures, or too few")
        return {name: np.asarray(scores[name]) > self._lowest(name) for name in self.header["thresholds"]}

    def verify(self) -> Comparison:
        """Scores the stored inputs on this machine, and compares with the stored scores."""
        inputs, expected = self.header["inputs"], self.header["scores"]
        pictures = [np.load(io.BytesIO(self._entries[name]), allow_pickle=False) for name in inputs]
        actual = self.score(pictures)
        differences = [
            np.max(np.abs(actual[name] - expected[name]) / np.maximum(np.abs(expected[name]), 1e-12))
            for name in self.header["detectors"]
        ]
        agree = True
        if self.header["thresholds"] is not None:
            before, now = (self.is_anomalous(scores) for scores in (expected, actual))
            agree = all(np.array_equal(before[name], now[name]) for name in now)
        return Comparison(float(np.max(differences)), agree, len(pictures), self.header["rounding"])

    def _lowest(self, name: str) -> float:
        threshold = self.header["thresholds"][name]
        return threshold + self.header["rounding"] * abs(threshold)

    def _image_of(self, picture: np.ndarray) -> np.ndarray:
        picture, side = np.asarray(picture), self.side_pixels
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise ExportedDetectorError(
                f"a picture is {picture.dtype} of shape {picture.shape}, not uint8 [height, width, 3]: convert it"
            )
        if picture.shape[:2] == (side, side):
            return picture
        if self._resize is None:
            raise ExportedDetectorError(
                f"a picture of {picture.shape[0]}x{picture.shape[1]} pixels: this detector takes patches of "
                f"{side}x{side} pixels, which {self.header['made_by']} cuts; it cannot take raw pictures"
            )
        largest = side * self.header["largest_reduction"]
        if max(picture.shape) > largest:
            raise ExportedDetectorError(f"a picture has more than {largest} pixels on a side: make it smaller first")
        # Padded, so that there are few sizes to compile for; what is added does not count.
        padding = [(0, _rounded_up(length) - length) for length in picture.shape[:2]]
        size = np.asarray(picture.shape[:2], np.int32)
        return np.asarray(self._resize(np.pad(picture, [*padding, (0, 0)]), size))

    def _score_batch(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        count = 1 << (len(images) - 1).bit_length()  # a power of two, so that there are few sizes to compile for
        batch = np.stack(images + [images[-1]] * (count - len(images)))
        return {name: np.asarray(values)[: len(images)] for name, values in self._score(batch).items()}


def load(file: str | os.PathLike) -> ExportedDetector:
    """Reads an exported detector.

    Raises:
        ExportedDetectorError: if the file is missing or damaged, or of a newer version, or flatbuffers is missing.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            header = json.loads(archive.read(HEADER))
            version = header["format_version"]
            if isinstance(version, int) and version > FORMAT_VERSION:
                raise ExportedDetectorError(
                    f"{file} has format version {version}, this reads up to {FORMAT_VERSION}: take its exported.py"
                )
            entries = {name: archive.read(name) for name in header["sha256"]}
        changed = [
            name for name, digest in header["sha256"].items() if hashlib.sha256(entries[name]).hexdigest() != digest
        ]
        if changed:
            raise ValueError(f"{changed[0]} has changed")
        return ExportedDetector(header, entries)
    except FileNotFoundError:
        raise ExportedDetectorError(f"{file} does not exist") from None
    except ImportError as error:
        raise ExportedDetectorError(f"{file} needs flatbuffers: python -m pip install flatbuffers ({error})") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:120]
        raise ExportedDetectorError(
            f"{file} is damaged, or no exported detector ({reason}): export it again"
        ) from error


def _rounded_up(length: int) -> int:
    """Returns the next of 16, 20, 24, 28, 32, 40, ...: four sizes between powers of two."""
    step = max(1 << max((length - 1).bit_length() - 3, 0), 4)
    return -(-length // step) * step


def _main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python exported.py FILE", file=sys.stderr)
        return 2
    try:
        comparison = load(arguments[0]).verify()
    except ExportedDetectorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(comparison)
    return 0 if comparison.agrees else 2


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
