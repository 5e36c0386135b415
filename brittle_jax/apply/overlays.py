"""Heat maps as pictures: laid over the picture that they explain, and as masks for other programs.

All pictures of a run have one scale, the level that few places of normal calibration pictures exceed. So a sound
picture stays blue, and colours can be compared from picture to picture.
"""

import pathlib

import numpy as np
from PIL import Image

from brittle_jax import files
from brittle_jax.errors import UserError

FOLDERS = "overlays", "masks"
LARGEST = 4.0  # times the scale: dark red, and white in masks

_OPACITY = 0.55
# Colours at fractions of LARGEST: dark blue and blue up to the scale, then cyan, yellow, red and dark red.
_FRACTIONS = (0.0, 0.25, 0.4, 0.6, 0.85, 1.0)
_COLOURS = ((0, 0, 120), (0, 60, 255), (0, 220, 255), (255, 230, 0), (255, 30, 0), (130, 0, 0))


def write(folder: pathlib.Path, relative_path: str, picture: np.ndarray, heat_map: np.ndarray, scale: float) -> None:
    """Writes the overlay and the mask of a picture: overlays/KIND/STEM.png and masks/KIND/STEM.png.

    Args:
        folder: of all heat maps.
        relative_path: of the picture, such as "scab/004.jpg". Pictures of one folder that differ only in their
            extension would have the same files.
        picture: [height, width, 3] uint8, of any size.
        heat_map: [h, w]; stretched to the picture's shape.
        scale: of the run, as `heat_maps.read_scales` returns it. Masks are grey in 16 bits: 0 is at most 0, and 65535
            at least 4 times the scale.

    Raises:
        UserError: if a file cannot be written, or the path leads out of the folder.
    """
    path = pathlib.PurePosixPath(relative_path.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UserError(f"{relative_path!r} leads out of the folder of heat maps: give a path inside it")
    levels = Image.fromarray((heat_map / scale).astype(np.float32))
    levels = np.asarray(levels.resize(picture.shape[1::-1], Image.Resampling.BILINEAR))
    overlays, masks = (folder / name / path.with_suffix(".png") for name in FOLDERS)
    _save(overlays, overlay(picture, levels))
    grey = np.clip(levels / LARGEST, 0, 1) * 65535
    _save(masks, grey.round().astype(np.uint16))


def overlay(picture: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Lays colours over a grey copy of a picture.

    Args:
        picture: [height, width, 3] uint8.
        levels: [height, width], times the scale.

    Returns:
        [height, width, 3] uint8.
    """
    grey = np.asarray(Image.fromarray(picture).convert("L"), float)[..., None]
    fractions = np.clip(levels / LARGEST, 0, 1)
    colours = np.stack([np.interp(fractions, _FRACTIONS, channel) for channel in np.transpose(_COLOURS)], axis=-1)
    return ((1 - _OPACITY) * grey + _OPACITY * colours).round().astype(np.uint8)


def _save(file: pathlib.Path, pixels: np.ndarray) -> None:
    with files.replacing(file) as partial:
        Image.fromarray(pixels).save(partial, "PNG")
