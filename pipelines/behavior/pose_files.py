"""Poses that a user names: files, files beside a picture or a video, videos of prepared data.

The forms are listed in config.POSE_FORMATS. Everything is checked here, so that a sequence from
here has the model's joints, in its unit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.behavior.poses import FIGURES
from pipelines.datasets.h36m_camera import Camera
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.io.packed import PackedVideos, find_variant

ARRAY_NAMES = ("joints_world_m", "joints_h36m", "joints", "poses", "keypoints")
POSE_SUFFIXES = (".npz", ".npy", ".json", ".csv")
_NOT_READ_HERE = {
    ".h5": "i2v extract-frames h36m --preset h36m_poses, then name a video: h36m:S9/...",
    ".cdf": "i2v extract-frames h36m --preset h36m_poses, then name a video: h36m:S9/...",
    ".p": "i2v extract-frames deepfashion, then name an image: deepfashion:...",
}
_THIGH_M, _SIDES, _STRETCH = (0.1, 0.9), 1.8, 0.15
_MOST_OFF_PICTURE = 4.0

_AT = re.compile(r"^(?P<place>.+)@(?P<frame>\d+)$")
_REFERENCE = re.compile(r"^(?P<dataset>[A-Za-z][\w-]*):(?P<video>.+)$")


@dataclass(frozen=True)
class Poses:
    """A sequence of poses. joints: float64 T J A, metres (A 3) or fractions of a picture (A 2).

    name: for file names.  fps: None where unknown.  camera: that saw them, where it is known.
    picture: of the video they belong to, a file.
    """

    name: str
    joints: np.ndarray
    fps: float | None = None
    camera: Camera | None = None
    picture: Path | None = None

    def at_fps(self, fps: float | None) -> Poses:
        """As many poses per second as a model was trained with; between two poses on a line."""
        if fps is None or self.fps is None or abs(fps - self.fps) < 1e-3 or len(self.joints) < 2:
            return self
        num = int((len(self.joints) - 1) * fps / self.fps) + 1
        times = np.arange(num) * self.fps / fps
        before = np.minimum(times.astype(int), len(self.joints) - 2)
        share = (times - before)[:, None, None]
        joints = self.joints[before] * (1 - share) + self.joints[before + 1] * share
        return replace(self, joints=joints, fps=fps)


@dataclass(frozen=True)
class Wanted:
    """The poses that a model takes. array: as prepared data calls them."""

    num_joints: int
    num_axes: int
    array: str

    @property
    def unit(self) -> str:
        """In words."""
        return "metres" if self.num_axes == 3 else "fractions of the picture"


def read_poses(text: str, wanted: Wanted, data_root: Path, *, min_frames: int = 1) -> Poses:
    """The poses that a text names. Raises UserError, saying what is wrong with them."""
    marked = _AT.match(text)
    place = marked["place"] if marked and not Path(text).exists() else text
    first = int(marked["frame"]) if marked and place != text else 0
    path = Path(place).expanduser()
    reference = _REFERENCE.match(place)
    if path.exists() or reference is None:
        found = _from_file(path, wanted)
    else:
        found = _from_data(reference["dataset"], reference["video"], wanted, data_root)
    if first >= len(found.joints):
        raise UserError(
            f"'{place}' has {len(found.joints)} poses, none at {first}",
            {"asked for": text, "to fix": f"start at @{len(found.joints) - 1} or earlier"},
            EXIT_USAGE,
        )
    found = replace(found, joints=found.joints[first:])
    check_poses(found.joints, wanted, place)
    if len(found.joints) < min_frames:
        raise too_few(place, len(found.joints), min_frames)
    return found


def too_few(place: str, found: int, needed: int) -> UserError:
    """The error of a sequence that is too short for a model."""
    return UserError(
        f"'{place}' has {found} poses, the model needs {needed}",
        {"to fix": "give a longer sequence, or start earlier in it"},
        EXIT_NO_DATA,
    )


def check_poses(joints: np.ndarray, wanted: Wanted, place: object) -> None:
    """Raise UserError unless joints, T J A, are poses of the wanted skeleton and unit."""
    missing = ~np.isfinite(joints).all(axis=2)
    if missing.any():
        frame, joint = np.argwhere(missing)[0]
        raise UserError(
            f"poses in '{place}' have missing joints (not finite)",
            {
                "first": f"joint {joint} in frame {frame}; {missing.sum()} in all",
                "to fix": "fill them in, or start behind them with @N",
            },
            EXIT_NO_DATA,
        )
    if wanted.num_axes == 2:
        _check_fractions(joints, place)
    else:
        _check_metres(joints, place)


def _check_fractions(joints: np.ndarray, place: object) -> None:
    if np.median(np.abs(joints)) > _MOST_OFF_PICTURE:
        raise UserError(
            f"poses in '{place}' are not fractions of the picture",
            {
                "they go up to": f"{np.abs(joints).max():.0f}, which looks like pixels",
                "to fix": "divide x by the picture's width and y by its height",
            },
            EXIT_NO_DATA,
        )


def _check_metres(joints: np.ndarray, place: object) -> None:
    figure = FIGURES.get(joints.shape[1])
    if figure is None:
        return

    def lengths(line: tuple[int, int]) -> np.ndarray:
        return np.asarray(np.linalg.norm(joints[:, line[0]] - joints[:, line[1]], axis=1))

    limbs = [(lengths(right), lengths(left)) for right, left in figure.limbs]
    pairs = [(float(np.median(right)), float(np.median(left))) for right, left in limbs]
    thigh = max(pairs[0])
    if thigh > 50 * _THIGH_M[1]:
        raise UserError(
            f"poses in '{place}' are not in metres",
            {
                "a thigh is": f"{thigh:.0f} long, which looks like millimetres",
                "to fix": 'divide by 1000, or write "unit": "mm" into a JSON file',
            },
            EXIT_NO_DATA,
        )
    if not _THIGH_M[0] <= thigh <= _THIGH_M[1]:
        raise _other_skeleton(place, f"what should be a thigh is {thigh:.2f} m long")
    for right, left in pairs:
        if max(right, left) > _SIDES * min(right, left):
            raise _other_skeleton(
                place, f"a right limb is {right:.2f} m long, the left one {left:.2f} m"
            )
    grows = max(float(each.std() / each.mean()) for pair in limbs for each in pair)
    if grows > _STRETCH:
        raise _other_skeleton(place, f"what should be a limb changes its length by {grows:.0%}")


def _other_skeleton(place: object, reason: str) -> UserError:
    return UserError(
        f"poses in '{place}' are of another skeleton, or their joints in another order",
        {"reason": reason, "to fix": "put the joints in the order of: i2v transfer --help"},
        EXIT_NO_DATA,
    )


def _from_file(path: Path, wanted: Wanted) -> Poses:
    suffix = path.suffix.lower()
    if suffix in _NOT_READ_HERE and path.is_file():
        raise UserError(
            f"'{path.name}' is prepared before its poses are used",
            {"file": path, "run first": _NOT_READ_HERE[suffix]},
            EXIT_USAGE,
        )
    picture = None
    if suffix not in POSE_SUFFIXES:
        picture, path = path, _beside(path)
    if not path.is_file():
        raise UserError(
            f"there are no poses '{path}'",
            {"to fix": "give a file, or a video of prepared data such as h36m:S9/Walking-1/..."},
            EXIT_NO_DATA,
        )
    try:
        found = _READERS[path.suffix.lower()](path, wanted)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UserError(
            f"the poses in '{path.name}' cannot be read",
            {
                "file": path,
                "reason": str(error).splitlines()[0] if str(error) else type(error).__name__,
                "to fix": "see the forms of pose files in: i2v transfer --help",
            },
            EXIT_NO_DATA,
        ) from error
    joints = _shaped(np.asarray(found["joints"]), wanted, path)
    unit = {"m": 1.0, "mm": 1e-3, "cm": 1e-2, None: 1.0}.get(found.get("unit"))
    if unit is None:
        raise UserError(
            f"the poses in '{path.name}' have the unit '{found['unit']}'",
            {"file": path, "to fix": "give m, cm or mm"},
            EXIT_NO_DATA,
        )
    fps = found.get("fps")
    return Poses(path.stem, joints * unit, float(fps) if fps else None, None, picture)


def _beside(picture: Path) -> Path:
    """The pose file of a picture or a video."""
    there = [picture.with_suffix(suffix) for suffix in POSE_SUFFIXES]
    found = next((path for path in there if path.is_file()), None)
    if found is not None:
        return found
    raise UserError(
        f"there are no poses for '{picture.name}'",
        {
            "looked for": ", ".join(path.name for path in there),
            "to fix": "i2v does not estimate poses: put a file of them beside it, or name a video "
            "of prepared data",
        },
        EXIT_NO_DATA,
    )


def _npz(path: Path, wanted: Wanted) -> Mapping[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        names = [wanted.array, *ARRAY_NAMES]
        name = next((each for each in names if each in arrays.files), None)
        if name is None:
            raise ValueError(f"it has {', '.join(arrays.files)}, none of {', '.join(names)}")
        fps = float(arrays["fps"]) if "fps" in arrays.files else None
        return {"joints": arrays[name], "fps": fps}


def _npy(path: Path, wanted: Wanted) -> Mapping[str, Any]:
    return {"joints": np.load(path, allow_pickle=False)}


def _json(path: Path, wanted: Wanted) -> Mapping[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):
        content = {"joints": content}
    if not isinstance(content, dict) or "joints" not in content:
        raise ValueError('it has no list "joints"')
    joints = np.array(content["joints"], dtype=np.float64)  # null becomes nan
    return {"joints": joints, "fps": content.get("fps"), "unit": content.get("unit")}


def _csv(path: Path, wanted: Wanted) -> Mapping[str, Any]:
    return {"joints": np.loadtxt(path, delimiter=",", ndmin=2, comments="#")}


_READERS = {".npz": _npz, ".npy": _npy, ".json": _json, ".csv": _csv}


def _shaped(values: np.ndarray, wanted: Wanted, place: object) -> np.ndarray:
    """As float64 T J A; one pose alone is a sequence of one."""
    if values.dtype.kind not in "iuf":
        raise UserError(
            f"poses in '{place}' are no numbers", {"they are": values.dtype}, EXIT_NO_DATA
        )
    shape = (wanted.num_joints, wanted.num_axes)
    size = wanted.num_joints * wanted.num_axes
    is_grid = values.ndim in (2, 3) and values.shape[-2:] == shape
    if is_grid or (values.ndim in (1, 2) and values.shape[-1] == size):
        values = values.reshape(-1, *shape)
    else:
        is_count = values.ndim >= 2 and values.shape[-1] == wanted.num_axes
        what = f"{values.shape[-2]} joints" if is_count else f"the shape {values.shape}"
        raise UserError(
            f"poses in '{place}' have {what}; the model takes {shape[0]} joints of {shape[1]} axes",
            {
                "unit": wanted.unit,
                "to fix": "give the skeleton that the model was trained on; see: "
                "i2v transfer --help",
            },
            EXIT_NO_DATA,
        )
    if not len(values):
        raise UserError(f"there are no poses in '{place}'", {}, EXIT_NO_DATA)
    return values.astype(np.float64)


def _from_data(dataset: str, video: str, wanted: Wanted, data_root: Path) -> Poses:
    variant = None
    if "#" in dataset:
        dataset, variant = dataset.split("#", 1)
    videos = PackedVideos(_variant_with(wanted.array, data_root, dataset, variant))
    matching = [number for number, each in enumerate(videos.ids) if each == video]
    if not matching:
        near = [each for each in videos.ids if each.startswith(video.split("/")[0])][:3]
        raise UserError(
            f"no video '{video}' in the prepared data of '{dataset}'",
            {
                "looked in": videos.dir,
                "there are": ", ".join(near or videos.ids[:3]) + ", ...",
                "to see all": f"i2v data info {dataset}",
            },
            EXIT_NO_DATA,
        )
    row = videos.rows[matching[0]]
    if row.extra.get(wanted.array, -1) < 0:
        raise _no_array(videos.dir, video, wanted)
    joints = videos.extra(wanted.array)(matching[0], 0, row.num_frames)
    shaped = _shaped(joints, wanted, f"{dataset}:{video}")
    return Poses(video.replace("/", "-"), shaped, row.fps, camera_of(row.labels, row.original_size))


def _variant_with(array: str, data_root: Path, dataset: str, variant: str | None) -> Path:
    """The variant of that name, or the first one that has the array."""
    prepared = data_root / dataset / "prepared"
    for index in sorted(prepared.glob("*/index.json")) if variant is None else ():
        if array in PackedVideos(index.parent).extra_names:
            return index.parent
    return find_variant(data_root, dataset, variant)


def camera_of(labels: Mapping[str, Any], original_size: Sequence[int]) -> Camera | None:
    """The camera that a video's labels tell of."""
    if "extrinsics" not in labels or "intrinsics" not in labels:
        return None
    width, height = labels.get("image_size", original_size)
    return Camera(
        np.array(labels["extrinsics"], np.float64),
        np.array(labels["intrinsics"], np.float64),
        (int(width), int(height)),
    )


def _no_array(folder: Path, video: str, wanted: Wanted) -> UserError:
    return UserError(
        f"'{video}' has no poses '{wanted.array}'",
        {"looked in": folder, "to fix": "name a video with poses, such as of h36m or walker_3d"},
        EXIT_NO_DATA,
    )
