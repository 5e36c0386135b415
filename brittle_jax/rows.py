"""Rows of numbers by index: in memory if they are few, else in a temporary file, so that memory has a bound."""

import errno
import os
import pathlib
import tempfile
import weakref

import numpy as np

MOST_BYTES_IN_MEMORY = 2**27  # 60,000 rows of 128 features take 31 million


class RowFile:
    """Rows [N, F] float32 in a temporary file; read and written at indices [M] in [0, N), like those of an array.

    The file goes with the object or the process. OSError is raised if it cannot be read or written.

    Attributes:
        shape: (N, F).
    """

    def __init__(self, num_rows: int, num_features: int, folder: pathlib.Path | None):
        self.shape = num_rows, num_features
        self._row_bytes = num_features * np.dtype(np.float32).itemsize
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # a buffer would read more than is asked for
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        rows = np.empty((len(indices), self.shape[1]), np.float32)
        for row, index in zip(rows, indices.tolist(), strict=True):
            if os.preadv(self._file.fileno(), [row], index * self._row_bytes) < self._row_bytes:
                raise OSError(errno.EIO, f"row {index} of a temporary file is cut off")
        return rows

    def __setitem__(self, indices: np.ndarray, rows: np.ndarray) -> None:
        for row, index in zip(np.ascontiguousarray(rows, np.float32), indices.tolist(), strict=True):
            if os.pwrite(self._file.fileno(), row, index * self._row_bytes) < self._row_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


Rows = np.ndarray | RowFile


def empty_rows(
    num_rows: int,
    num_features: int,
    folder: pathlib.Path | None = None,
    most_bytes_in_memory: int = MOST_BYTES_IN_MEMORY,
) -> Rows:
    """Returns room for rows [N, F] float32; it is taken when they are written.

    Args:
        folder: of the file; None: the system's for temporary files.
        most_bytes_in_memory: beyond which there is a file.

    Raises:
        OSError: if there can be no file in the folder.
    """
    in_memory, _ = bytes_needed(num_rows, num_features, most_bytes_in_memory)
    return np.empty((num_rows, num_features), np.float32) if in_memory else RowFile(num_rows, num_features, folder)


def bytes_needed(num_rows: int, num_features: int, most_bytes_in_memory: int = MOST_BYTES_IN_MEMORY) -> tuple[int, int]:
    """Returns what all rows take of memory, and of a temporary file; one of the two is 0."""
    size = 4 * num_rows * num_features
    return (size, 0) if size <= most_bytes_in_memory else (0, size)
