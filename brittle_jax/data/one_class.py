"""Which classes are normal, and which samples train and test: nothing else decides this."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import ml_collections
import numpy as np

from brittle_jax.auxiliary import build_task
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
        calibration: indices of normal samples that neither train nor test: for thresholds.
        test: indices of the test samples.
        test_labels: for each test sample 0, normal, or 1, anomalous.
    """

    name: str
    group: str
    train: np.ndarray
    calibration: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a teacher, or a probe of it, learns from.

    Attributes:
        images: the data set, with the labels that are learned.
        train: indices of the samples that it learns from.
        held_out: indices of the samples that its accuracy is measured on.
    """

    images: ImageSet
    train: np.ndarray
    held_out: np.ndarray


def configurations(images: ImageSet, config: ml_collections.ConfigDict) -> list[Configuration]:
    """Returns the configurations that `config.data` asks for, in the data set's own order.

    Raises:
        UserError: for a name that does not exist, or where a class has no samples.
    """
    normal_classes = choose(config.data.configurations, images.name, images.classes)
    roles = _roles(images, config)
    if config.teacher.task == "baseline":
        _check_baseline(images, roles)
    return [_configuration(images, config, name, normal, roles) for name, normal in normal_classes.items()]


def _check_baseline(images: ImageSet, roles: np.ndarray) -> None:
    """Raises UserError where the supervised baseline lacks normal or anomalous samples to learn from or to test."""
    for role, purpose in (("train", "learn from"), ("test", "be tested on")):
        if len(np.unique(images.labels[roles == role])) < 2:
            remedy = "give more anomalous samples, or another --config.data.baseline_fraction"
            if images.official_split is not None:
                remedy = f"mark some of both kinds as {role} in the split that is given"
            raise UserError(
                f"the supervised baseline has no two classes of {images.name} to {purpose}: {remedy}, or choose "
                "another --config.teacher.task"
            )


def choose(requested: str, dataset: str, classes: Sequence[str]) -> dict[str, list[int]]:
    """Returns the normal classes of each requested configuration of a data set, by name.

    Args:
        requested: comma-separated names or groups, or "all".

    Raises:
        UserError: for a name that does not exist.
    """
    normal_classes = _NORMAL_CLASSES[dataset](classes)
    names, groups = list(normal_classes), sorted({_group(name) for name in normal_classes})
    requests = split_list(requested)
    if not requests:
        raise UserError("--config.data.configurations is empty: name some, or all")
    for request in requests:
        if request not in {*names, *groups, "all"}:
            hint = nearest(request, names) or f" (there are {', '.join([*groups, *names])})"
            raise UserError(f"--config.data.configurations: no configuration {request!r}{hint}")
    return {name: normal_classes[name] for name in names if {name, _group(name), "all"} & set(requests)}


def _group(name: str) -> str:
    return name.rpartition("/")[0] or "all"


def _cifar10_classes(classes: Sequence[str]) -> dict[str, list[int]]:
    """Each class once as the only normal class, once as the only anomalous one (Sec. 3.1)."""
    labels = range(len(classes))
    unimodal = {f"unimodal/{classes[label]}": [label] for label in labels}
    multimodal = {f"multimodal/{classes[label]}": [other for other in labels if other != label] for label in labels}
    return unimodal | multimodal


def _one_normal(name: str) -> Callable[[Sequence[str]], dict[str, list[int]]]:
    return lambda classes: {name: [classes.index(name)]}


_NORMAL_CLASSES = {
    "cifar10": _cifar10_classes,
    "cats_vs_dogs": lambda classes: {name: [label] for label, name in enumerate(classes)},
    "plant_pathology": _one_normal("healthy"),
    "xray": _one_normal("soc"),
    "image_folder": _one_normal("normal"),
}


def _roles(images: ImageSet, config: ml_collections.ConfigDict) -> np.ndarray:
    """Returns what each sample is for: [S], "train", "calibration", "test" or "unlabelled".

    By the official split, or drawn where there is none; of the training samples of each class a share may then be
    set aside for calibration.
    """
    if images.official_split is not None:
        roles = images.official_split.astype("U11")
    else:
        roles = np.full(len(images.ids), "test", "U11")
        for purpose, members, count in _DRAWN_SPLITS.get(images.name, _split_every_class)(images, config):
            roles[_draw(images, members, count, derive_seed(config.seed, purpose))] = "train"
    for label, name in enumerate(images.classes if images.name == config.data.name else ()):
        members = (roles == "train") & (images.labels == label)
        count = round(config.data.calibration_fraction * members.sum())
        roles[_draw(images, members, count, derive_seed(config.seed, f"calibration {name}"))] = "calibration"
    return roles


def _draw(images: ImageSet, members: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws whole groups of samples until there are `count`; whatever the order of the samples, the same ones.

    Args:
        members: [S] bool, the samples to draw from.

    Returns:
        [S] bool.
    """
    groups, group_of_member = np.unique(images.groups[members], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(groups))
    sizes = np.bincount(group_of_member, minlength=len(groups))[order]
    is_chosen = np.zeros(len(groups), bool)
    is_chosen[order[np.cumsum(sizes) - sizes < count]] = True
    drawn = np.zeros(len(images.ids), bool)
    drawn[np.flatnonzero(members)[is_chosen[group_of_member]]] = True
    return drawn


