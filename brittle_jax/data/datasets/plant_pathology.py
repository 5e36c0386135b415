"""Plant Pathology 2020 (Thapa et al., https://arxiv.org/abs/2004.11958): apple leaves, healthy and diseased."""

import csv
import pathlib

import tensorflow_datasets as tfds

CLASSES = ("healthy", "multiple_diseases", "rust", "scab")  # columns of train.csv


class PlantPathology(tfds.core.GeneratorBasedBuilder):
    """Labelled photographs, from `train.csv` and `images/` as Kaggle has them; needs no TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download the competition plant-pathology-2020-fgvc7 from Kaggle, and unpack train.csv and images/ here."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Photographs of apple leaves: healthy, with rust, with scab, with several diseases.",
            homepage="https://www.kaggle.com/c/plant-pathology-2020-fgvc7",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=list(CLASSES)),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(pathlib.Path(dl_manager.manual_dir))}

    def _generate_examples(self, folder: pathlib.Path):
        with open(folder / "train.csv", newline="") as file:
            for index, row in enumerate(csv.DictReader(file)):
                name = row["image_id"]
                label = max(CLASSES, key=lambda column: float(row[column]))  # noqa: B023 - used at once
                yield index, {"id": name, "image": folder / "images" / f"{name}.jpg", "label": label}
