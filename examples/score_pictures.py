"""Scores picture files with an exported detector: only JAX, NumPy, flatbuffers and Pillow are needed.

    python -m brittle_jax.export --run=runs/image_folder --out=leaves.zip
    python examples/score_pictures.py leaves.zip 1.png 2.jpg > scores.csv

The reader, brittle_jax/apply/exported.py, is a single file: copy it beside this one to run without brittle_jax.
"""

import argparse
import csv
import itertools
import sys
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

try:
    import exported
except ImportError:
    from brittle_jax.apply import exported


class UnreadablePictureError(Exception):
    """A file is no picture, or damaged."""


def read(file: str) -> np.ndarray:
    """Returns the pixels of a picture of 8 bits, [height, width, 3] uint8, turned as its EXIF data say."""
    try:
        with Image.open(file) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # whatever Pillow raises for a damaged file
        raise UnreadablePictureError(f"{file} cannot be read: {error}") from error


def lines_of(detector: exported.ExportedDetector, files: list[str]) -> Iterator[dict[str, object]]:
    """Yields path, scores and, if the file has thresholds, the recommended detector's decision of each picture."""
    remaining, decides = iter(files), detector.header["recommended"]
    while batch := list(itertools.islice(remaining, exported.LARGEST_BATCH)):
        scores = detector.score([read(file) for file in batch])
        flagged = detector.is_anomalous(scores)[decides] if detector.header["thresholds"] else [""] * len(batch)
        for number, file in enumerate(batch):
            yield {"path": file, **{name: scores[name][number] for name in scores}, "anomalous": flagged[number]}


def main(file: str, *pictures: str) -> None:
    """Writes a table of the pictures' scores to standard output."""
    detector = exported.load(file)
    writer = csv.DictWriter(sys.stdout, ["path", *detector.header["detectors"], "anomalous"])
    writer.writeheader()
    writer.writerows(lines_of(detector, list(pictures)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Scores picture files with an exported detector.")
    parser.add_argument("detector", help="file that brittle_jax.export wrote")
    parser.add_argument("pictures", nargs="+", help="picture files of 8 bits")
    given = parser.parse_args()
    try:
        main(given.detector, *given.pictures)
    except (exported.ExportedDetectorError, UnreadablePictureError) as error:
        parser.exit(2, f"error: {error}\n")
