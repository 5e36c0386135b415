"""A trained detector: what a run leaves to be used, and what turns new pictures into anomaly scores."""

import collections
import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from brittle_jax import checkpoint, files
from brittle_jax.apply import untrusted
from brittle_jax.apply.preprocessing import Preprocessing
from brittle_jax.data.images import Images
from brittle_jax.errors import DamagedError, DegenerateDataError, UserError
from brittle_jax.evaluate import detectors
from brittle_jax.evaluate.coordinates import TARGETS, Coordinates, Target, in_coordinates
from brittle_jax.evaluate.detectors import Gaussian
from brittle_jax.inference import Representations, outputs_of_batch, pass_over
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network, NetworkSettings, Representation, check_network, shapes_of

_MOST_FEATURES = 2**16
FORMAT_VERSION = 3  # 1: without network.levels; 2: without network.student and targets


class Detector(flax.struct.PyTreeNode):
    """Everything that scores an image; a pytree, so it passes through `jax.jit`.

    Attributes:
        student, teacher: the networks.
        gaussian: of the teacher's representations of normal training images.
        network: the architectures of both.
        preprocessing: from a picture to the images that both expect.
        targets: the coordinates in which the student has learned, by name (see `Gaussian.coordinates`).
    """

    student: Network
    teacher: Network
    gaussian: Gaussian
    network: NetworkSettings = flax.struct.field(pytree_node=False)
    preprocessing: Preprocessing = flax.struct.field(pytree_node=False)
    targets: str = flax.struct.field(pytree_node=False, default="raw")

    @property
    def coordinates(self) -> Coordinates | None:
        """The coordinates in which the student has learned; None: the teacher's outputs as they are."""
        return self.gaussian.coordinates(self.targets)

    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """Returns all four anomaly scores [N], by name, of images [N, H, W, 3] float32 in [0, 1]."""
        return detectors.anomaly_scores(self.student, self.teacher, self.gaussian, images, self.coordinates)

    def errors(self, images: jax.Array) -> jax.Array:
        """Returns the student's errors h(x) - T(f(x)) [N, F]; the squares of each add up to the score of KD."""
        return self.student(images) - Target(self.teacher, self.coordinates)(images)


def score(
    detector: Detector,
    images: Images,
    indices: np.ndarray,
    loop: Loop,
    representations: Representations | None = None,
    take_errors: Callable[[slice, np.ndarray], None] | None = None,
) -> dict[str, np.ndarray]:
    """Returns the scores [M] of all four detectors for images [M], by name.

    A student that is its teacher's twin shares the teacher's compiled program, so there is one less to compile and to
    hold in memory than if scores came from a program of their own.

    Args:
        representations: the detector's teacher's, if some of them may be known; None: each is computed.
        take_errors: called with a slice of the M and the student's errors there, [slice, F] float32, as
            `Detector.errors` has them.

    Raises:
        DegenerateDataError: if a score is not finite.
    """
    if representations is None:
        representations = Representations(detector.teacher, images, loop)
    representations.compute(indices)
    scores = collections.defaultdict(lambda: np.empty(len(indices), np.float32))
    known = {"gaussian": detector.gaussian, "coordinates": detector.coordinates}
    outputs_to_scores = functools.partial(detectors.scores_of_outputs, **known)

    def take(chosen: slice, student_rows: np.ndarray) -> None:
        count = chosen.stop - chosen.start
        teacher_rows = representations.outputs_of(indices[chosen])
        # With their fillings: a last batch of another size would be compiled anew.
        teacher_rows = np.pad(teacher_rows, ((0, len(student_rows) - count), (0, 0)))
        for name, values in outputs_to_scores(student_rows, teacher_rows).items():
            scores[name][chosen] = np.asarray(values)[:count]
        if take_errors is not None:
            take_errors(chosen, np.asarray(student_rows - in_coordinates(detector.coordinates, teacher_rows))[:count])

    pass_over(images, indices, outputs_of_batch, detector.student, loop, "scores", take)
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise DegenerateDataError(f"scores of {name} are not finite: lower distill.learning_rate")
    return dict(scores)


def save(
    folder: pathlib.Path, detector: Detector, *, student: pathlib.Path, teacher: pathlib.Path, made_from: dict[str, Any]
) -> None:
    """Writes a detector to a folder of its own. Its networks have folders already; it refers to them.

    Args:
        student, teacher: folders of the networks, as `checkpoint.save` wrote them.
        made_from: as in `checkpoint.save`.
    """
    description = {
        "format_version": FORMAT_VERSION,
        "network": dataclasses.asdict(detector.network),
        "preprocessing": dataclasses.asdict(detector.preprocessing),
        "targets": detector.targets,
        "student": os.path.relpath(student, folder),
        "teacher": os.path.relpath(teacher, folder),
    }
    gaussian = detector.gaussian
    variables = {"mean": gaussian.mean, "variance": gaussian.variance, "whitening": gaussian.whitening}
    checkpoint.save(folder, variables, description, made_from)


