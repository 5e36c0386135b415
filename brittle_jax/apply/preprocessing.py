"""From a picture to the images that a detector's networks see."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from brittle_jax.data import patches
from brittle_jax.data.patches import PatchSettings

_MOST_PIXELS = 4096


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How pictures become images.

    Attributes:
        side_pixels: of the square images.
        patches: how patches are cut from a picture; None: the whole picture is resized.
        intensity_range: values that become black and white in files of more than 8 bits; None: the files say so.
    """

    side_pixels: int
    patches: PatchSettings | None = None
    intensity_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError or TypeError for values that no run has: they may come from anyone's file."""
        sides, margins = [self.side_pixels], []
        if self.patches is not None:
            sides += [self.patches.size_pixels, self.patches.max_stride_pixels]
            margins = [self.patches.margin_pixels, self.patches.inset_pixels]
        for numbers, least in ((sides, 1), (margins, 0)):
            if any(type(number) is not int or not least <= number <= _MOST_PIXELS for number in numbers):
                raise ValueError(f"{numbers} pixels, not from {least} to {_MOST_PIXELS}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 3)."""
        return self.side_pixels, self.side_pixels, 3

    def images_of(self, picture: np.ndarray) -> np.ndarray:
        """Returns the images [P, H, W, 3] uint8 of a picture [height, width, 3] uint8: one, or all its patches."""
        return self.images_and_boxes(picture)[0]

    def images_and_boxes(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns images as `images_of`, and the part of the picture that each shows.

        Parts are [P, 4] int: top, left, bottom, right in pixels; a patch of a picture that is too small reaches beyond.
        """
        if self.patches is None:
            image = Image.fromarray(picture)
            if image.size != (self.side_pixels, self.side_pixels):
                image = image.resize((self.side_pixels, self.side_pixels), Image.Resampling.BILINEAR)
            return np.asarray(image)[None], np.array([(0, 0, *picture.shape[:2])])
        size = self.patches.size_pixels
        box = patches.inside(picture, self.patches)
        origins = np.array(patches.patch_origins(box, size, self.patches.max_stride_pixels))
        images = [patches.cut_patch(picture, box, origin, self.side_pixels) for origin in origins.tolist()]
        return np.stack(images), np.concatenate([origins, origins + size], axis=1)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Preprocessing":
        """Returns what `dataclasses.asdict` has turned into JSON."""
        settings, intensity_range = fields["patches"], fields["intensity_range"]
        return cls(
            side_pixels=fields["side_pixels"],
            patches=None if settings is None else PatchSettings(**settings),
            intensity_range=None if intensity_range is None else tuple(intensity_range),
        )
