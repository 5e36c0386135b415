"""Pre-trained trunks, kept by what made them: trained once, shared by all rows and configurations that name one."""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import filelock
import ml_collections
import numpy as np

from brittle_jax import console
from brittle_jax.auxiliary.task import AuxiliaryTask
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.one_class import Lesson
from brittle_jax.errors import UserError
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.models.published_weights import sha256_of


def identify(config: ml_collections.ConfigDict, task: AuxiliaryTask, lesson: Lesson) -> dict[str, Any]:
    """Returns all that a pre-trained trunk depends on, ready for JSON: equal identities mean equal trunks."""
    images, architecture = lesson.dataset, ARCHITECTURES[config.network.name]
    return {
        "task": config.teacher.task,
        "version": task.version,
        "data": dataset.identity(),
        "train": _digest(images, lesson.train),
        "held_out": _digest(images, lesson.held_out),  # it decides the accuracy that is kept beside the trunk
        "image_shape": list(dataset.images.shape),
        # Parcels of other sizes and seeds have the same ids.
        "parcels": [config.data.parcels.to_dict(), config.data.patches.to_dict()] if dataset.name == "xray" else None,
        "network": [config.network.name, repr(architecture.trunk), architecture.mean, architecture.std],
        "training_dtype": config.network.training_dtype,
        "bottleneck": config.network.output_features if task.keeps_head else None,
        "pretrain": config.pretrain.to_dict(),
        "initial_weights": sha256_of(config.teacher.weights) if config.pretrain.from_weights else None,
        "seed": config.seed,
    }


def _digest(dataset: Dataset, samples: np.ndarray) -> str:
    return hashlib.sha256("\n".join(dataset.samples.ids[samples]).encode()).hexdigest()


def key_of(identity: dict[str, Any]) -> str:
    """Returns a name for an identity, short enough for a folder: `rotnet-cifar10-0123456789abcdef`."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{identity['task']}-{identity['data']['name']}-{digest[:16]}"


@contextlib.contextmanager
def reserved(store: pathlib.Path, key: str) -> Iterator[pathlib.Path]:
    """Holds a trunk's folder, which need not exist yet, against other runs; waits for one that is training it.

    Raises:
        UserError: where the store cannot be written.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(store / f".{key}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            console.say(f"  teacher {key}: another run is training it, waiting")
            lock.acquire()
    except OSError as error:
        raise UserError(f"--config.teacher.store={store} cannot be written: {error.strerror}") from error
    try:
        yield store / key
    finally:
        lock.release()
