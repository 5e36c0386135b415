"""Contrastive learning (SimCLR, Chen et al., 2020, https://arxiv.org/abs/2002.05709), by NT-Xent (Sec. A.1)."""

import dataclasses
import functools

import dm_pix
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from brittle_jax.devices import BATCH_AXIS
from brittle_jax.models.network import Architecture

_SMALLEST_AREA, _LARGEST_ASPECT = 0.08, 4 / 3  # of random crops: share of the image, width over height (App. A)
_JITTER_PROBABILITY, _GREY_PROBABILITY = 0.8, 0.2
_PROJECTED_FEATURES = 128


@dataclasses.dataclass(frozen=True)
class SimCLR:
    """Tells the other view of the same image from all other images of the global batch; see `AuxiliaryTask`.

    Its transforms are its own: those of the paper's CIFAR-10 experiments (App. B.9), which leave blurring out.

    Attributes:
        temperature: of NT-Xent.
        colour_strength: of the colour jitter.
    """

    temperature: float
    colour_strength: float
    version: int = 1
    views_per_image: int = 2
    keeps_head: bool = False
    needs_labels: bool = False
    learns_anomalies: bool = False
    least_batch_size: int = 4
    reconstructs: bool = False
    held_out_metric: None = None  # it would depend on which other images are in the batch

    def build_module(
        self, architecture: Architecture, output_features: int, image_shape: tuple[int, int, int]
    ) -> nn.Module:
        """Returns the network with the projection that is thrown away later."""
        del output_features, image_shape
        return architecture.with_projection(_PROJECTED_FEATURES)

    def prepare(self, images: jax.Array, labels: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns two views of each image, transformed independently; two equal ones without keys."""
        views = jnp.concatenate([images, images])
        if keys is not None:
            keys = jax.vmap(jax.random.split, out_axes=1)(keys)  # [2, N]
            transform = functools.partial(transform_image, colour_strength=self.colour_strength)
            views = jax.vmap(transform)(keys.reshape(-1), views)  # both at once: one program, which compiles sooner
        return views, jnp.concatenate([labels, labels])

    def losses(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Returns NT-Xent over the global batch, of each of this device's views."""
        del targets
        return nt_xent(outputs, self.temperature, BATCH_AXIS)

    def metrics(self, outputs: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
        """Returns whether the most similar other view of the global batch is the same image's."""
        del targets
        similarities, positives = _similarities(outputs, self.temperature, BATCH_AXIS)
        return {"accuracy": jnp.argmax(similarities, axis=-1) == positives}


def nt_xent(embeddings: jax.Array, temperature: float, axis_name: str | None = None) -> jax.Array:
    """Returns the normalised temperature-scaled cross-entropy of each embedding (SimCLR, Eq. 1), in nats.

    Args:
        embeddings: [2N, F]; rows i and N + i are the views of one image.
        temperature: that cosine similarities are divided by.
        axis_name: of the devices whose embeddings are told apart too; None: these are all.

    Returns:
        [2N].
    """
    similarities, positives = _similarities(embeddings, temperature, axis_name)
    return optax.softmax_cross_entropy_with_integer_labels(similarities, positives)


def _similarities(embeddings, temperature, axis_name) -> tuple[jax.Array, jax.Array]:
    """Returns similarities [2N, 2N·D], -inf of each row to itself, and the column of its other view [2N]."""
    squared_norms = jnp.square(embeddings).sum(axis=-1, keepdims=True)
    unit = embeddings * jax.lax.rsqrt(jnp.maximum(squared_norms, 1e-24))  # has a gradient at zero, as a norm has not
    others, first = unit, 0
    if axis_name is not None:
        others = jax.lax.all_gather(unit, axis_name, tiled=True)
        first = jax.lax.axis_index(axis_name) * len(unit)
    itself = first + jnp.arange(len(unit))
    similarities = (unit @ others.T / temperature).at[jnp.arange(len(unit)), itself].set(-jnp.inf)
    return similarities, first + (jnp.arange(len(unit)) + len(unit) // 2) % len(unit)


def transform_image(key: jax.Array, image: jax.Array, colour_strength: float) -> jax.Array:
    """Returns a random view of an image [H, W, 3] in [0, 1]: crop and resize, mirror, colour jitter, grey."""
    crop_key, flip_key, jitter_key, is_jittered_key, grey_key = jax.random.split(key, 5)
    image = random_resized_crop(crop_key, image)
    image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    jittered = jitter_colour(jitter_key, image, colour_strength)
    image = jnp.where(jax.random.bernoulli(is_jittered_key, _JITTER_PROBABILITY), jittered, image)
    grey = dm_pix.rgb_to_grayscale(image, keep_dims=True)
    return jnp.where(jax.random.bernoulli(grey_key, _GREY_PROBABILITY), grey, image)


def random_resized_crop(key: jax.Array, image: jax.Array) -> jax.Array:
    """Cuts a box of random area and aspect out of [H, W, C] and resizes it to [H, W, C], bilinear and antialiased."""
    area_key, aspect_key, place_key = jax.random.split(key, 3)
    size = jnp.asarray(image.shape[:2], image.dtype)
    area = jax.random.uniform(area_key, minval=_SMALLEST_AREA, maxval=1.0) * size.prod()
    bound = jnp.log(_LARGEST_ASPECT)
    aspect = jnp.exp(jax.random.uniform(aspect_key, minval=-bound, maxval=bound))
    # A box that is too long for the image is cut to its length: its area is smaller than drawn then.
    box = jnp.minimum(jnp.sqrt(area * jnp.stack([1 / aspect, aspect])), size)
    corner = jax.random.uniform(place_key, (2,)) * (size - box)
    scale = size / box
    return jax.image.scale_and_translate(image, image.shape, (0, 1), scale, -corner * scale, method="linear")


def jitter_colour(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Changes brightness, contrast, saturation and hue of [H, W, 3] in [0, 1], in random order (App. A)."""
    order_key, *keys = jax.random.split(key, 5)
    spread = 0.8 * strength
    jitters = [
        lambda image: dm_pix.random_brightness(keys[0], image, spread),
        lambda image: dm_pix.random_contrast(keys[1], image, 1 - spread, 1 + spread),
        lambda image: dm_pix.random_saturation(keys[2], image, 1 - spread, 1 + spread),
        # float64, where that is enabled, without the cast
        lambda image: dm_pix.random_hue(keys[3], image, 0.2 * strength).astype(image.dtype),
    ]
    for which in jax.random.permutation(order_key, len(jitters)):
        image = jax.lax.switch(which, jitters, image).clip(0, 1)
    return image
