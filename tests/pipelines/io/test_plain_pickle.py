"""Pickles of plain data are read; pickles that want more are refused and do nothing."""

from __future__ import annotations

import builtins
import collections
import functools
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.events import UserError
from pipelines.io.plain_pickle import as_array, load_plain

VALUES: dict[str, Any] = {
    "texts": ["a/b.jpg", "ü.jpg"],
    "joints": np.random.default_rng(0).random((3, 18, 2)),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "flags": [np.bool_(True), np.bool_(False)],
    "scalars": [np.float64(1.5), np.int64(-3)],
    "objects": np.array(["long text", "b"], object),
    "unicode": np.array(["long text", "b"]),
    "bytes": np.array([b"x", b"yz"]),
    "big endian": np.arange(4, dtype=">i4"),
    "empty": np.zeros((0, 2)),
    "rows": [np.zeros(3), np.ones(3)],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back_as_it_was(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "index.p"
    path.write_bytes(pickle.dumps({**VALUES, "more": ({1, 2}, b"\xff\x00", None, 2**70)}, protocol))
    loaded = load_plain(path)
    assert loaded["more"] == ({1, 2}, b"\xff\x00", None, 2**70)
    for name, expected in VALUES.items():
        array = as_array(loaded[name])
        assert array is not None
        assert np.array_equal(array, np.array(expected)), name
        assert array.shape == np.array(expected).shape


def test_arrays_and_texts_of_python_2_are_read(tmp_path: Path) -> None:
    """Written by hand as Python 2 wrote them: byte strings for texts and for array data."""
    data = struct.pack("<2d", 0.25, -1.0).decode("latin1").encode("latin1")
    number = b"U" + bytes([len(data)]) + data
    pickled = (
        b"\x80\x02}q\x00(U\x04imgs]q\x01U\x06caf\xe9.jaU\x06joints"
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + number + b"tbu."
    )
    path = tmp_path / "index.p"
    path.write_bytes(pickled)
    loaded = load_plain(path)
    assert loaded["imgs"] == ["café.j"]
    joints = as_array(loaded["joints"])
    assert joints is not None and joints.tolist() == [0.25, -1.0]


class _Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "hostile",
    [
        _Calls(os.system, "touch {there}"),
        _Calls(builtins.eval, "open('{there}', 'w')"),
        _Calls(builtins.open, "{there}", "w"),
        _Calls(getattr, "{there}", "join"),
        _Calls(np.load, "{there}"),
        _Calls(functools.partial, print),
        _Calls(np.ndarray, (10**9,)),
        collections.OrderedDict(a=1),
        _Calls(np.dtype, [("a", "f8")]),
        np.array([_Calls(os.system, "touch {there}")], object),
        np.zeros(2, [("a", "f8")]),
    ],
    ids=str,
)
def test_what_is_not_plain_data_is_refused_and_never_run(
    tmp_path: Path, hostile: Any, protocol: int
) -> None:
    there = tmp_path / "there"
    path = tmp_path / "index.p"
    if isinstance(hostile, _Calls):
        function, arguments = hostile.call
        filled = [each.format(there=there) if isinstance(each, str) else each for each in arguments]
        hostile = _Calls(function, *filled)
    path.write_bytes(pickle.dumps({"imgs": hostile}, protocol))
    with pytest.raises(UserError, match=r"index\.p' is (refused|not a whole)") as caught:
        as_array(load_plain(path)["imgs"])
    assert caught.value.exit_code == 4
    assert not there.exists()


def test_what_may_be_called_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "index.p"
    for state in (b"}U\x05_makeK\x01s", b"N}U\x05_makeK\x01s\x86"):
        path.write_bytes(b"\x80\x02cnumpy\ndtype\n" + state + b"b.")
        with pytest.raises(UserError, match="changes what it should only call"):
            load_plain(path)


def test_an_array_that_says_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps(np.zeros(4, np.uint8), 2)
    assert data.count(b"K\x04") == 1
    path = tmp_path / "index.p"
    path.write_bytes(data.replace(b"K\x04", b"J\xff\xff\xff\x7f"))
    loaded = load_plain(path)
    with pytest.raises(Exception, match="another size than it says"):
        as_array(loaded)


def test_every_cut_of_a_pickle_is_an_error_in_words(tmp_path: Path) -> None:
    data = pickle.dumps(VALUES, 2)
    path = tmp_path / "index.p"
    for length in range(0, len(data) - 1, 37):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"is (not a whole|refused)") as caught:
            load_plain(path)
        assert "to fix" in caught.value.details
