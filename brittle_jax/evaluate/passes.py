"""Passes of networks over image sets of any size: padded batches in, one row an image or a running total out."""

import jax
import numpy as np

from brittle_jax import console
from brittle_jax.data.image_set import ImageSet
from brittle_jax.data.pipeline import evaluation_batches
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate.brittleness import BrittlenessTerms, empty_terms, update_terms
from brittle_jax.evaluate.detectors import Gaussian, anomaly_scores
from brittle_jax.evaluate.moments import Moments, empty_moments, merge_device_moments, update_moments
from brittle_jax.models.network import Network
from brittle_jax.parallel import DeviceGroup


def represent(
    network: Network, images: ImageSet, indices: np.ndarray, batch_size: int, devices: DeviceGroup
) -> tuple[np.ndarray, Moments]:
    """Returns the representations [M, F] float32 of the images, and their moments with the full scatter.

    Raises:
        DegenerateDataError: where they are not finite.
    """
    accumulate = devices.accumulation(_add_representations)
    output = jax.eval_shape(network, np.zeros((1, *images.image_shape), np.float32))
    total = devices.replicate_total(empty_moments(output.shape[-1], full=True))
    network = devices.replicate(network)
    representations = []
    with console.track("teacher's representations", len(indices)) as progress:
        for batch in evaluation_batches(images, indices, devices.fit_batch_size(batch_size, len(indices))):
            total, rows = accumulate(network, total, batch)
            representations.append(rows[batch["mask"]])
            progress.update(len(representations[-1]))
    representations = np.concatenate(representations)
    if not np.isfinite(representations).all():
        raise DegenerateDataError(
            "the teacher's representations are not finite numbers: lower --config.pretrain.peak_learning_rate"
        )
    return representations, merge_device_moments(total)


def outputs(
    network: Network, images: ImageSet, indices: np.ndarray, batch_size: int, devices: DeviceGroup, what: str
) -> np.ndarray:
    """Returns the outputs [M, F] float32 of a network for the images; `what` they are is shown meanwhile."""
    evaluate = devices.evaluation(_outputs)
    network = devices.replicate(network)
    rows = []
    with console.track(what, len(indices)) as progress:
        for batch in evaluation_batches(images, indices, devices.fit_batch_size(batch_size, len(indices))):
            rows.append(evaluate(network, batch)[batch["mask"]])
            progress.update(len(rows[-1]))
    return np.concatenate(rows)


def score(
    student: Network,
    teacher: Network,
    gaussian: Gaussian,
    images: ImageSet,
    indices: np.ndarray,
    batch_size: int,
    devices: DeviceGroup,
) -> dict[str, np.ndarray]:
    """Returns the scores [M] of all four detectors, by name; see `detectors.anomaly_scores`.

    Raises:
        DegenerateDataError: where a score is not finite.
    """
    evaluate = devices.evaluation(_scores)
    model = devices.replicate((student, teacher, gaussian))
    rows = []
    with console.track("scores", len(indices)) as progress:
        for batch in evaluation_batches(images, indices, devices.fit_batch_size(batch_size, len(indices))):
            scores = evaluate(model, batch)
            rows.append({name: values[batch["mask"]] for name, values in scores.items()})
            progress.update(int(batch["mask"].sum()))
    scores = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise DegenerateDataError(f"scores of {name} are not finite: lower --config.distill.learning_rate")
    return scores


def measure_brittleness(
    student: Network,
    teacher: Network,
    images: ImageSet,
    indices: np.ndarray,
    batch_size: int,
    devices: DeviceGroup,
    *,
    path: str,
) -> BrittlenessTerms:
    """Returns both terms of Equation 2 over the images."""
    accumulate = devices.accumulation(_add_brittleness, path)
    output = jax.eval_shape(teacher, np.zeros((1, *images.image_shape), np.float32))
    total = devices.replicate_total(empty_terms(output.shape[-1]))
    model = devices.replicate((student, teacher))
    with console.track("input gradients", len(indices)) as progress:
        for batch in evaluation_batches(images, indices, devices.fit_batch_size(batch_size, len(indices))):
            total, _ = accumulate(model, total, batch)
            jax.block_until_ready(total)  # else the rate that is shown would be that of handing work out
            progress.update(int(batch["mask"].sum()))
    return BrittlenessTerms(
        gradient_norms=merge_device_moments(total.gradient_norms), errors=merge_device_moments(total.errors)
    )


def _add_representations(network, total, batch):
    outputs = network(to_unit_range(batch["image"]))
    return update_moments(total, outputs, batch["mask"]), outputs


def _outputs(network, batch):
    return network(to_unit_range(batch["image"]))


def _scores(model, batch):
    student, teacher, gaussian = model
    return anomaly_scores(student, teacher, gaussian, to_unit_range(batch["image"]))


def _add_brittleness(path, model, total, batch):
    student, teacher = model
    images = to_unit_range(batch["image"])
    return update_terms(total, student, teacher, images, batch["mask"], path=path), {}
