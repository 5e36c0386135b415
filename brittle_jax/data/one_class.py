"""Which classes are normal: the configurations of a data set."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.samples import limit
from brittle_jax.data.splits import Splitting, roles
from brittle_jax.errors import UserError
from brittle_jax.seeding import derive_seed
from brittle_jax.text import nearest, split_list


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Configuration:
    """One choice of the normal class or classes of a data set.

    Attributes:
        name: such as "unimodal/airplane".
        group: configurations that results are averaged over, such as "unimodal".
        train: indices of the normal training samples, the only ones that a student sees.
        calibration: indices of normal samples that neither train nor test: for thresholds.
        test: indices of the test samples.
        test_labels: of each test sample 0, normal, or 1, anomalous.
        num_normal: how many normal training samples there are, used or not.
    """

    name: str
    group: str
    train: np.ndarray
    calibration: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    num_normal: int


def configurations(
    dataset: Dataset, requested: str, splitting: Splitting, *, max_train_samples: int = 0, max_test_samples: int = 0
) -> list[Configuration]:
    """Returns the requested configurations, in the data set's own order.

    Args:
        requested: as in `choose`.
        max_train_samples: of each configuration's normal training samples, use so many; 0: all.
        max_test_samples: of its normal test samples, and of its anomalous ones, use so many; 0: all.

    Raises:
        UserError: for a name that does not exist, or if a class has no samples.
    """
    normal_classes = choose(requested, dataset.name, dataset.samples.classes)
    assigned = roles(dataset, splitting)
    return [
        _configuration(dataset, name, normal, assigned, splitting.seed, max_train_samples, max_test_samples)
        for name, normal in normal_classes.items()
    ]


def choose(requested: str, dataset: str, classes: Sequence[str]) -> dict[str, list[int]]:
    """Returns the normal classes of each requested configuration of a data set, by name.

    Args:
        requested: comma-separated names or groups, or "all".

    Raises:
        UserError: for a name that does not exist.
    """
    normal_classes = _normal_classes(dataset, classes)
    names, groups = list(normal_classes), sorted({_group(name) for name in normal_classes})
    requests = split_list(requested)
    if not requests:
        raise UserError("data.configurations is empty: name some, or all")
    for request in requests:
        if request not in {*names, *groups, "all"}:
            hint = nearest(request, names) or f" (there are {', '.join([*groups, *names])})"
            raise UserError(f"data.configurations: no configuration {request!r}{hint}")
    return {name: normal_classes[name] for name in names if {name, _group(name), "all"} & set(requests)}


def _normal_classes(dataset: str, classes: Sequence[str]) -> dict[str, list[int]]:
    known = CATALOGUE[dataset]
    if known.normal:
        return {known.normal: [classes.index(known.normal)]}
    labels = range(len(classes))
    if not known.has_multimodal:
        return {classes[label]: [label] for label in labels}
    unimodal = {f"unimodal/{classes[label]}": [label] for label in labels}
    multimodal = {f"multimodal/{classes[label]}": [other for other in labels if other != label] for label in labels}
    return unimodal | multimodal


def _group(name: str) -> str:
    return name.rpartition("/")[0] or "all"


def _configuration(
    dataset: Dataset,
    name: str,
    normal_classes: list[int],
    assigned: np.ndarray,
    seed: int,
    max_train_samples: int,
    max_test_samples: int,
) -> Configuration:
    is_normal = np.isin(dataset.samples.labels, normal_classes)
    rng = np.random.default_rng(derive_seed(seed, "subset", name))
    all_normal = np.flatnonzero(is_normal & (assigned == "train"))
    samples = {
        "normal training": limit(all_normal, max_train_samples, rng),
        "normal test": limit(np.flatnonzero(is_normal & (assigned == "test")), max_test_samples, rng),
        "anomalous test": limit(np.flatnonzero(~is_normal & (assigned == "test")), max_test_samples, rng),
    }
    for kind, members in samples.items():
        # Without anomalies one can still train and score; there is just nothing to separate.
        may_be_missing = kind == "anomalous test" and CATALOGUE[dataset.name].may_lack_anomalies
        if not len(members) and not may_be_missing:
            members = is_normal if kind.startswith("normal") else ~is_normal
            remedy = _remedy(dataset, members, "train" if kind.endswith("training") else "test")
            raise UserError(f"configuration {name} of {dataset.name} has no {kind} samples: {remedy}")
    if len(samples["normal training"]) < 2:
        raise UserError(f"configuration {name} of {dataset.name} has 1 normal training sample: give at least 2")
    train, normal, anomalous = samples.values()
    calibration = np.flatnonzero(is_normal & (assigned == "calibration"))
    labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    test = np.concatenate([normal, anomalous])
    return Configuration(name, _group(name), train, calibration, test, labels, len(all_normal))


def _remedy(dataset: Dataset, members: np.ndarray, role: str) -> str:
    """Returns what to do if none of some samples, [S] bool, has a role, "train" or "test"."""
    official = dataset.samples.official_split
    if official is None:
        return "give more, or see data.train_fraction and data.calibration_fraction"
    if (official[members] == role).any():
        return "a smaller data.calibration_fraction leaves some"
    return f"the given split has none, mark some as {role}"
