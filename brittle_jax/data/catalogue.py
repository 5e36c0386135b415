"""What is known about each data set before it is read, in one table."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class StandIn:
    """The synthetic pictures that stand in for a data set in smoke runs and tests.

    Attributes:
        splits: the names of the splits, and how many pictures of each class each one holds.
        shape: (H, W, C); approximate for JPEGs, whose sizes differ.
        is_jpeg: whether the files are JPEGs of many sizes rather than PNGs of one size.
    """

    splits: Mapping[str, int]
    shape: tuple[int, int, int]
    is_jpeg: bool = False


@dataclasses.dataclass(frozen=True)
class Entry:
    """A data set.

    Attributes:
        classes: names of the labels; of `image_folder`, whose kinds of anomaly the user names, those of its stand-in.
        normal: the one class that can be normal; empty: each class is normal in turn.
        has_multimodal: whether each class is also, in turn, the only anomalous one (Sec. 3.1).
        split: "official": its own; "classes": a share of every class trains; "normal": a share of the normal samples
            trains; "leaves": likewise, and no more anomalous samples test than normal ones.
        may_lack_anomalies: whether it can be trained on and scored without any anomaly.
        detects_anomalies: whether it can be the anomaly-detection data, not just a teacher's.
        is_parcels: whether its samples are parcels, whose views are cut into patches.
        is_files: whether it is read from files that `data.path` names.
        stand_in: None if the data set itself is made in software.
        train_per_class: training images of each class that can be normal, in the data set itself; 0: it may have any
            number, or is never the anomaly-detection data.
    """

    classes: tuple[str, ...]
    split: str
    stand_in: StandIn | None
    normal: str = ""
    has_multimodal: bool = False
    may_lack_anomalies: bool = False
    detects_anomalies: bool = False
    is_parcels: bool = False
    is_files: bool = False
    train_per_class: int = 0


CATALOGUE = {
    "cifar10": Entry(
        tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
        split="official",
        stand_in=StandIn({"train": 100, "test": 40}, (32, 32, 3)),
        has_multimodal=True,
        detects_anomalies=True,
        train_per_class=5000,
    ),
    "cats_vs_dogs": Entry(
        ("cat", "dog"),
        split="classes",
        stand_in=StandIn({"train": 130}, (120, 160, 3), is_jpeg=True),
        detects_anomalies=True,
        train_per_class=10_000,
    ),
    "plant_pathology": Entry(
        ("healthy", "multiple_diseases", "rust", "scab"),
        split="leaves",
        stand_in=StandIn({"train": 130}, (171, 256, 3), is_jpeg=True),
        normal="healthy",
        detects_anomalies=True,
        is_files=True,
        train_per_class=413,
    ),
    "xray": Entry(
        ("soc", "threat"),  # stream of commerce
        split="normal",
        stand_in=None,
        normal="soc",
        may_lack_anomalies=True,
        detects_anomalies=True,
        is_parcels=True,
        is_files=True,
    ),
    "image_folder": Entry(
        ("normal", "anomalous"),
        split="normal",
        stand_in=StandIn({"train": 100}, (120, 160, 3), is_jpeg=True),
        normal="normal",
        may_lack_anomalies=True,
        detects_anomalies=True,
        is_files=True,
    ),
    "fashion_mnist": Entry(
        tuple(map(str, range(10))), split="official", stand_in=StandIn({"train": 100, "test": 40}, (28, 28, 1))
    ),
    "stl10": Entry(
        tuple("airplane bird car cat deer dog horse monkey ship truck".split()),
        split="official",
        stand_in=StandIn({"train": 20, "test": 8, "unlabelled": 40}, (96, 96, 3)),
    ),
    "plant_village": Entry(
        tuple(f"leaf {label}" for label in range(38)),
        split="classes",
        stand_in=StandIn({"train": 8}, (256, 256, 3), is_jpeg=True),
    ),
    "imagenet2012": Entry(
        tuple(f"n{label:08d}" for label in range(1000)),
        split="official",
        stand_in=StandIn({"train": 1, "validation": 1}, (120, 160, 3), is_jpeg=True),
    ),
}
