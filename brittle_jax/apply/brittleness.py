"""Both terms of Equation 2 of a detector, image by image."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from brittle_jax.apply.detector import Detector
from brittle_jax.data.images import Images
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.evaluate import brittleness_parts
from brittle_jax.evaluate.brittleness import BrittlenessTerms, gradient_norms_and_errors, terms_of
from brittle_jax.evaluate.coordinates import Target
from brittle_jax.inference import Representations, pass_over
from brittle_jax.loop import Loop
from brittle_jax.rows import MOST_BYTES_IN_MEMORY, Rows, empty_rows


@dataclasses.dataclass(frozen=True)
class MeasuredBrittleness:
    """What Equation 2 is computed from.

    Attributes:
        gradient_norms: [M] float32, of the images.
        errors: [M, F] float32, h(x) - T(f(x)), where T are the coordinates in which the student has learned.
        terms: both folded.
    """

    gradient_norms: np.ndarray
    errors: Rows
    terms: BrittlenessTerms


def measure_brittleness(
    detector: Detector,
    images: Images,
    indices: np.ndarray,
    loop: Loop,
    representations: Representations | None = None,
    *,
    path: str = "student",
    folder: pathlib.Path | None = None,
    most_bytes_in_memory: int = MOST_BYTES_IN_MEMORY,
) -> MeasuredBrittleness:
    """Returns the input-gradient norm and the error of each image [M], and the terms of Equation 2 over all of them.

    Args:
        representations: the teacher's; along path "student" its outputs are constants, and come from there. None: they
            are computed here.
        path: as in `input_gradient_norms`.
        folder: of the temporary file that holds many errors; None: the system's.
        most_bytes_in_memory: of errors, beyond which there is a file.
    """
    if representations is None:
        representations = Representations(detector.teacher, images, loop, folder, most_bytes_in_memory)
    norms = np.empty(len(indices), np.float32)
    errors = empty_rows(len(indices), representations.num_features, folder, most_bytes_in_memory)

    def take(chosen: slice, rows: tuple[np.ndarray, np.ndarray]) -> None:
        count = chosen.stop - chosen.start
        norms[chosen] = rows[0][:count]
        errors[np.arange(chosen.start, chosen.stop)] = rows[1][:count]

    _pass(_rows_of_batch, detector, images, indices, loop, representations, take, path, "input gradients")
    return MeasuredBrittleness(norms, errors, terms_of(norms, errors))


def gradient_norm_by_dimension(
    detector: Detector,
    images: Images,
    indices: np.ndarray,
    loop: Loop,
    representations: Representations,
    *,
    path: str = "student",
) -> np.ndarray:
    """Returns what each output dimension adds to the mean norm of input gradients of images [M]: [F] float64.

    Args:
        representations, path: as in `measure_brittleness`.
    """
    total = np.zeros(representations.num_features)

    def take(chosen: slice, rows: np.ndarray) -> None:
        total[:] += rows[: chosen.stop - chosen.start].sum(axis=0, dtype=np.float64)

    _pass(_dimensions_of_batch, detector, images, indices, loop, representations, take, path, "gradients in parts")
    return total / len(indices)


def _pass(
    function: Callable[..., Any],
    detector: Detector,
    images: Images,
    indices: np.ndarray,
    loop: Loop,
    representations: Representations,
    take: Callable[[slice, Any], None],
    path: str,
    kind: str,
) -> None:
    """Passes over images; along path "student" the teacher's outputs come from its representations."""
    if path == "student":
        representations.compute(indices)
    model = detector.student, detector.teacher if path == "both" else None, detector.coordinates
    targets = representations if path == "student" else None
    pass_over(images, indices, function, model, loop, kind, take, static=(path,), targets=targets)


def _rows_of_batch(path, model, batch):
    student, target = _student_and_target(model, batch)
    return gradient_norms_and_errors(student, target, to_unit_range(batch["image"]), path=path)


def _dimensions_of_batch(path, model, batch):
    student, target = _student_and_target(model, batch)
    return brittleness_parts.gradient_norm_by_dimension(student, target, to_unit_range(batch["image"]), path=path)


def _student_and_target(model, batch):
    student, teacher, coordinates = model
    if teacher is None:
        teacher = jax.tree_util.Partial(_known_outputs, batch["target"])
    return student, Target(teacher, coordinates)


def _known_outputs(outputs, images):
    """A network, once it is given its outputs."""
    del images
    return outputs