def load(run: str | os.PathLike, configuration: str) -> Detector:
    """Reads the detector of a finished run; neither its data set nor its config is needed.

    A run of others is safe to load: no code in it runs, no link in it is followed, and what its files say of sizes is
    checked before memory is taken.

    Args:
        run: the folder of the run.
        configuration: such as "unimodal/airplane"; the run's splits.json lists them.

    Raises:
        UserError: if there is no such detector, or it is damaged, or its architecture is not registered.
    """
    run = pathlib.Path(run).expanduser()
    folder = folder_of(run, configuration)
    untrusted.check_inside(folder, run)
    if not checkpoint.exists(folder):
        raise UserError(_why_missing(run, configuration))
    untrusted.check_network(folder)
    checkpoint.check(folder)
    description = files.read_json(folder / checkpoint.DESCRIPTION)
    with untrusted.as_damage(folder / checkpoint.DESCRIPTION):
        if description["format_version"] > FORMAT_VERSION:
            raise UserError(
                f"{folder} has format version {description['format_version']}, this version of brittle_jax reads up to "
                f"{FORMAT_VERSION}: install a newer one"
            )
        network = NetworkSettings(**description["network"])
        check_network(network)
        if not 0 <= network.output_features <= _MOST_FEATURES:
            raise ValueError(f"output_features of {network.output_features}, not from 0 to {_MOST_FEATURES}")
        preprocessing = Preprocessing.from_json(description["preprocessing"])
        targets = description.get("targets", "raw")
        if targets not in TARGETS:
            raise UserError(
                f"{folder} has targets {targets!r}, which are not one of {', '.join(TARGETS)}: it is damaged"
            )
        folders = [_resolved(folder, description[name]) for name in ("student", "teacher")]
    num_features = shapes_of(network.module, preprocessing.image_shape).num_features
    networks = []
    for module, each in zip((network.student_with(num_features), network.module), folders, strict=True):
        untrusted.check_inside(each, run)
        untrusted.check_network(each)
        networks.append(_restored(module, preprocessing.image_shape, each))
    student, teacher = networks
    vector = jax.ShapeDtypeStruct((num_features,), jnp.float32)
    matrix = jax.ShapeDtypeStruct((num_features, num_features), jnp.float32)
    gaussian, _ = checkpoint.restore(folder, {"mean": vector, "variance": vector, "whitening": matrix}, verify=False)
    return Detector(student, teacher, Gaussian(**gaussian), network, preprocessing, targets)


def _restored(module: Representation, image_shape: tuple[int, int, int], folder: pathlib.Path) -> Network:
    return Network(module, checkpoint.restore(folder, shapes_of(module, image_shape).variables)[0])


def folder_of(run: pathlib.Path, configuration: str) -> pathlib.Path:
    """Returns where a run keeps the detector of a configuration."""
    return run / "checkpoints" / configuration / "detector"


def configurations_of(run: pathlib.Path) -> list[str]:
    """Returns the configurations of which a run has detectors, sorted."""
    networks = checkpoint.find_networks(run / "checkpoints")
    return [each.parent.relative_to(run / "checkpoints").as_posix() for each in networks if each.name == "detector"]


def only_configuration(run: pathlib.Path) -> str:
    """Returns the configuration of a run that has one; those of its reference, a random teacher, do not count.

    Raises:
        UserError: if there is none, or there are several: it names them.
    """
    names = [name for name in configurations_of(run) if not name.endswith("/random")]
    if len(names) > 1:
        raise UserError(f"{run} has {len(names)} detectors: name one of the configurations {', '.join(names)}")
    if not names:
        raise UserError(_why_missing(run, ""))
    return names[0]


def _why_missing(run: pathlib.Path, configuration: str) -> str:
    if not run.is_dir():
        return f"{run} is not a folder: name that of a finished run"
    if seeds := sorted(file.parent for file in run.glob("seed-*/results.json")):
        return f"{run} has the runs of several seeds: name one of them, such as {seeds[0]}"
    names = configurations_of(run)
    if candidates := {file.parent.name: file.parent for file in sorted(run.glob("candidates/*/results.json"))}:
        return f"{run} holds the runs of brittle_jax.choose: {_candidate_to_name(run, candidates)}"
    if not names:
        return f"{run} has no detectors: no run, or one of an earlier version; run it again from the start"
    return f"{run} has no detector for {configuration!r} (there are {', '.join(names)})"


def _candidate_to_name(run: pathlib.Path, candidates: Mapping[str, pathlib.Path]) -> str:
    """Returns which of the runs of a choice to name, by the folder's choose.json."""
    with contextlib.suppress(DamagedError, LookupError, TypeError):
        return f"name the one that it chose, {candidates[files.read_json(run / 'choose.json')['choice']['candidate']]}"
    return f"name one of them, such as {next(iter(candidates.values()))}"


def _resolved(folder: pathlib.Path, relative: str) -> pathlib.Path:
    return pathlib.Path(os.path.normpath(folder / relative))
