"""Anomalies made from normal pictures, to compare detectors without a real one.

They look like few real anomalies. What they have in common with most is that a small part of the picture does not
belong where it is.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from brittle_jax.seeding import derive_seed

Maker = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_AREA = (0.02, 0.15)  # of a patch, as a share of the picture's; as in CutPaste
_ASPECT = (0.3, 3.3)  # of width over height
_SCAR_LENGTH, _SCAR_WIDTH = (0.04, 0.10), (0.01, 0.06)  # shares of the shorter side: 10 to 25 and 2 to 16 of 256
_SCAR_DEGREES = 45.0
_BRIGHTNESS = 0.1
_BLUR_SHARE = 0.03  # of the shorter side: the standard deviation of the blur
_NOISE_DEVIATION = 0.2  # for pixels in [0, 1]


def cut_paste(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pastes a part of the picture elsewhere, a little brighter or darker (CutPaste: Li et al., CVPR 2021)."""
    patch = _brightened(picture[_box(picture, rng)], rng)
    return _pasted(picture, Image.fromarray(patch), rng)


def scar(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pastes a thin, turned strip of the picture elsewhere (the scar of CutPaste)."""
    side = min(picture.shape[:2])
    height, width = (max(2, round(side * rng.uniform(*share))) for share in (_SCAR_LENGTH, _SCAR_WIDTH))
    top, left = (
        int(rng.integers(0, size - length + 1)) for size, length in zip(picture.shape[:2], (height, width), strict=True)
    )
    patch = Image.fromarray(_brightened(picture[top : top + height, left : left + width], rng)).convert("RGBA")
    turned = patch.rotate(rng.uniform(-_SCAR_DEGREES, _SCAR_DEGREES), expand=True)  # corners are transparent
    return _pasted(picture, turned, rng)


def blur(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blurs a part of the picture."""
    radius = max(1.0, _BLUR_SHARE * min(picture.shape[:2]))
    blurred = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))
    changed, box = picture.copy(), _box(picture, rng)
    changed[box] = blurred[box]
    return changed


def noise(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds noise to a part of the picture."""
    changed, box = picture.copy(), _box(picture, rng)
    noisy = changed[box] + 255 * rng.normal(0, _NOISE_DEVIATION, changed[box].shape)
    changed[box] = np.clip(np.rint(noisy), 0, 255)
    return changed


KINDS: dict[str, Maker] = {"cut_paste": cut_paste, "scar": scar, "blur": blur, "noise": noise}


def make(picture: np.ndarray, kind: str, *, seed: int, name: str) -> np.ndarray:
    """Returns a picture with an anomaly.

    Args:
        picture: [H, W, 3] uint8, at least 8 pixels wide and high; it stays as it is.
        kind: one of `KINDS`.
        seed, name: the same ones make the same anomaly; give each picture a name of its own.

    Returns:
        [H, W, 3] uint8.
    """
    return KINDS[kind](picture, np.random.default_rng(derive_seed(seed, "synthetic anomaly", kind, name)))


def _box(picture: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice]:
    """Draws a rectangle: its rows and its columns."""
    height, width = picture.shape[:2]
    area = rng.uniform(*_AREA) * height * width
    aspect = np.exp(rng.uniform(*np.log(_ASPECT)))
    lengths = np.sqrt(area / aspect), np.sqrt(area * aspect)
    slices = []
    for size, length in zip((height, width), lengths, strict=True):
        length = int(np.clip(round(length), 2, size - 1))
        start = int(rng.integers(0, size - length + 1))
        slices.append(slice(start, start + length))
    return slices[0], slices[1]


def _brightened(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    factor = 1 + rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)
    return np.clip(np.rint(patch * factor), 0, 255).astype(np.uint8)


def _pasted(picture: np.ndarray, patch: Image.Image, rng: np.random.Generator) -> np.ndarray:
    canvas = Image.fromarray(picture)
    left, top = (
        int(rng.integers(0, max(size - length, 0) + 1)) for size, length in zip(canvas.size, patch.size, strict=True)
    )
    canvas.paste(patch, (left, top), patch if patch.mode == "RGBA" else None)
    return np.asarray(canvas)
