"""Read the tensors of a PyTorch file of the format before 1.6, without PyTorch and without running what it contains.

Such a file is five pickles (magic number, version, system, state dictionary, storage keys), then the storages: for each
key, the number of values and the values. A tensor in the dictionary is a strided view of a storage that comes later.
"""

import io
import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


@dataclass(frozen=True)
class Tensor:
    """A strided view of a storage; PyTorch's arguments of the same names, counted in values."""

    storage: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, values: np.ndarray) -> np.ndarray:
        """Copy the view out of its storage; ValueError where it leaves it."""
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if min(self.offset, *self.size, *self.stride, last) < 0 or last >= len(values):
            raise ValueError(f"A tensor of shape {self.size} leaves its storage of {len(values)} values.")
        steps = tuple(step * values.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.size, steps).copy()


def rebuild(storage: str, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_grad: object) -> Tensor:
    """Stand in for `torch._utils._rebuild_tensor_v2`."""
    return Tensor(storage, offset, size, stride)


class Reader(pickle.Unpickler):
    """An unpickler that can make dictionaries of tensors and nothing else, so that a hostile file runs no code."""

    def __init__(self, file: io.BytesIO) -> None:
        """Read from `file`, and note the storages on the way."""
        super().__init__(file)
        self.storages: dict[str, tuple[str, int]] = {}  # key: (dtype, number of values)

    def find_class(self, module: str, name: str) -> Any:
        """Admit what a state dictionary is made of."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"The file asks for {module}.{name}, which no tensor needs.")

    def persistent_load(self, pid: Any) -> Any:
        """Note the storage that a tensor lies in."""
        kind, dtype, key, _device, count, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"The file asks for {pid}, which no tensor needs.")
        self.storages[key] = (dtype, count)
        return key


def read(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a saved state dictionary; ValueError or UnpicklingError where the file is something else."""
    file = io.BytesIO(data)
    if Reader(file).load() != MAGIC or Reader(file).load() != VERSION:
        raise ValueError("This is not a PyTorch file of the format before 1.6.")
    if not Reader(file).load()["little_endian"]:
        raise ValueError("The file was written on a big-endian machine.")
    reader = Reader(file)
    state = reader.load()
    values = {}
    for key in Reader(file).load():
        dtype, count = reader.storages[key]
        if struct.unpack("<q", file.read(8)) != (count,):
            raise ValueError(f"Storage {key} does not have the {count} values that its tensors say.")
        values[key] = np.frombuffer(file.read(count * np.dtype(dtype).itemsize), dtype)
    if file.read(1):
        raise ValueError("The file goes on after its last storage.")
    return {name: tensor.read(values[tensor.storage]) for name, tensor in state.items()}
