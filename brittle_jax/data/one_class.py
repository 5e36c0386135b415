"""Which classes are normal, and which samples train and test: nothing else decides this."""

import dataclasses

import ml_collections
import numpy as np

from brittle_jax.config import nearest, split_list
from brittle_jax.data.image_set import ImageSet, limit
from brittle_jax.errors import UserError
from brittle_jax.seeding import derive_seed


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One choice of the normal class or classes of a data set.

    Attributes:
        name: such as "unimodal/airplane".
        group: configurations that results are averaged over, such as "unimodal".
        train: indices of the normal training samples, the only ones that a student sees.
        test: indices of the test samples.
        test_labels: for each test sample 0, normal, or 1, anomalous.
    """

    name: str
    group: str
    train: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def configurations(images: ImageSet, config: ml_collections.ConfigDict) -> list[Configuration]:
    """Returns the configurations that `config.data` asks for, in the data set's own order.

    Raises:
        UserError: for a name that does not exist, or where a class has no samples.
    """
    normal_classes = _parcel_classes(images) if images.name == "xray" else _cifar10_classes(images)
    chosen = _choose(config.data.configurations, list(normal_classes))
    is_train = _training_samples(images, config)
    return [
        _configuration(images, config, name, normal, is_train)
        for name, normal in normal_classes.items()
        if name in chosen
    ]


def _cifar10_classes(images: ImageSet) -> dict[str, list[int]]:
    """Each class once as the only normal class, once as the only anomalous one."""
    labels = range(len(images.classes))
    unimodal = {f"unimodal/{images.classes[label]}": [label] for label in labels}
    multimodal = {
        f"multimodal/{images.classes[label]}": [other for other in labels if other != label] for label in labels
    }
    return unimodal | multimodal


def _parcel_classes(images: ImageSet) -> dict[str, list[int]]:
    return {"soc": [images.classes.index("soc")]}


def _choose(requested: str, names: list[str]) -> set[str]:
    groups = {name.rpartition("/")[0] for name in names} - {""}
    chosen = set()
    for request in split_list(requested):
        matches = {name for name in names if request in (name, name.rpartition("/")[0], "all")} or (
            set(names) if request == "all" else set()
        )
        if not matches:
            hint = nearest(request, names) or f" (there are {', '.join([*sorted(groups), *names])})"
            raise UserError(f"--config.data.configurations: no configuration {request!r}{hint}")
        chosen |= matches
    if not chosen:
        raise UserError("--config.data.configurations is empty: name some, or all")
    return chosen


def _training_samples(images: ImageSet, config: ml_collections.ConfigDict) -> np.ndarray:
    """Returns for each sample whether it may train: by the official split, or drawn for parcels."""
    if images.name != "xray":
        return images.official_split == "train"
    is_train = np.zeros(len(images.ids), bool)
    normal = np.flatnonzero(images.labels == images.classes.index("soc"))
    # Sorted by id, so that the split does not depend on the order of the files.
    normal = normal[np.argsort(images.ids[normal])]
    rng = np.random.default_rng(derive_seed(config.seed, "split"))
    num_train = round(config.data.patches.train_fraction * len(normal))
    is_train[rng.permutation(normal)[:num_train]] = True
    return is_train


def _configuration(images, config, name, normal_classes, is_train) -> Configuration:
    is_normal = np.isin(images.labels, normal_classes)
    rng = np.random.default_rng(derive_seed(config.seed, "subset", name))
    samples = {
        "normal training": limit(np.flatnonzero(is_normal & is_train), config.data.max_train_samples, rng),
        "normal test": limit(np.flatnonzero(is_normal & ~is_train), config.data.max_test_samples, rng),
        "anomalous test": limit(np.flatnonzero(~is_normal & ~is_train), config.data.max_test_samples, rng),
    }
    for kind, members in samples.items():
        if not len(members):
            raise UserError(f"configuration {name} of {images.name} has no {kind} samples: nothing to run on")
    if len(samples["normal training"]) < 2:
        raise UserError(f"configuration {name} of {images.name} has 1 normal training sample: give at least 2")
    train, normal, anomalous = samples.values()
    labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    group = name.rpartition("/")[0] or "all"
    return Configuration(name, group, train, np.concatenate([normal, anomalous]), labels)
