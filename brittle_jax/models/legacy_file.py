"""Reads tensors from PyTorch's legacy files (before version 1.6), without PyTorch and without running code of the file.

Such a file holds, one after the other: three pickles (a magic number, a protocol version, properties of the machine),
the pickled dictionary of tensors, the pickled list of the keys of all storages, and for each storage in that order its
number of elements (8 bytes) and the elements.
"""

import collections
import io
import pickle
from collections.abc import Sequence

import numpy as np

_MAGIC_NUMBER, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_tensors(content: bytes) -> dict[str, np.ndarray]:
    """Returns the tensors of a file by name.

    Raises:
        ValueError: if the content is anything but one dictionary of tensors, in 32-bit floats and 64-bit integers.
    """
    file = io.BytesIO(content)
    try:
        header = [_Unpickler(file).load() for _ in range(3)]
        if header[:2] != [_MAGIC_NUMBER, _PROTOCOL] or not header[2]["little_endian"]:
            raise ValueError("no legacy file of PyTorch")
        unpickler = _Unpickler(file)
        tensors = unpickler.load()
        for key in _Unpickler(file).load():
            _fill(unpickler.storages.pop(key), file)
    except ValueError:
        raise
    except Exception as error:  # of pickle, for whatever a damaged or hostile file may say
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if unpickler.storages or file.read(1):
        raise ValueError("its length is not what its list of storages says")
    if type(tensors) is not collections.OrderedDict or {type(each) for each in tensors.values()} != {np.ndarray}:
        raise ValueError("no dictionary of tensors")
    return dict(tensors)


class _Unpickler(pickle.Unpickler):
    """Knows ordered dictionaries and tensors alone.

    Attributes:
        storages: by key; zeros, to be filled.
    """

    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self._file_size = file.getbuffer().nbytes
        self.storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> object:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor") from None

    def persistent_load(self, identity: tuple) -> np.ndarray:
        _, dtype, key, _, count, view = identity
        if not 0 <= count * dtype.itemsize <= self._file_size or view is not None:
            raise pickle.UnpicklingError(f"storage {key} is larger than the file, or a view")
        if key not in self.storages:  # tensors may share one
            self.storages[key] = np.zeros(count, dtype)
        return self.storages[key]


def _tensor(
    storage: np.ndarray, offset: int, shape: Sequence[int], strides: Sequence[int], *gradient: object
) -> np.ndarray:
    """Returns a view of a storage, whose elements are not read yet; offset and strides count elements."""
    del gradient
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0 or last >= len(storage):
        raise pickle.UnpicklingError("a tensor exceeds its storage")
    strides = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)


def _fill(storage: np.ndarray, file: io.BytesIO) -> None:
    count = int.from_bytes(file.read(8), "little")
    if count != len(storage):
        raise ValueError(f"a storage has {count} elements, not {len(storage)}")
    elements = np.frombuffer(file.read(storage.nbytes), storage.dtype)
    if len(elements) != len(storage):  # a single one would fill them all
        raise ValueError(f"a storage of {count} elements is cut off after {len(elements)}")
    storage[:] = elements


# What a file may name; all else is refused. A data type stands for the class of a storage.
_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}
