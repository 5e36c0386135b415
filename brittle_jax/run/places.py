"""How well heat maps find where anomalies are, where masks say so; ready for results.json."""

import pathlib
from typing import Any

import numpy as np
from PIL import Image

from brittle_jax import console
from brittle_jax.apply import heat_maps
from brittle_jax.apply.detector import Detector
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.picture_file import BadPictureError, read_pixels
from brittle_jax.data.samples import limit
from brittle_jax.evaluate import localisation
from brittle_jax.results import DETECTORS
from brittle_jax.run.row import Row
from brittle_jax.seeding import derive_seed

_MOST_IMAGES = 100  # of each class, whose heat maps are compared with masks


def pixel_aurocs(row: Row, configuration: Configuration, detector: Detector) -> dict[str, Any]:
    """Compares heat maps of test images with masks, at the size of the images that networks see.

    At most 100 images of each class count, drawn by the seed, and no anomalous ones without a mask. Masks that cannot
    be used are named in a warning.

    Returns:
        `num_masks`, and `num_normal` images, which need none; `pixel_auroc` by detector, None if at that size no mask
        covers half a pixel. Empty if there are no masks.
    """
    dataset = row.dataset
    rng = np.random.default_rng(derive_seed(row.config.seed, "masks", configuration.name))
    normal, anomalous = (configuration.test[configuration.test_labels == label] for label in (0, 1))
    normal = limit(normal, _MOST_IMAGES, rng)
    masked = limit(anomalous[np.isin(anomalous, list(dataset.mask_files))], _MOST_IMAGES, rng)
    masks = _read_masks(row, masked)
    if not masks:
        return {}
    images = np.concatenate([normal, list(masks)])  # a sample is an image: only whole pictures have masks
    is_anomalous = np.concatenate([np.zeros((len(normal), *dataset.images.shape[:2]), bool), list(masks.values())])
    aurocs = dict.fromkeys(DETECTORS)
    if is_anomalous.any():
        maps = heat_maps.maps_of(detector, dataset.images, images, row.loop)
        shape = dataset.images.shape[:2]
        aurocs = {name: localisation.pixel_auroc(_stretched(each, shape), is_anomalous) for name, each in maps.items()}
    return {"num_masks": len(masks), "num_normal": len(normal), "pixel_auroc": aurocs}


def _read_masks(row: Row, samples: np.ndarray) -> dict[int, np.ndarray]:
    """Returns the masks [H, W] bool of samples, of the size of their images; warns of what cannot be used."""
    dataset, masks = row.dataset, {}
    for sample in samples.tolist():
        file, size = dataset.mask_files[sample], tuple(dataset.files[sample, 0, :2].astype(int).tolist())
        try:
            masks[sample] = _read_mask(file, size, dataset.images.shape[:2], row.config.data.max_image_pixels)
        except BadPictureError as error:
            console.warn(f"{file}: {error}; pixel AUROC leaves out {dataset.samples.ids[sample]}")
    return masks


def _read_mask(file: pathlib.Path, picture: tuple[int, int], image: tuple[int, int], max_pixels: int) -> np.ndarray:
    """Returns which pixels of an image are anomalous: those of which a mask covers half, at least.

    Args:
        picture, image: height and width of the picture, and of the image that it becomes.

    Raises:
        BadPictureError: if the mask cannot be read, is not of the picture's size, or marks nothing.
    """
    pixels, _ = read_pixels(file, max_pixels)
    if pixels.shape[:2] != picture:
        sizes = [f"{width} x {height} pixels" for height, width in (pixels.shape[:2], picture)]
        raise BadPictureError(f"a mask of {sizes[0]} for a picture of {sizes[1]}")
    if not pixels.any():  # as a mask whose 16-bit values are labels 0 and 1 is, too
        raise BadPictureError("a mask that is black everywhere")
    covered = Image.fromarray(pixels.any(axis=-1).astype(np.float32))
    return np.asarray(covered.resize(image[::-1], Image.Resampling.BOX)) >= 0.5


def _stretched(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns maps [N, h, w] as [N, *shape], as overlays show them."""
    return np.stack([Image.fromarray(each).resize(shape[::-1], Image.Resampling.BILINEAR) for each in maps])
