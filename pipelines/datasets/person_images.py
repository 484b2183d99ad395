"""Collections of single images of people with 18 joints each, listed in a file index.p.

index.p is a pickle of a dictionary: `imgs` paths relative to its folder, `joints` (n, 18, 2)
fractions of width and height (negative: not seen), `train` whether an image is for training. An
image becomes a video of one frame, with its joints beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.base import Published, RawVideo, Rejected, Track
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.io.names import NameRefused, safe_parts
from pipelines.io.plain_pickle import Refused, as_array, load_plain

INDEX = "index.p"
NUM_JOINTS = 18

PUBLISHED = {"official": Published("the index says which images are for testing")}


@dataclass(frozen=True)
class Collection:
    """What differs between the collections.

    name: of the dataset, of its folder, and of the joints' array (joints_<name>).
    body: the joints without which an image is of no use: hips and shoulders.
    """

    name: str
    body: tuple[int, ...]


@dataclass(frozen=True)
class ImageJoints:
    """The joints of one image. joints: float32 18 2, fractions, negative where not seen."""

    index_path: Path
    name: str
    joints: np.ndarray

    @property
    def files(self) -> tuple[Path, ...]:
        """The index."""
        return (self.index_path,)

    def read(self) -> Track:
        """The joints as the only entry."""
        return Track(1, {f"joints_{self.name}": self.joints[None]})


def list_images(raw: Path, collection: Collection) -> Iterator[RawVideo | Rejected]:
    """The images of the index in its order, each of the split that it says.

    Raises UserError (exit code 4) when there is no index or it is not as it should be.
    """
    index_path = _find_index(raw, collection.name)
    names, joints, is_train = read_index(index_path)
    has_body: np.ndarray = np.all(joints[:, collection.body] >= 0, axis=(1, 2))
    seen: set[str] = set()
    for number, name in enumerate(names):
        rejected = _problem(index_path, name, bool(has_body[number]), seen)
        if rejected:
            yield rejected
            continue
        path = index_path.parent / name
        video_id = Path(name).with_suffix("").as_posix()
        yield RawVideo(
            id=video_id,
            path=path,
            kind="image",
            group=video_id,
            splits={"official": "train" if is_train[number] else "test"},
            tracks=ImageJoints(index_path, collection.name, joints[number]),
        )


def read_index(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Image paths, joints float32 n 18 2, and whether each is for training (bool n).

    Raises UserError (exit code 4) when the file is refused, damaged or of another form.
    """
    index = load_plain(path)
    if not isinstance(index, dict):
        raise _wrong(path, f"it holds a {type(index).__name__}, not a dictionary")
    missing = [name for name in ("imgs", "joints", "train") if name not in index]
    if missing:
        raise _wrong(path, f"it has no {', '.join(missing)}")
    names = _texts(path, index["imgs"])
    joints = _array(path, index, "joints")
    is_train = _array(path, index, "train")
    if joints.shape != (len(names), NUM_JOINTS, 2) or joints.dtype.kind not in "iuf":
        told = f"{joints.dtype} {joints.shape}"
        raise _wrong(path, f"joints are {told}, not numbers ({len(names)}, {NUM_JOINTS}, 2)")
    if not np.isfinite(joints).all():
        raise _wrong(path, "joints are not finite")
    if is_train.shape != (len(names),) or not np.isin(is_train, (0, 1)).all():
        raise _wrong(path, f"train has the shape {is_train.shape}, not one yes or no per image")
    return names, joints.astype(np.float32), is_train.astype(bool)


def _find_index(raw: Path, name: str) -> Path:
    for path in (raw / name / INDEX, raw / INDEX):
        if path.is_file():
            return path
    raise UserError(
        f"no images of '{name}'",
        {
            "looked for": raw / name / INDEX,
            "run first": f"i2v download {name}",
        },
        EXIT_NO_DATA,
    )


def _problem(index_path: Path, name: str, has_body: bool, seen: set[str]) -> Rejected | None:
    """Why an image cannot be used, if so."""
    shown = name.encode("unicode_escape").decode()[:200]
    video_id = Path(name).with_suffix("").as_posix()
    try:
        is_safe = bool(safe_parts(name))
    except NameRefused:
        is_safe = False
    if not is_safe:
        return Rejected(shown, shown, "refused", "its path leads out of the folder")
    if video_id in seen:
        return Rejected(shown, shown, "listed twice", "the first entry counts")
    seen.add(video_id)
    if not has_body:
        return Rejected(shown, shown, "no whole body", "hips and shoulders are not all seen")
    if not (index_path.parent / name).is_file():
        return Rejected(shown, shown, "missing", "listed but not there")
    return None


def _texts(path: Path, value: Any) -> list[str]:
    values: Sequence[Any] | np.ndarray | None = value if isinstance(value, list) else None
    if values is None:
        values = _array(path, {"imgs": value}, "imgs").tolist()
    texts = [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in values
    ]
    if not texts or not all(isinstance(each, str) for each in texts):
        raise _wrong(path, "imgs is not a list of paths")
    return texts


def _array(path: Path, index: dict[str, Any], name: str) -> np.ndarray:
    try:
        array = as_array(index[name])
    except Refused as problem:
        raise _wrong(path, f"{name}: {problem}") from None
    if array is None:
        raise _wrong(path, f"{name} is a {type(index[name]).__name__}, not an array")
    return array


def _wrong(path: Path, reason: str) -> UserError:
    return UserError(
        f"'{path.name}' is not the index of a collection of people",
        {
            "path": path,
            "reason": reason,
            "to fix": "unpack its archive again, or download it again if that does not help",
        },
        EXIT_NO_DATA,
    )
