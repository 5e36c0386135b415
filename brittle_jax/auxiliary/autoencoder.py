"""Autoencoder and denoising autoencoder, by squared error (Sec. A.1)."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from brittle_jax.models.network import Architecture


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """Reproduces an image through a bottleneck; with noise, from a noisy copy. See `AuxiliaryTask`.

    Attributes:
        noise_deviation: standard deviation of Gaussian noise on pixels in [0, 1], which is not clipped; 0: none.
    """

    noise_deviation: float
    version: int = 1
    views_per_image: int = 1
    keeps_head: bool = True
    needs_labels: bool = False
    learns_anomalies: bool = False
    least_batch_size: int = 1
    reconstructs: bool = True
    held_out_metric: str = "squared_error"

    def build_module(
        self, architecture: Architecture, output_features: int, image_shape: tuple[int, int, int]
    ) -> nn.Module:
        """Returns the network with its bottleneck as head, and the decoder."""
        return architecture.with_decoder(output_features, image_shape)

    def prepare(self, images: jax.Array, labels: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns the images, noisy where keys are given, and as they are."""
        del labels
        if keys is None or not self.noise_deviation:
            return images, images
        # In a row: the same numbers as a draw of their shape gives, which takes a CPU longer to compile.
        noise = jax.vmap(lambda key: jax.random.normal(key, (images[0].size,)))(keys).reshape(images.shape)
        return images + self.noise_deviation * noise, images

    def losses(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Returns each reconstruction's mean squared error over pixels and channels."""
        return jnp.square(outputs - targets).mean(axis=(1, 2, 3))

    def metrics(self, outputs: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
        """Returns the losses, which are what held-out images are judged by too."""
        return {"squared_error": self.losses(outputs, targets)}
