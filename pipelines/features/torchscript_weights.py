"""Reads the weights of a TorchScript file without running what is in it.

Such a file is a zip: code, a pickle of the modules, and one raw file per tensor. The pickle is read
by an unpickler that knows tensors, lists and dicts, and takes every module for a plain record of
its attributes; the code is never looked at.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.events import UserError

_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "BoolStorage": np.dtype("?"),
}
_MAX_BYTES = 2**31


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive rather than a pickled state dict."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript_weights(path: Path) -> dict[str, Tensor]:
    """State dict of the module in a TorchScript file.

    Raises UserError when the file is damaged or holds anything but tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (each for each in archive.namelist() if each.endswith("/data.pkl"))
            if sum(each.file_size for each in archive.infolist()) > _MAX_BYTES:
                raise ValueError("it is too large for weights")
            module = _Reader(archive, name.removesuffix("data.pkl")).load()
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise UserError(
            f"weights file '{path.name}' cannot be read",
            {"file": path, "reason": error, "to fix": "download it again"},
        ) from error
    return dict(_tensors(module, ""))


class _Record:
    """Stands for an instance of any class of the archive's own code."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(folder + "data.pkl")))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        """Nothing but what tensors and modules consist of."""
        if module.startswith("__torch__"):
            return type(name, (_Record,), {})
        if module == "torch" and name in _DTYPES:
            return name
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("collections", "OrderedDict"): OrderedDict,
            ("torch.jit._pickle", "build_intlist"): list,
            ("torch.jit._pickle", "build_doublelist"): list,
            ("torch.jit._pickle", "build_boollist"): list,
            ("torch.jit._pickle", "build_tensorlist"): list,
            ("torch.jit._pickle", "restore_type_tag"): lambda value, _: value,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known[(module, name)]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The raw values of a tensor."""
        kind, storage, key, _, count = pid
        if kind != "storage" or storage not in _DTYPES:
            raise pickle.UnpicklingError(f"it holds a {storage}")
        data = self._archive.read(f"{self._folder}data/{key}")
        values: np.ndarray = np.frombuffer(data, _DTYPES[storage], count)
        return values


def _tensor(
    storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return torch.from_numpy(storage.copy()).as_strided(tuple(size), tuple(stride), offset)


def _tensors(record: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors by dotted name; what is neither a tensor nor a module is left out."""
    attributes = getattr(record, "attributes", None)
    if not isinstance(attributes, dict):
        return
    for name, value in attributes.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        else:
            yield from _tensors(value, f"{prefix}{name}.")
