"""Embedded X-ray parcels: both views of parcels that are packed and scanned in software. Synthetic."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import tensorflow_datasets as tfds

from brittle_jax import console
from brittle_jax.data.parcels.packing import pack
from brittle_jax.data.parcels.pistol import PARTS
from brittle_jax.data.parcels.scanner import FANS, scan
from brittle_jax.data.preprocess import encode_png

VIEWS = tuple(FANS)
CLASSES = ("soc", "threat")  # stream of commerce: normal
_SPLIT_BYTES = 6e8
_BYTES_PER_SQUARE = 3  # of both views' PNGs, for each pixel of a square of the longest side; a generous estimate


@dataclasses.dataclass(kw_only=True)
class ParcelsConfig(tfds.core.BuilderConfig):
    """How many parcels, how large, from which seed; its name holds all of them."""

    num_normal: int = 0
    num_threat: int = 0
    side_pixels: int = 0
    seed: int = 0


def parcels_config(num_normal: int, num_threat: int, side_pixels: int, seed: int) -> ParcelsConfig:
    """Returns the builder config of a set of parcels."""
    name = f"soc{num_normal}_threat{num_threat}_side{side_pixels}_seed{seed}"
    return ParcelsConfig(name=name, num_normal=num_normal, num_threat=num_threat, side_pixels=side_pixels, seed=seed)


class XrayParcels(tfds.core.GeneratorBasedBuilder):
    """Synthetic parcels: `id`, `label` (soc or threat), a PNG of each view, and where the parts of a threat are.

    `parts` has an entry for each part and view of a threat, and none for normal parcels: its name (`slide`, ...),
    the view's, and its box: top, left, bottom, right in pixels, bottom and right exclusive.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        views = {view: tfds.features.Image(shape=(None, None, 3), encoding_format="png") for view in VIEWS}
        parts = tfds.features.Sequence(
            {
                "part": tfds.features.ClassLabel(names=PARTS),
                "view": tfds.features.ClassLabel(names=VIEWS),
                "box": tfds.features.Tensor(shape=(4,), dtype=np.int32),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Synthetic dual-energy X-ray parcels: two perpendicular views in false colours.",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                    **views,
                    "parts": parts,
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config
        # tfds holds a whole split in memory, and beyond 1 GB wants TensorFlow: many splits, read together as "all".
        size = max(int(_SPLIT_BYTES / (_BYTES_PER_SQUARE * config.side_pixels**2)), 1)
        num_splits = -(-(config.num_normal + config.num_threat) // size)
        examples = self._make_examples()
        # They are filled one after the other; the last takes what is left, and so ends the making.
        sizes = [size] * (num_splits - 1) + [None]
        return {f"block{number:05d}": self._generate_examples(examples, size) for number, size in enumerate(sizes)}

    def _generate_examples(
        self, examples: Iterator[dict[str, Any]], count: int | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for example in itertools.islice(examples, count):
            yield example["id"], example

    def _make_examples(self) -> Iterator[dict[str, Any]]:
        """Makes all parcels, normal ones first, in processes of their own; yields them in order."""
        config = self.builder_config
        counts = dict(zip(CLASSES, (config.num_normal, config.num_threat), strict=True))
        wanted = [(name, index) for name, count in counts.items() for index in range(count)]
        workers = joblib.Parallel(n_jobs=-1, return_as="generator", batch_size=4, idle_worker_timeout=10)
        made = workers(joblib.delayed(make_example)(*each, config.side_pixels, config.seed) for each in wanted)
        with console.track("parcels", len(wanted), unit="parcel") as progress:
            for example in made:
                progress.update(1)
                yield example


def make_example(class_name: str, index: int, side_pixels: int, seed: int) -> dict[str, Any]:
    """Packs and scans parcel number `index` of a class; returns it as `XrayParcels` stores it."""
    label = CLASSES.index(class_name)
    rng = np.random.default_rng([seed, label, index])
    scans = scan(rng, pack(rng, is_threat=class_name == "threat"), side_pixels=side_pixels)
    return {
        "id": f"{class_name}_{index:05d}",
        "label": label,
        **{view: encode_png(scans[view].image) for view in VIEWS},
        "parts": [
            {"part": part, "view": view, "box": np.asarray(scans[view].boxes[part], np.int32)}
            for part, view in itertools.product(PARTS, VIEWS)
            if part in scans[view].boxes
        ],
    }
