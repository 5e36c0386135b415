"""Embedded X-ray parcels: both views of parcels that are packed and scanned in software, so synthetic."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from brittle_jax import console
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.parcels import VERSION as PARCELS_VERSION
from brittle_jax.data.parcels.packing import pack
from brittle_jax.data.parcels.pistol import PARTS
from brittle_jax.data.parcels.scanner import FANS, scan
from brittle_jax.data.preprocess import encode_png
from brittle_jax.data.settings import ParcelSettings

VIEWS = tuple(FANS)
CLASSES = CATALOGUE["xray"].classes
_SPLIT_BYTES = 6e8
_BYTES_PER_SQUARE = 3  # both views' PNGs, per pixel of a square of the longest side; a generous estimate


@dataclasses.dataclass(kw_only=True)
class ParcelsConfig(tfds.core.BuilderConfig):
    """Which parcels. The name says all about them."""

    parcels: ParcelSettings | None = None
    split_bytes: float = _SPLIT_BYTES


def parcels_config(parcels: ParcelSettings, split_bytes: float = _SPLIT_BYTES) -> ParcelsConfig:
    """Returns the builder config of a set of parcels.

    Args:
        split_bytes: about how large a split becomes; it is not part of the name.
    """
    name = f"soc{parcels.num_normal}_threat{parcels.num_threat}_side{parcels.side_pixels}_seed{parcels.seed}"
    return ParcelsConfig(name=name, parcels=parcels, split_bytes=split_bytes)


class XrayParcels(tfds.core.GeneratorBasedBuilder):
    """Synthetic parcels: `id`, `label` (soc or threat), a PNG of each view, and where the parts of a threat are.

    `parts` has an entry for each part and view of a threat, none for normal parcels: the names of part (`slide`, ...)
    and view, and the box: top, left, bottom, right in pixels, bottom and right exclusive.
    """

    VERSION = tfds.core.Version(PARCELS_VERSION)
    RELEASE_NOTES = {
        "1.0.0": "Goods at any angle; every normal parcel holds hardware. Prepared folders can still be read by tfds.",
        "2.0.0": "Goods in rows, fewer tools, smaller boxes, a harder high beam.",
        "3.0.0": "Hardly any goods of bare steel; power tools as the pistol's counterpart; loose cartridges.",
        "4.0.0": "Holes as large as what they are cut from; cartridges that do not pass through one another.",
    }

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
        parcels = self.builder_config.parcels
        # tfds holds a whole split in memory, and wants TensorFlow beyond 1 GB: so many splits, read together as "all".
        size = max(int(self.builder_config.split_bytes / (_BYTES_PER_SQUARE * parcels.side_pixels**2)), 1)
        num_splits = -(-(parcels.num_normal + parcels.num_threat) // size)
        examples = self._make_examples()
        # Splits are filled one after the other. The last one takes what is left, and so exhausts the generator.
        sizes = [size] * (num_splits - 1) + [None]
        return {f"block{number:05d}": self._generate_examples(examples, size) for number, size in enumerate(sizes)}

    def _generate_examples(
        self, examples: Iterator[dict[str, Any]], count: int | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for example in itertools.islice(examples, count):
            yield example["id"], example

    def _make_examples(self) -> Iterator[dict[str, Any]]:
        """Makes all parcels in worker processes, normal ones first; yields them in order."""
        parcels = self.builder_config.parcels
        counts = dict(zip(CLASSES, (parcels.num_normal, parcels.num_threat), strict=True))
        wanted = [(name, index) for name, count in counts.items() for index in range(count)]
        import joblib  # slow to import, and parcels are made once

        workers = joblib.Parallel(n_jobs=-1, return_as="generator", batch_size=4, idle_worker_timeout=10)
        made = workers(joblib.delayed(make_example)(*each, parcels.side_pixels, parcels.seed) for each in wanted)
        with console.track("parcels", len(wanted), unit="parcel") as progress:
            for example in made:
                progress.update(1)
                yield example


def make_example(class_name: str, index: int, side_pixels: int, seed: int) -> dict[str, Any]:
    """Packs and scans parcel number `index` of a class. Returns it as `XrayParcels` stores it."""
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