def _split_every_class(images: ImageSet, config: ml_collections.ConfigDict) -> Iterator[tuple[str, np.ndarray, int]]:
    """Draws the same share of each class."""
    for label, name in enumerate(images.classes):
        members = images.labels == label
        yield f"split {name}", members, round(config.data.train_fraction * members.sum())


def _split_leaves(images: ImageSet, config: ml_collections.ConfigDict) -> Iterator[tuple[str, np.ndarray, int]]:
    """Draws a share of the healthy leaves; as many diseased ones as healthy ones test, evenly of each disease."""
    healthy = images.classes.index("healthy")
    num_healthy = np.sum(images.labels == healthy)
    num_train = round(config.data.train_fraction * num_healthy)
    yield "split healthy", images.labels == healthy, num_train
    diseases = [label for label in range(len(images.classes)) if label != healthy]
    for place, label in enumerate(diseases):
        members = images.labels == label
        num_test = len(range(place, num_healthy - num_train, len(diseases)))
        yield f"split {images.classes[label]}", members, max(members.sum() - num_test, 0)


def _split_normal(images: ImageSet, config: ml_collections.ConfigDict) -> Iterator[tuple[str, np.ndarray, int]]:
    """Draws a share of the normal samples; all others test, but for those that the supervised baseline learns from.

    Groups that have both kinds test as a whole.
    """
    is_normal = images.labels == images.classes.index(_NORMAL_CLASS[images.name])
    is_mixed = np.isin(images.groups, np.intersect1d(images.groups[is_normal], images.groups[~is_normal]))
    yield "split", is_normal & ~is_mixed, round(config.data.train_fraction * is_normal.sum())
    if config.teacher.task == "baseline":
        yield "baseline split", ~is_normal & ~is_mixed, round(config.data.baseline_fraction * np.sum(~is_normal))


_NORMAL_CLASS = {"plant_pathology": "healthy", "xray": "soc", "image_folder": "normal"}
_DRAWN_SPLITS = {"plant_pathology": _split_leaves, "xray": _split_normal, "image_folder": _split_normal}


def check_parcels(config: ml_collections.ConfigDict) -> None:
    """Raises UserError where settings would leave no threats to test on, or the supervised baseline none to learn from.

    Of the embedded parcels it is known from the settings alone, so before any is made.
    """
    if config.data.name != "xray" or config.data.path:
        return
    num_threat, share = config.data.parcels.num_threat, config.data.baseline_fraction
    num_learned = round(share * num_threat) if config.teacher.task == "baseline" else 0
    if num_threat - num_learned < 1:
        raise UserError(f"--config.data.parcels.num_threat={num_threat} leaves no threats to test on: give more")
    if config.teacher.task == "baseline" and not num_learned:
        raise UserError(
            f"--config.data.parcels.num_threat={num_threat}, of which --config.data.baseline_fraction={share} "
            f"is {num_learned}, leaves the supervised baseline no threats to learn from: give more"
        )


