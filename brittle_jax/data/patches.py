"""From parcels to patches: air around a parcel is removed, and evenly spaced windows cover the rest (Sec. 3.1)."""

import dataclasses
import math

import numpy as np

Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels; bottom and right exclusive

WHITE = 255  # uint8 value of air, which fills up crops smaller than a patch


@dataclasses.dataclass(frozen=True)
class PatchSettings:
    """How patches are cut.

    Attributes:
        size_pixels: side of the square patches.
        max_stride_pixels: windows are evenly spaced, and never further apart than this.
        air_level: in [0, 1]; a pixel is air if all its channels are above this.
        margin_pixels: air that is left on each side of a parcel, as far as the image goes.
        inset_pixels: what is left out on each side of a parcel, so that patches show the inside of its box alone.
    """

    size_pixels: int
    max_stride_pixels: int
    air_level: float
    margin_pixels: int
    inset_pixels: int = 0


def remove_air(image: np.ndarray, air_level: float, margin_pixels: int) -> Box:
    """Returns the box around everything that is not air; the whole image if all of it is air.

    Args:
        image: [H, W, 3] uint8.
        air_level, margin_pixels: as in `PatchSettings`.
    """
    solid = (image <= air_level * 255).any(axis=-1)
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if not len(rows):
        return 0, 0, image.shape[0], image.shape[1]
    top, left = (max(int(line[0]) - margin_pixels, 0) for line in (rows, columns))
    bottom = min(int(rows[-1]) + 1 + margin_pixels, image.shape[0])
    right = min(int(columns[-1]) + 1 + margin_pixels, image.shape[1])
    return top, left, bottom, right


def inside(image: np.ndarray, settings: PatchSettings) -> Box:
    """Returns the part of an image that patches cover: without the air around the parcel, and without the inset.

    An axis that the inset would leave shorter than one pixel keeps its middle pixel.
    """
    top, left, bottom, right = remove_air(image, settings.air_level, settings.margin_pixels)
    row, column = (min(settings.inset_pixels, (length - 1) // 2) for length in (bottom - top, right - left))
    return top + row, left + column, bottom - row, right - column


def window_starts(length: int, size: int, max_stride: int) -> list[int]:
    """Returns where windows of `size` pixels start on an axis of `length` pixels.

    There are as many as a stride of at most `max_stride` takes, ceil((length - size) / max_stride) + 1, evenly spaced,
    the first and the last flush with the ends. An axis shorter than a window gets a single one, centred on it.
    """
    if length <= size:
        return [-((size - length) // 2)]
    count = math.ceil((length - size) / max_stride) + 1
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def patch_origins(box: Box, size_pixels: int, max_stride_pixels: int) -> list[tuple[int, int]]:
    """Returns top and left of each patch of a box, line by line, in pixels of the image; see `window_starts`."""
    top, left, bottom, right = box
    rows = window_starts(bottom - top, size_pixels, max_stride_pixels)
    columns = window_starts(right - left, size_pixels, max_stride_pixels)
    return [(top + row, left + column) for row in rows for column in columns]


def cut_patch(image: np.ndarray, box: Box, origin: tuple[int, int], size_pixels: int) -> np.ndarray:
    """Cuts one patch [size_pixels, size_pixels, 3] uint8 out of an image. What lies outside the box becomes air."""
    patch = np.full((size_pixels, size_pixels, image.shape[-1]), WHITE, image.dtype)
    (top, left, bottom, right), (row, column) = box, origin
    first_row, last_row = max(row, top), min(row + size_pixels, bottom)
    first_column, last_column = max(column, left), min(column + size_pixels, right)
    patch[first_row - row : last_row - row, first_column - column : last_column - column] = image[
        first_row:last_row, first_column:last_column
    ]
    return patch
