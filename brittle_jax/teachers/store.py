"""Pre-trained trunks, filed under what made them: trained once, and shared by all rows and configurations."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import filelock
import numpy as np

from brittle_jax import checkpoint, console
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.splits import Lesson
from brittle_jax.errors import BusyError, UserError
from brittle_jax.models.network import Variables

Identity = dict[str, Any]
"""All that a pre-trained trunk depends on, ready for JSON: equal identities mean equal trunks."""


def identity_of_lesson(lesson: Lesson) -> Identity:
    """Returns the part of an identity that the data decide."""
    dataset = lesson.dataset
    return {
        "data": dataset.identity(),
        "train": _digest(dataset, lesson.train),
        "held_out": _digest(dataset, lesson.held_out),  # it decides the accuracy that is kept beside the trunk
        "image_shape": list(dataset.images.shape),
    }


def _digest(dataset: Dataset, samples: np.ndarray) -> str:
    return hashlib.sha256("\n".join(dataset.samples.ids[samples]).encode()).hexdigest()


def key_of(identity: Identity) -> str:
    """Returns a name for an identity, short enough for a folder: `rotnet-cifar10-0123456789abcdef`."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{identity['task']}-{identity['data']['name']}-{digest[:16]}"


@dataclasses.dataclass(frozen=True)
class TeacherStore:
    """A folder of pre-trained trunks.

    Attributes:
        folder: need not exist yet.
        is_read_only: nothing is written to it.
        wait: for a trunk that another run is training; otherwise that is a BusyError.
    """

    folder: pathlib.Path
    is_read_only: bool = False
    wait: bool = True

    def obtain(
        self, identity: Identity, like: Variables, train: Callable[[], tuple[Variables, dict[str, Any]]]
    ) -> tuple[Variables, dict[str, Any]]:
        """Returns a trunk and its description; if it is not here, they are trained, and kept.

        Args:
            like: has the shapes and types of the trunk's variables.
            train: returns variables and description.

        Raises:
            BusyError: if another run is training it, and `wait` is False.
            UserError: if the store cannot be written.
        """
        key = key_of(identity)
        with contextlib.nullcontext() if self.is_read_only else self._reserved(key):
            folder = self.folder / key
            if (recovered := checkpoint.recover(folder, like)) is not None:
                console.say(f"  teacher {key}: trained before, read from {self.folder}")
                return recovered
            variables, description = train()
            description = {"key": key, **description}
            if not self.is_read_only:
                checkpoint.save(folder, variables, description, made_from=identity)
        return variables, description

    @contextlib.contextmanager
    def _reserved(self, key: str) -> Iterator[None]:
        """Holds a trunk's folder against other runs; where one is training it, waits or raises BusyError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / f".{key}.lock")
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                # Who holds a trunk that is here already only reads it, which takes a moment.
                if not self.wait and not checkpoint.exists(self.folder / key):
                    raise BusyError(
                        f"teacher {key} is being trained by another run: run the same command again later"
                    ) from None
                console.say(f"  teacher {key}: another run is training it, waiting")
                lock.acquire()
        except OSError as error:
            raise UserError(f"teacher.store={self.folder} cannot be written: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()