def random_reference(images: ImageSet, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict | None:
    """Returns the settings of a random teacher to run beside a row's own, or None where the row stands for itself.

    The supervised baseline learns from some anomalous samples where the data set has no split of its own; its test
    is then smaller than every other teacher's, and random on the same test makes it comparable.
    """
    learns_from_tested = _DRAWN_SPLITS.get(images.name) is _split_normal and images.official_split is None
    if config.teacher.task != "baseline" or not learns_from_tested:
        return None
    config = config.copy_and_resolve_references()
    config.teacher.task, config.teacher.data, config.teacher.from_run = "random", "", ""
    return config


def teacher_is_shared(config: ml_collections.ConfigDict) -> bool:
    """Returns whether one teacher serves all configurations of a row.

    A teacher that depends on which images are normal does not: a self-supervised one trained on the
    anomaly-detection data, and a random one whose batch norm is measured on them.
    """
    if config.teacher.task == "random":
        return config.teacher.random_batch_norm == "initial"
    if config.teacher.task == "imagenet":
        return bool(config.teacher.weights)  # what stands in for them is measured on the normal images, as random is
    return config.teacher.task == "baseline" or config.teacher.data != config.data.name


def plan_lesson(config: ml_collections.ConfigDict, auxiliary: ImageSet, configuration: Configuration) -> Lesson:
    """Returns which samples a teacher learns from: of the anomaly-detection data, normal training samples alone.

    The exception is the supervised baseline, which sees all labelled training samples by definition (Sec. 3.3).
    Unlabelled images (STL-10) train the tasks that need no labels.
    """
    if config.teacher.task == "baseline":
        return _labelled_lesson(config, auxiliary, "lesson", config.pretrain)
    if teacher_is_shared(config):
        roles = _roles(auxiliary, config)
        needs_labels = build_task(config.teacher.task, config.pretrain, len(auxiliary.classes)).needs_labels
        learned = ("train",) if needs_labels else ("train", "unlabelled")
        train, held_out = np.flatnonzero(np.isin(roles, learned)), np.flatnonzero(roles == "test")
    else:
        train = configuration.train
        held_out = configuration.test[configuration.test_labels == 0]
    return _limited(config, auxiliary, train, held_out, "lesson", config.pretrain)


def plan_probe(config: ml_collections.ConfigDict, images: ImageSet) -> Lesson:
    """Returns what the linear probe learns from: what the supervised baseline would (Sec. 3.4)."""
    return _labelled_lesson(config, images, "probe", config.probe)


def can_be_probed(lesson: Lesson) -> bool:
    """Returns whether there are two classes to tell apart, and images to test it on."""
    return len(np.unique(lesson.images.labels[lesson.train])) >= 2 and len(lesson.held_out) > 0


def _labelled_lesson(
    config: ml_collections.ConfigDict, images: ImageSet, purpose: str, limits: ml_collections.ConfigDict
) -> Lesson:
    """Returns the labelled training and test samples, labelled by class (CIFAR-10), else as normal or anomalous."""
    labelled = config.copy_and_resolve_references()
    labelled.teacher.task = "baseline"
    roles = _roles(images, labelled)
    if images.name in _NORMAL_CLASS:  # one normal class, and many kinds of anomalies
        normal = _NORMAL_CLASS[images.name]
        is_anomalous = images.labels != images.classes.index(normal)
        images = dataclasses.replace(images, labels=is_anomalous.astype(int), classes=(normal, "anomalous"))
    return _limited(config, images, np.flatnonzero(roles == "train"), np.flatnonzero(roles == "test"), purpose, limits)


def _limited(config, images, train, held_out, purpose, limits) -> Lesson:
    rng = np.random.default_rng(derive_seed(config.seed, purpose))
    return Lesson(images, limit(train, limits.max_train_samples, rng), limit(held_out, limits.max_test_samples, rng))


def _configuration(images, config, name, normal_classes, roles) -> Configuration:
    is_normal = np.isin(images.labels, normal_classes)
    rng = np.random.default_rng(derive_seed(config.seed, "subset", name))
    samples = {
        "normal training": limit(np.flatnonzero(is_normal & (roles == "train")), config.data.max_train_samples, rng),
        "normal test": limit(np.flatnonzero(is_normal & (roles == "test")), config.data.max_test_samples, rng),
        "anomalous test": limit(np.flatnonzero(~is_normal & (roles == "test")), config.data.max_test_samples, rng),
    }
    for kind, members in samples.items():
        # Whoever has none of their own can still train and score; nothing is separated then.
        may_be_missing = kind == "anomalous test" and images.name in ("image_folder", "xray")
        if not len(members) and not may_be_missing:
            members = is_normal if kind.startswith("normal") else ~is_normal
            remedy = _remedy(images, members, "train" if kind.endswith("training") else "test")
            raise UserError(f"configuration {name} of {images.name} has no {kind} samples: {remedy}")
    if len(samples["normal training"]) < 2:
        raise UserError(f"configuration {name} of {images.name} has 1 normal training sample: give at least 2")
    train, normal, anomalous = samples.values()
    calibration = np.flatnonzero(is_normal & (roles == "calibration"))
    labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    return Configuration(name, _group(name), train, calibration, np.concatenate([normal, anomalous]), labels)


def _remedy(images: ImageSet, members: np.ndarray, role: str) -> str:
    """Returns what to do where none of some samples, [S] bool, trains or tests, as the role says."""
    if images.official_split is None:
        return "give more, or see --config.data.train_fraction and --config.data.calibration_fraction"
    if (images.official_split[members] == role).any():
        return "a smaller --config.data.calibration_fraction leaves some"
    return f"the split that is given has none, mark some as {role}"


def identical_across_splits(images: ImageSet, config: ml_collections.ConfigDict) -> list[list[str]]:
    """Returns ids of samples on different sides of the split that share a picture, in pairs, the tested one last.

    Of the whole data set, whichever configurations run; what the supervised baseline learns from counts as training.
    """
    side = {"train": 0, "unlabelled": 0, "calibration": 1, "test": 2}
    sides = np.array([side[role] for role in _roles(images, config)])
    first_with: dict[str, int] = {}
    pairs = []
    for sample in np.argsort(sides, kind="stable"):
        for digest in set(images.digests[sample].tolist()):
            first = first_with.setdefault(digest, sample)
            if sides[first] != sides[sample]:
                pairs.append([str(images.ids[first]), str(images.ids[sample])])
    return sorted(pairs)
