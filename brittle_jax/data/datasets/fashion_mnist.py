"""Fashion-MNIST (Xiao et al., https://arxiv.org/abs/1708.07747) from its four files, without TensorFlow or network."""

import gzip
import hashlib
import pathlib
import zlib

import numpy as np
import tensorflow_datasets as tfds

from brittle_jax.data.preprocess import encode_png
from brittle_jax.errors import UserError

FOLDER = "downloads/manual/fashion_mnist"  # below the tfds data_dir
_FILES = {"train": "train", "test": "t10k"}  # how the names of each split's two files begin
# As `content_digest` gives them: equal for all files with the same content, however they are compressed.
CONTENT_DIGESTS = {
    "train": "0c69d5cdeb902b69084012f812f066de080317bb3c64f43ca87f910d8ec86906",
    "test": "90c92c0507755a7d443edde8297ce4d0f131e42884e2e87e7fc9b81ffe215258",
}
_SIDE = 28


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns where the four files lie in a folder, whether as published or as Debian repacks them."""
    kinds = ("images-idx3", "labels-idx1")
    return [folder / f"{start}-{kind}-ubyte.gz" for start in _FILES.values() for kind in kinds]


class FashionMnistFiles(tfds.core.GeneratorBasedBuilder):
    """Images of clothes, 28 by 28 grey, in ten classes; features and splits are those of tfds's `fashion_mnist`."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put the four files *-ubyte.gz into the folder fashion_mnist here."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Fashion-MNIST, made from its published files.",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(_SIDE, _SIDE, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        folder = pathlib.Path(self.data_dir_root) / FOLDER
        return {split: self._generate_examples(folder, split) for split in _FILES}

    def _generate_examples(self, folder: pathlib.Path, split: str):
        images, labels = read_split(folder, split)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield index, {"image": encode_png(image), "label": int(label)}


def read_split(folder: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads a split's images [N, 28, 28, 1] uint8 and labels [N] uint8.

    Raises:
        UserError: if a file is missing or damaged, or does not hold Fashion-MNIST.
    """
    start = _FILES[split]
    images = _read_idx(folder / f"{start}-images-idx3-ubyte.gz", num_dimensions=3)[..., None]
    labels = _read_idx(folder / f"{start}-labels-idx1-ubyte.gz", num_dimensions=1)
    if len(images) != len(labels) or content_digest(images, labels) != CONTENT_DIGESTS[split]:
        raise UserError(f"{folder}: {start}-*-ubyte.gz do not hold Fashion-MNIST's {split} images: download them again")
    return images, labels


def content_digest(images: np.ndarray, labels: np.ndarray) -> str:
    """Returns a digest of images [N, 28, 28, 1] uint8 and labels [N] uint8: SHA-256 over their sorted SHA-256."""
    pairs = zip(images, labels, strict=True)
    digests = sorted(hashlib.sha256(bytes([label]) + image.tobytes()).digest() for image, label in pairs)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _read_idx(file: pathlib.Path, num_dimensions: int) -> np.ndarray:
    """Reads the bytes of an IDX file, which follow a magic number and the sizes, of four bytes each."""
    try:
        with gzip.open(file) as content:
            encoded = content.read()
        shape = np.frombuffer(encoded, ">u4", count=num_dimensions, offset=4)
        return np.frombuffer(encoded, np.uint8, offset=4 * (1 + num_dimensions)).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{file} cannot be read ({error}): download it again") from error
