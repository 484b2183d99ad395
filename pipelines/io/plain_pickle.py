"""Reading pickles that hold plain data, without running anything that they ask for.

A pickle is a program that can call any function. Here it may build dictionaries, lists, tuples,
sets, texts, numbers and numpy arrays of those, and nothing else: whatever names a function or a
class gets a stand-in of ours that only takes notes, or is refused.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.events import EXIT_NO_DATA, UserError

MAX_BYTES = 2**31

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUFFER_MODULES = ("numpy.core.numeric", "numpy._core.numeric")
_TYPE_CODE = re.compile(r"[<>|=]?([biufSUO])(\d*)")
_PLAIN = (str, bytes, bytearray, int, float, bool, type(None))


class Refused(Exception):
    """The pickle asks for something that plain data does not need."""


def load_plain(path: Path) -> Any:
    """The value in a pickle of plain data; arrays come back as numpy arrays of simple types.

    Texts that Python 2 has written are read as latin-1. Raises UserError with exit code 4 when the
    file is damaged, or asks for anything but plain data.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Refused("it is larger than 2 GiB")
        with path.open("rb") as stream:
            return _Reader(stream, encoding="latin1").load()
    except Refused as problem:
        raise UserError(
            f"'{path.name}' is refused: {problem}",
            {
                "path": path,
                "to fix": "get it from its publisher; this copy could run code of its own",
            },
            EXIT_NO_DATA,
        ) from None
    except OSError as problem:
        raise _damaged(path, problem) from problem
    except Exception as problem:  # broken bytes fail in many ways, and all mean the same
        raise _damaged(path, problem) from problem


def as_array(value: Any) -> np.ndarray | None:
    """A loaded array, or a list of numbers or texts, as an array; None where it is neither."""
    if isinstance(value, _Array):
        return value.made()
    if isinstance(value, (list, tuple)):
        items = [each.value if isinstance(each, _Scalar) else each for each in value]
        if all(isinstance(each, _PLAIN) for each in items):
            return np.array(items)
        rows = [as_array(each) for each in items]
        shapes = {None if row is None else row.shape for row in rows}
        if len(shapes) == 1 and None not in shapes:
            return np.stack([row for row in rows if row is not None])
    return None


class _Reader(pickle.Unpickler):
    """An unpickler that knows a few names only, and our own stand-ins behind them."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _ARRAY_MODULES + _BUFFER_MODULES + ("numpy", "_codecs") and name in _MAKERS:
            return _MAKERS[name]
        if module in ("builtins", "__builtin__") and name in _CONTAINERS:
            return _CONTAINERS[name]
        raise Refused(f"it asks for {module[:60]!a}.{name[:60]!a}")

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it refers to something outside of itself")


class _Maker:
    """A function that a pickle may call, and do nothing else with."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("it changes what it should only call")


class _Type:
    """A numpy type as the pickle describes it."""

    def __init__(self, code: Any, *_: Any) -> None:
        code = code.decode("ascii") if isinstance(code, bytes) else code
        found = _TYPE_CODE.fullmatch(code) if isinstance(code, str) else None
        if found is None:
            raise Refused(f"it holds an array of the type {str(code)[:40]!a}")
        self._kind, self._size, self._order = found[1], found[2], "<"

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise Refused("it holds an array of a composed type")
        self._order = order
        if self._kind == "U" and isinstance(state[5], int):
            self._size = str(state[5] // 4)
        if self._kind == "S" and isinstance(state[5], int):
            self._size = str(state[5])

    def made(self) -> np.dtype[Any]:
        """The type itself."""
        return np.dtype(f"{self._order}{self._kind}{self._size}")


class _Array:
    """An array as the pickle describes it, not trusted before `made` has looked at it."""

    def __init__(self) -> None:
        self._state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self._state = tuple(state)

    def made(self) -> np.ndarray:
        """The array itself. Raises Refused where the description does not fit together."""
        try:
            shape, kind, is_fortran, data = self._state[-4:]
            shape = tuple(int(size) for size in shape)
            count = int(np.prod(shape, dtype=object))
            dtype = kind.made()
            if min(shape, default=0) < 0:
                raise Refused("it holds an array of a negative size")
            if dtype.hasobject:
                values = _from_objects(data, count)
            else:
                raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
                if len(raw) != count * dtype.itemsize:
                    raise Refused("it holds an array of another size than it says")
                values = np.frombuffer(raw, dtype)
            return values.reshape(shape, order="F" if is_fortran else "C")
        except (AttributeError, TypeError, ValueError, OverflowError) as problem:
            raise Refused(f"it holds an array that cannot be made ({problem})") from None


def _from_objects(data: Any, count: int) -> np.ndarray:
    """An array of objects, if they are texts or numbers."""
    items = [each.value if isinstance(each, _Scalar) else each for each in data]
    if len(items) != count or not all(isinstance(each, _PLAIN) for each in items):
        raise Refused("it holds an array of other things than texts and numbers")
    return np.array(items)


class _Scalar:
    """A single number of a numpy type."""

    def __init__(self, kind: Any, data: Any = b"") -> None:
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(kind, _Type) or not isinstance(raw, bytes):
            raise Refused("it holds a number of an unknown type")
        self.value = np.frombuffer(raw, kind.made(), 1)[0].item()

    def __setstate__(self, state: Any) -> None:
        raise Refused("it changes a number")


def _new_array(*_: Any) -> _Array:
    return _Array()


def _no_array(*_: Any) -> Any:
    raise Refused("it makes an array without saying what is in it")


def _array_from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((shape, kind, order == "F", data))
    return array


def _latin1_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes for Python 2; other encodings could unpack to gigabytes."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise Refused(f"it asks for the encoding {str(encoding)[:20]!a}")
    return text.encode("latin1")


def _container(make: type) -> Callable[..., Any]:
    def made(*items: Any) -> Any:
        if items and not isinstance(items[0], (list, tuple, set, str, bytes, dict)):
            raise Refused("it makes a container of something unusual")
        return make(*items[:1])

    return made


_MAKERS = {
    "_reconstruct": _Maker(_new_array),
    "scalar": _Maker(_Scalar),
    "_frombuffer": _Maker(_array_from_buffer),
    "ndarray": _Maker(_no_array),  # only handed on to the first of these
    "dtype": _Maker(_Type),
    "encode": _Maker(_latin1_bytes),
}
_CONTAINERS = {
    make.__name__: _Maker(_container(make)) for make in (set, frozenset, list, tuple, dict, bytes)
}


def _damaged(path: Path, problem: Exception) -> UserError:
    reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
    return UserError(
        f"'{path.name}' is not a whole pickle",
        {
            "path": path,
            "reason": reason,
            "to fix": "unpack its archive again, or download it again if that does not help",
        },
        EXIT_NO_DATA,
    )
