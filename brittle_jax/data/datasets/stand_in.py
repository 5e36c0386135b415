"""Made-up pictures in the format and size of a data set that is not there, for smoke runs and tests. Synthetic."""

import numpy as np
import tensorflow_datasets as tfds

from brittle_jax.data.preprocess import encode_png

# The classes and [H, W, C] of each data set that can be stood in for, as tfds has them.
CLASS_NAMES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
    "fashion_mnist": [str(label) for label in range(10)],
}
_IMAGE_SHAPES = {"cifar10": (32, 32, 3), "fashion_mnist": (28, 28, 1)}
_IMAGES_PER_CLASS = {"train": 100, "test": 40}


class StandIn(tfds.core.GeneratorBasedBuilder):
    """Gratings: each class has its own direction, spacing and colour; the light always comes from above."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=f"Made-up pictures in the format of {name}.")
        for name in CLASS_NAMES
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        name = self.builder_config.name
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.builder_config.description,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=_IMAGE_SHAPES[name], encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES[name]),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in _IMAGES_PER_CLASS}

    def _generate_examples(self, split: str):
        name = self.builder_config.name
        # Classes alternate, as in a shuffled data set.
        for index in range(_IMAGES_PER_CLASS[split] * len(CLASS_NAMES[name])):
            label = index % len(CLASS_NAMES[name])
            rng = np.random.default_rng([index, split == "test"])
            image = _grating(rng, label, _IMAGE_SHAPES[name])
            example_id = f"{split}_{CLASS_NAMES[name][label]}_{index}"
            yield index, {"id": example_id, "image": encode_png(image), "label": label}


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
