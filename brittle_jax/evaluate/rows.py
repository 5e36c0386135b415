"""Rows of numbers by their index: few of them in memory, many in a temporary file, so that memory has a bound."""

import errno
import os
import pathlib
import tempfile
import weakref

import numpy as np

_MOST_BYTES_IN_MEMORY = 2**27  # 60,000 rows of 128 features take 31 million


class RowFile:
    """Rows [N, F] float32 in a temporary file, read and written at indices [M] in [0, N) as those of an array are.

    The file is gone with the object or the process. Where it cannot be read or written, OSError is raised.

    Attributes:
        shape: (N, F).
    """

    def __init__(self, num_rows: int, num_features: int, folder: pathlib.Path | None):
        self.shape = num_rows, num_features
        self._row_bytes = num_features * np.dtype(np.float32).itemsize
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # a buffer would read more than is asked for
        weakref.finalize(self, self._file.close)

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


def empty_rows(num_rows: int, num_features: int, folder: pathlib.Path | None = None) -> np.ndarray | RowFile:
    """Returns room for rows [N, F] float32, which is taken when they are written.

    Args:
        folder: for the file, if there are more rows than 128 MiB hold; None: the system's for temporary files.

    Raises:
        OSError: where there can be no file in the folder.
    """
    in_memory, _ = bytes_needed(num_rows, num_features)
    return np.empty((num_rows, num_features), np.float32) if in_memory else RowFile(num_rows, num_features, folder)


def bytes_needed(num_rows: int, num_features: int) -> tuple[int, int]:
    """Returns what all rows take of memory, and of a temporary file; one of the two is 0."""
    size = 4 * num_rows * num_features
    return (size, 0) if size <= _MOST_BYTES_IN_MEMORY else (0, size)
