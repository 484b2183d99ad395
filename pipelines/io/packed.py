"""Reading prepared videos: raw uint8 frames in memory-mapped files, one row per video.

A variant folder holds
  index.json       what was prepared, how, and the SHA-256 of every data file
  videos.jsonl     one row per video (VideoRow)
  rows.npz         the same numbers as arrays, so that a large index opens at once
  frames-000.u8 .. [n H W C] in C order; the frames of a video lie together in one file
  frames-000.jpegs, frames-000.ends.i64 ..  instead, where frames are kept as JPEG: one after
                   another, and where each ends;  neither, where only extra arrays are kept
  flow_truth-<lag>-000.i16 ..  [n 2 H W], 1/64 pixel, where the true motion is known
  flow/<name>/lag-<lag>/ ..  estimated motion, see pipelines.io.flow_pack
  extra/<name>.npy per-frame arrays of the videos that have them
  rejected.jsonl   what was left out and why;  done.json  what the variant was made from
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from pydantic import JsonValue

from pipelines.datasets.base import SPLITS
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.files import natural_key, read_json
from pipelines.io.flow_pack import EstimatedFlow, FlowPack, decode_flow, flow_names
from pipelines.io.jpeg_frames import JpegFrames

FORMAT = "i2v-packed"
FORMAT_VERSIONS = {"raw": 1, "jpeg": 2, "none": 2}
"""By how the frames are kept: older programs read raw frames as well."""


@dataclass(frozen=True, slots=True)
class VideoRow:
    """One prepared video.

    source: where it came from, relative to the raw folder.  offset: first frame within the shard.
    fps: of the prepared frames, None if unknown.  original_size: width, height in pixels.
    crc32: of the frames' bytes.  flow: lag -> (shard, offset, number of frames that have it).
    extra: name -> first entry in extra/<name>.npy.
    """

    id: str
    source: str
    group: str
    split: str
    num_frames: int
    shard: int
    offset: int
    fps: float | None
    original_size: tuple[int, int]
    labels: Mapping[str, JsonValue]
    crc32: int
    flow: Mapping[int, tuple[int, int, int]]
    extra: Mapping[str, int]


class PackedVideos:
    """A prepared variant, opened for reading; cheap to open, safe to hand to other processes.

    index: the content of index.json.  num_frames: frames of each row (int64 array).
    ids: the id of each row.
    """

    def __init__(self, variant_dir: Path) -> None:
        """Raises UserError with exit code 4 when the folder is not a complete variant."""
        self.dir = Path(variant_dir)
        self.index: dict[str, Any] = _read_index(self.dir)
        self.size_px: int = self.index["size_px"]
        self.channels: int = self.index["channels"]
        self.storage: str = self.index.get("storage", "raw")
        with np.load(self.dir / "rows.npz", allow_pickle=False) as columns:
            self._columns = {name: columns[name] for name in columns.files}
        self.num_frames = self._columns["num_frames"]
        text = self._columns.pop("ids").tobytes().decode("utf-8")
        self.ids: list[str] = text.split("\n") if text else []
        self._maps: dict[str, np.ndarray] = {}
        self._estimates: dict[str, EstimatedFlow] = {}

    def __len__(self) -> int:
        return len(self.num_frames)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files: each process maps them for itself."""
        kept = {name: value for name, value in self.__dict__.items() if name != "rows"}
        return kept | {"_maps": {}}

    @cached_property
    def rows(self) -> Sequence[VideoRow]:
        """Everything known about each video, each row read when it is asked for."""
        return _Rows(self.dir / "videos.jsonl")

    @property
    def flow_lags(self) -> list[int]:
        """Lags, in prepared frames, for which some video has its true motion."""
        return [int(lag) for lag in self.index["flow_truth"]]

    @property
    def flow_names(self) -> list[str]:
        """Names of the estimates of its motion, such as 'dis'."""
        return flow_names(self.dir)

    def estimated_lags(self, name: str) -> list[int]:
        """Lags, in prepared frames, that are estimated under a name."""
        return self.flow_source(name).lags

    def estimated(self, name: str, lag: int) -> FlowPack:
        """The estimate of a name and a lag: flow, reliability, statistics.

        Raises UserError with exit code 4 when there is none.
        """
        return self.flow_source(name).of_lag(lag)

    def flow_source(self, name: str) -> EstimatedFlow:
        """All that is estimated under a name."""
        if name not in self._estimates:
            self._estimates[name] = EstimatedFlow(self.dir, str(self.index["dataset"]), name)
        return self._estimates[name]

    @property
    def extra_names(self) -> list[str]:
        """Names of per-frame arrays that some video has."""
        return list(self.index["extra"])

    def select(
        self, split: str | None = None, include: Sequence[str] = ("*",), min_frames: int = 1
    ) -> list[int]:
        """Indices of rows in a split whose id fits one of the patterns and that are long enough.

        include: patterns such as 'clouds/*', where * stands for any characters, also slashes.
        """
        chosen = self.num_frames >= min_frames
        if split is not None:
            chosen &= self._columns["split"] == SPLITS.index(split)
        fits = re.compile("|".join(translate(pattern) for pattern in include)).match
        return [int(row) for row in np.flatnonzero(chosen) if fits(self.ids[row])]

    def frames(self, row: int, start: int, count: int) -> np.ndarray:
        """Frames start ... start + count - 1 of a video: uint8 [count H W C], a copy.

        Raises UserError (exit code 4) when the variant holds no frames.
        """
        self._check(row, start, count, int(self.num_frames[row]))
        if self.storage == "none":
            raise _no_frames(self.dir)
        shape = (self.size_px, self.size_px, self.channels)
        if self.storage == "jpeg":
            if not count:
                return np.empty((0, *shape), np.uint8)
            return self._jpegs(row).part(start, count).decoded(self.channels)
        shard = self._map(self._frames_file(row), np.uint8, shape)
        first = int(self._columns["offset"][row]) + start
        return shard[first : first + count].copy()

    def stored_frames(self, row: int) -> np.ndarray:
        """The frames of a video as the bytes that lie on the disk, uint8, flat; a view.

        What VideoRow.crc32 is of.
        """
        if self.storage == "none":
            return np.empty(0, np.uint8)
        if self.storage == "jpeg":
            return self._jpegs(row).data
        shape = (self.size_px, self.size_px, self.channels)
        first, count = int(self._columns["offset"][row]), int(self.num_frames[row])
        shard = self._map(self._frames_file(row), np.uint8, shape)
        return shard[first : first + count].reshape(-1)

    def _frames_file(self, row: int) -> str:
        suffix = "jpegs" if self.storage == "jpeg" else "u8"
        return f"frames-{self._columns['shard'][row]:03d}.{suffix}"

    def _jpegs(self, row: int) -> JpegFrames:
        """All frames of a video."""
        shard = JpegFrames(
            self._map(self._frames_file(row), np.uint8, ()),
            self._map(f"frames-{self._columns['shard'][row]:03d}.ends.i64", np.int64, ()),
        )
        return shard.part(int(self._columns["offset"][row]), int(self.num_frames[row]))

    def flow(
        self, lag: int, row: int, start: int, count: int = 1, *, estimator: str | None = None
    ) -> np.ndarray:
        """Motion from frames start, ... to the frames `lag` later: float32 [count 2 H W].

        Pixels, channel 0 x (right), channel 1 y (down), nan where it is not known. estimator: the
        name of an estimate, whose size may be another than the frames'; None: the true motion.
        Raises KeyError (true motion) or UserError (an estimate) when nothing is stored for this
        lag, IndexError where this video has none.
        """
        if estimator is not None:
            return self.flow_source(estimator).flow(lag, row, start, count)
        shards, offsets, counts = (
            self._columns[f"flow_{lag}_{name}"] for name in ("shard", "offset", "count")
        )
        self._check(row, start, count, int(counts[row]))
        name = f"flow_truth-{lag}-{shards[row]:03d}.i16"
        stored = self._map(name, np.int16, (2, self.size_px, self.size_px))
        first = int(offsets[row]) + start
        return decode_flow(stored[first : first + count])

    def extra(self, name: str) -> Callable[[int, int, int], np.ndarray]:
        """A function (row, start, count) that gives the entries of a per-frame array, a copy.

        Raises KeyError for an unknown name; the function raises IndexError for a video without it.
        """
        offsets = self._columns[f"extra_{name}"]

        def entries(row: int, start: int, count: int) -> np.ndarray:
            has_it = offsets[row] >= 0
            self._check(row, start, count, int(self.num_frames[row]) if has_it else 0)
            if name not in self._maps:
                self._maps[name] = np.load(self.dir / "extra" / f"{name}.npy", mmap_mode="r")
            first = int(offsets[row]) + start
            return np.array(self._maps[name][first : first + count])

        return entries

    def _map(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self._maps:
            mapped = np.memmap(self.dir / name, dtype, "r")
            self._maps[name] = np.asarray(mapped).reshape(-1, *shape)
        return self._maps[name]

    def _check(self, row: int, start: int, count: int, available: int) -> None:
        if start < 0 or count < 0 or start + count > available:
            raise IndexError(
                f"{self.ids[row]}: {count} frames from frame {start} on, of {available}"
            )


def find_variant(
    data_root: Path,
    dataset: str,
    variant: str | None = None,
    *,
    to_choose: str = "data.variant={name}",
) -> Path:
    """The folder of a prepared variant; the only one when `variant` is None.

    to_choose: how the user names one, by its {name} or the {path} of its folder.
    Raises UserError: exit code 4 when there is none, 2 when several could be meant.
    """
    prepared = data_root / dataset / "prepared"
    there = variant_names(prepared)
    if variant is None and len(there) == 1:
        return prepared / there[0]
    if variant is None and there:
        example = to_choose.format(name=there[0], path=prepared / there[0])
        raise UserError(
            f"dataset '{dataset}' is prepared in several variants",
            {"variants": ", ".join(there), "to fix": f"name one, such as {example}"},
            EXIT_USAGE,
        )
    if variant in there:
        return prepared / str(variant)
    half_done = [path.name for path in prepared.glob("*.tmp")]
    details: dict[str, object] = {"looked in": prepared / variant if variant else prepared}
    if there:
        details["there is"] = ", ".join(there)
    if half_done:
        details["unfinished"] = ", ".join(name.removesuffix(".tmp") for name in half_done)
    what = f"variant '{variant}' of dataset" if there else "frames for dataset"
    details["run first"] = f"i2v extract-frames {dataset}"
    raise UserError(f"no {what} '{dataset}'", details, EXIT_NO_DATA)


def variant_names(prepared: Path) -> list[str]:
    """Names of the complete variants in a folder `prepared`, in natural order."""
    found = [path.parent.name for path in prepared.glob("*/index.json")]
    whole = (name for name in found if not name.endswith(".tmp") and not name.startswith("."))
    return sorted(whole, key=natural_key)


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = read_json(folder / "index.json")
    except FileNotFoundError:
        raise UserError(
            "no prepared frames here",
            {"looked in": folder, "run first": "i2v extract-frames"},
            EXIT_NO_DATA,
        ) from None
    known = FORMAT_VERSIONS.get(index.get("storage", "raw"))
    if index.get("format") != FORMAT or index.get("version") != known:
        raise UserError(
            "prepared frames of a format that this version does not read",
            {
                "folder": folder,
                "format": f"{index.get('format')} {index.get('version')}",
                "to fix": "prepare them again with i2v extract-frames --rebuild",
            },
            EXIT_NO_DATA,
        )
    return dict(index)


def _no_frames(folder: Path) -> UserError:
    return UserError(
        f"variant '{folder.name}' holds no frames, only what lies beside them",
        {
            "folder": folder,
            "run first": f"i2v extract-frames {folder.parent.parent.name}, without --storage none",
        },
        EXIT_NO_DATA,
    )


class _Rows(Sequence[VideoRow]):
    """The rows of a file with one JSON object per line; reading one costs one."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        breaks = np.flatnonzero(np.frombuffer(self._data, np.uint8) == ord("\n"))
        self._starts = np.r_[0, breaks + 1]

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, row: int) -> VideoRow: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[VideoRow]: ...

    def __getitem__(self, row: int | slice) -> VideoRow | Sequence[VideoRow]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        number = range(len(self))[row]
        return _row(json.loads(self._data[self._starts[number] : self._starts[number + 1]]))


def _row(values: dict[str, Any]) -> VideoRow:
    values["original_size"] = tuple(values["original_size"])
    values["flow"] = {int(lag): tuple(place) for lag, place in values["flow"].items()}
    return VideoRow(**values)
