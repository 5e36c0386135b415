"""Rows of a pass over images, kept while it goes on: played back, they give the same results as the pass."""

import io
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from brittle_jax import console, files
from brittle_jax.background import Background

MOST_PENDING_BYTES = 2**26  # of rows in memory


class Journal:
    """Outputs of a pass, batch by batch, in files of several batches each.

    Outputs of a batch are an array or a tuple of arrays; those of all batches of a pass have the same shapes. The name
    of a file has the number of its first batch, and the SHA-256 of its content.
    """

    def __init__(self, folder: pathlib.Path, background: Background, most_pending_bytes: int = MOST_PENDING_BYTES):
        """Writes nothing yet.

        Args:
            background: what writes the files.
            most_pending_bytes: beyond which rows are written, however little time has passed.
        """
        self._folder, self._background, self._most_pending_bytes = folder, background, most_pending_bytes
        self._pending: list[tuple[np.ndarray, ...]] = []
        self._pending_bytes = 0
        self._num_written = 0

    def play_back(self) -> Iterator[Any]:
        """Yields the outputs of the first batches, as far as they are there and sound; `add` goes on after them.

        A file that is damaged is warned of, by name, and deleted. What comes after a gap is not used.
        """
        for file in sorted(self._folder.glob("*.npz")) if self._folder.is_dir() else ():
            first, _, digest = file.stem.partition("-")
            if change := files.changes_of(self._folder, {file.name: digest}).get(file.name):
                console.warn(f"{file} is damaged ({change}): what it holds is computed again")
                files.drop(file)
                continue
            if int(first) != self._num_written:
                continue
            with np.load(file) as arrays:
                leaves = [arrays[str(number)] for number in range(len(arrays))]
            for batch in zip(*leaves, strict=True):
                yield batch[0] if len(batch) == 1 else batch
                self._num_written += 1

    def add(self, outputs: Any) -> None:
        """Takes the outputs of the next batch."""
        leaves = tuple(np.asarray(leaf) for leaf in jax.tree.leaves(outputs))
        self._pending.append(leaves)
        self._pending_bytes += sum(leaf.nbytes for leaf in leaves)
        if self._pending_bytes > self._most_pending_bytes:
            self.save()

    def save(self) -> None:
        """Starts to write what has been added since the last time.

        Raises:
            OSError: if what was written before could not be, because the disk is full.
        """
        if not self._pending:
            return
        batches, first = self._pending, self._num_written
        self._pending, self._pending_bytes = [], 0
        self._num_written += len(batches)

        def write() -> None:
            content = io.BytesIO()
            columns = zip(*batches, strict=True)
            np.savez(content, **{str(number): np.stack(column) for number, column in enumerate(columns)})
            digest = files.sha256_of_bytes(content.getbuffer())
            with files.replacing(self._folder / f"{first:09d}-{digest}.npz") as partial:
                partial.write_bytes(content.getbuffer())

        self._background.start(write)
