"""Synthetic pictures in the format of a missing data set, for smoke runs and tests."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from brittle_jax.data import catalogue
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.preprocess import encode_png

_NAMES = [name for name, entry in CATALOGUE.items() if entry.stand_in is not None]


class StandIn(tfds.core.GeneratorBasedBuilder):
    """Gratings. Each class has its own direction, spacing and colour; the light always comes from above."""

    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=f"Synthetic pictures in the format of {name}.")
        for name in _NAMES
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        entry = CATALOGUE[self.builder_config.name]
        picture = entry.stand_in
        shape = (None, None, 3) if picture.is_jpeg else picture.shape
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.builder_config.description,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=shape, encoding_format="jpeg" if picture.is_jpeg else "png"),
                    "label": tfds.features.ClassLabel(names=list(entry.classes)),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in CATALOGUE[self.builder_config.name].stand_in.splits}

    def _generate_examples(self, split: str):
        entry = CATALOGUE[self.builder_config.name]
        picture = entry.stand_in
        num_classes = len(entry.classes)
        # Classes alternate, as in a shuffled data set.
        for index in range(picture.splits[split] * num_classes):
            label = index % num_classes
            rng = np.random.default_rng([index, list(picture.splits).index(split)])
            example_id = f"{split}_{entry.classes[label]}_{index}".replace(" ", "_")
            yield (
                index,
                {
                    "id": example_id,
                    "image": _encoded_grating(rng, label, picture),
                    "label": -1 if split == "unlabelled" else label,
                },
            )


def _encoded_grating(rng: np.random.Generator, label: int, picture: catalogue.StandIn) -> bytes:
    if not picture.is_jpeg:
        return encode_png(_grating(rng, label, picture.shape))
    height, width, channels = picture.shape
    height, width = (round(side * rng.uniform(0.8, 1.2)) for side in (height, width))
    buffer = io.BytesIO()
    Image.fromarray(_grating(rng, label, (height, width, channels))).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _grating(rng: np.random.Generator, label: int, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = shape
    y, x = np.mgrid[:height, :width] / height
    angle = np.pi * label / 10 + rng.normal(0, 0.05)
    waves = 2 + label % 4 + rng.normal(0, 0.1)
    phase = 2 * np.pi * (waves * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform())
    colour = 0.5 + 0.4 * np.cos(2 * np.pi * (label / 10 + np.arange(channels) / 3))
    image = colour * (0.5 + 0.3 * np.sin(phase))[..., None] + 0.3 * (1 - y)[..., None]
    noisy = image + rng.normal(0, 0.03, shape)
    return np.round(255 * noisy.clip(0, 1)).astype(np.uint8)
