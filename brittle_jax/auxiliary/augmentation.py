"""Random crop, mirror and cutout, as in the cifar10-fast recipe; on the device, one key an image."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Which of the three are applied, and how strongly.

    Attributes:
        crop_padding_pixels: width of a reflected border, out of which a crop of the old size is drawn; 0: none.
        flip: whether half of the images are mirrored.
        cutout_pixels: side of a square, wholly inside the image, that is set to `CUTOUT_VALUE`; 0: none.
    """

    crop_padding_pixels: int
    flip: bool
    cutout_pixels: int

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Augments images [N, H, W, C] in [0, 1] by keys [N]; each image's result depends on its key alone."""
        return jax.vmap(self._augment)(keys, images)

    def _augment(self, key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key, cutout_key = jax.random.split(key, 3)
        if self.crop_padding_pixels:
            image = random_crop(crop_key, image, self.crop_padding_pixels)
        if self.flip:
            image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
        if self.cutout_pixels:
            image = cutout(cutout_key, image, self.cutout_pixels)
        return image


CUTOUT_VALUE = 0.47  # about the mean of CIFAR-10's pixels, so that normalisation maps it to about 0


def random_crop(key: jax.Array, image: jax.Array, padding: int) -> jax.Array:
    """Pads [H, W, C] by reflection and cuts [H, W, C] out of it at a random place."""
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    row, column = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)


def cutout(key: jax.Array, image: jax.Array, side: int) -> jax.Array:
    """Blanks a random square of the given side inside [H, W, C]."""
    height, width, _ = image.shape
    row_key, column_key = jax.random.split(key)
    top = jax.random.randint(row_key, (), 0, height - side + 1)
    left = jax.random.randint(column_key, (), 0, width - side + 1)
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return jnp.where(inside[..., None], CUTOUT_VALUE, image)
