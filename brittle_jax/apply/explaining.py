"""Heat maps of picture files, written while these are scored."""

import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

from brittle_jax import files
from brittle_jax.apply import heat_maps, overlays
from brittle_jax.apply.loaded import LoadedDetector
from brittle_jax.apply.sample_files import ReadSample, SampleFile
from brittle_jax.data.datasets.listing import as_text
from brittle_jax.data.picture_file import BadPictureError, decoders_silenced, read_pixels

MOST_PIXELS = 1024  # on a side of an overlay and a mask: a few megabytes, however large the picture


class HeatMaps:
    """The folder of heat maps of one score.

    Attributes:
        num_samples: how many samples have heat maps so far.
    """

    def __init__(self, loaded: LoadedDetector, samples: Sequence[SampleFile], folder: pathlib.Path, detector: str):
        """Reads the scale, and chooses the names of all samples at once.

        Args:
            samples: all that may get heat maps.
            folder: need not exist.
            detector: which of the four scores.

        Raises:
            UserError: if the run has no scale, or there is no such score.
        """
        self.num_samples = 0
        self._loaded, self._folder, self._detector = loaded, folder, detector
        self._scale = loaded.heat_map_scales()[loaded.known(detector)]
        self._names = names_of(samples)

    def write(self, samples: Iterable[ReadSample]) -> dict[str, str]:
        """Writes an overlay and a mask of each view of samples; memory does not grow with their number.

        Returns:
            Why some have none, by path: their files are no longer what they were when they were scored.

        Raises:
            UserError: if a file cannot be written.
        """
        for name in overlays.FOLDERS:  # before anything is computed
            with files.explaining_write_errors(self._folder / name):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
        errors = {}
        stacks = ((each, each.images) for each in samples)
        with decoders_silenced():
            for part in self._loaded.maps_of_images(stacks, (self._detector,)):
                for sample, maps in part:
                    try:
                        self._write_views(sample, maps[self._detector])
                        self.num_samples += 1
                    except BadPictureError as error:
                        errors[sample.file.path] = f"no heat map: {error}"
        return errors

    def _write_views(self, sample: ReadSample, maps: np.ndarray) -> None:
        preprocessing = self._loaded.detector.preprocessing
        for view, file in sample.file.files:
            # Read again, so that no pictures wait in memory for the decision and for their batch.
            pixels, _ = read_pixels(file, self._loaded.max_image_pixels, preprocessing.intensity_range)
            picture = _reduced(pixels)
            of_view = sample.views == view
            heat_map = maps[of_view][0]
            if preprocessing.patches is not None:
                factors = np.tile(np.divide(picture.shape[:2], pixels.shape[:2]), 2)
                boxes = np.rint(sample.boxes[of_view] * factors).astype(int)
                heat_map = heat_maps.assemble(maps[of_view], boxes, picture.shape[:2])
            overlays.write(self._folder, f"{self._names[file]}.png", picture, heat_map, self._scale)


def names_of(samples: Sequence[SampleFile]) -> dict[pathlib.Path, str]:
    """Returns the path of each picture file's heat maps, below their folder and without a suffix.

    It is the first of these that tells all files apart: folder and stem; folder and name; the path below the folder
    that all files share, with the name.
    """
    groups = {file: sample.group for sample in samples for _, file in sample.files if file is not None}
    for names in _candidates(groups):
        # Some file systems do not tell upper from lower case.
        if len({name.lower() for name in names.values()}) == len(names):
            break
    return names


def _candidates(groups: dict[pathlib.Path, str]) -> Iterator[dict[pathlib.Path, str]]:
    yield {file: _name(group, file.stem) for file, group in groups.items()}
    yield {file: _name(group, file.name) for file, group in groups.items()}
    shared = os.path.commonpath([file.parent.absolute() for file in groups])
    yield {file: _name(os.path.relpath(file.parent.absolute(), shared), file.name) for file in groups}


def _name(folder: str, name: str) -> str:
    # A backslash, which also stands for bytes that are not UTF-8, is not a folder's end.
    return as_text(pathlib.PurePath(folder, name).as_posix()).replace("\\", "_")


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """Returns a picture [H, W, 3] uint8 with at most MOST_PIXELS on a side."""
    if max(pixels.shape) <= MOST_PIXELS:
        return pixels
    image = Image.fromarray(pixels)
    image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    return np.asarray(image)
