"""Rows of numbers by their index: few of them in memory, many in a temporary file, so that memory has a bound."""

import contextlib
import pathlib
import tempfile
import weakref
from typing import BinaryIO

import numpy as np

from brittle_jax.errors import UserError

_MOST_BYTES_IN_MEMORY = 2**27  # 60,000 rows of 128 features take 31 million


class RowFile:
    """Rows [N, F] float32 in a temporary file, read and written at indices [M] as those of an array are.

    The file has no name, takes room for what is written, and is gone with the object or the process.

    Attributes:
        shape: (N, F).
    """

    def __init__(self, num_rows: int, num_features: int, folder: pathlib.Path | None):
        self.shape = num_rows, num_features
        self._row_bytes = num_features * np.dtype(np.float32).itemsize
        self._folder = folder or pathlib.Path(tempfile.gettempdir())
        self._file = tempfile.TemporaryFile(dir=self._folder)
        weakref.finalize(self, _close, self._file)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        rows = np.empty((len(indices), self.shape[1]), np.float32)
        for row, index in zip(rows, indices.tolist(), strict=True):
            self._file.seek(index * self._row_bytes)
            self._file.readinto(row)
        return rows

    def __setitem__(self, indices: np.ndarray, rows: np.ndarray) -> None:
        try:
            for row, index in zip(np.ascontiguousarray(rows, np.float32), indices.tolist(), strict=True):
                self._file.seek(index * self._row_bytes)
                self._file.write(row)
            self._file.flush()
        except OSError as error:
            size = self.shape[0] * self._row_bytes / 1e9
            raise UserError(
                f"a temporary file of up to {size:.1f} GB cannot be written in {self._folder}: {error.strerror}: "
                "free room there, or name another --workdir"
            ) from error


def _close(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # of what could not be written, which has been reported
        file.close()


def empty_rows(num_rows: int, num_features: int, folder: pathlib.Path | None = None) -> np.ndarray | RowFile:
    """Returns room for rows [N, F] float32, which is taken when they are written.

    Args:
        folder: for the file, if there are more rows than 128 MiB hold; None: the system's for temporary files.
    """
    if bytes_in_memory(num_rows, num_features):
        return np.empty((num_rows, num_features), np.float32)
    return RowFile(num_rows, num_features, folder)


def bytes_in_memory(num_rows: int, num_features: int) -> int:
    """Returns the memory that rows are kept in: 0 where they are too many."""
    size = 4 * num_rows * num_features
    return size if size <= _MOST_BYTES_IN_MEMORY else 0
