"""Made-up pictures in the format of a data set that is not there, for smoke runs and tests. Synthetic."""

import dataclasses
import io
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from brittle_jax.data.preprocess import encode_png


@dataclasses.dataclass(frozen=True)
class PictureFormat:
    """What a data set of pictures looks like, as tfds has it.

    Attributes:
        classes: names of the labels.
        splits: that hold pictures, with how many of each class a stand-in makes.
        image_shape: (H, W, C); where `is_jpeg`, about the size of pictures of many sizes.
        is_jpeg: whether the files are JPEGs of many sizes, not PNGs of one.
    """

    classes: Sequence[str]
    splits: Mapping[str, int]
    image_shape: tuple[int, int, int]
    is_jpeg: bool = False


_TEN = [str(label) for label in range(10)]
FORMATS = {
    "cifar10": PictureFormat(
        "airplane automobile bird cat deer dog frog horse ship truck".split(), {"train": 100, "test": 40}, (32, 32, 3)
    ),
    "fashion_mnist": PictureFormat(_TEN, {"train": 100, "test": 40}, (28, 28, 1)),
    "stl10": PictureFormat(
        "airplane bird car cat deer dog horse monkey ship truck".split(),
        {"train": 20, "test": 8, "unlabelled": 40},
        (96, 96, 3),
    ),
    "cats_vs_dogs": PictureFormat(["cat", "dog"], {"train": 130}, (120, 160, 3), is_jpeg=True),
    "imagenet2012": PictureFormat(
        [f"n{label:08d}" for label in range(1000)], {"train": 1, "validation": 1}, (120, 160, 3), is_jpeg=True
    ),
    "image_folder": PictureFormat(["normal", "anomalous"], {"train": 100}, (120, 160, 3), is_jpeg=True),
    "plant_village": PictureFormat([f"leaf {label}" for label in range(38)], {"train": 8}, (256, 256, 3), is_jpeg=True),
    "plant_pathology": PictureFormat(
        ["healthy", "multiple_diseases", "rust", "scab"], {"train": 130}, (171, 256, 3), is_jpeg=True
    ),
}


class StandIn(tfds.core.GeneratorBasedBuilder):
    """Gratings: each class has its own direction, spacing and colour; the light always comes from above."""

    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=f"Made-up pictures in the format of {name}.") for name in FORMATS
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        picture = FORMATS[self.builder_config.name]
        shape = (None, None, 3) if picture.is_jpeg else picture.image_shape
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.builder_config.description,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=shape, encoding_format="jpeg" if picture.is_jpeg else "png"),
                    "label": tfds.features.ClassLabel(names=list(picture.classes)),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in FORMATS[self.builder_config.name].splits}

    def _generate_examples(self, split: str):
        picture = FORMATS[self.builder_config.name]
        num_classes = len(picture.classes)
        # Classes alternate, as in a shuffled data set.
        for index in range(picture.splits[split] * num_classes):
            label = index % num_classes
            rng = np.random.default_rng([index, list(picture.splits).index(split)])
            example_id = f"{split}_{picture.classes[label]}_{index}".replace(" ", "_")
            yield (
                index,
                {
                    "id": example_id,
                    "image": _encoded_grating(rng, label, picture),
                    "label": -1 if split == "unlabelled" else label,
                },
            )


def _encoded_grating(rng: np.random.Generator, label: int, picture: PictureFormat) -> bytes:
    if not picture.is_jpeg:
        return encode_png(_grating(rng, label, picture.image_shape))
    height, width, channels = picture.image_shape
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
