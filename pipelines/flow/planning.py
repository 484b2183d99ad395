"""What is to be estimated: which videos and lags, at which sizes, and whether that can be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.files import fingerprint
from pipelines.flow.config import FALLBACK_LAGS, PUBLISHED, EstimateRequest, sizes_of
from pipelines.flow.estimators import weights_hash
from pipelines.flow.exchange import files_state
from pipelines.io.flow_pack import FLOW_VERSION
from pipelines.io.packed import PackedVideos, find_variant


@dataclass(frozen=True)
class Selection:
    """What a request comes to.

    packed: the variant that gets the flow.  frames: the variant whose frames are looked at, often
    the same; frame_rows: its row for each row of packed.
    """

    packed: PackedVideos
    frames: PackedVideos
    frame_rows: tuple[int, ...]
    lags: tuple[int, ...]
    input_size_px: int
    flow_size_px: int

    def plan(self, request: EstimateRequest, lag: int) -> dict[str, Any]:
        """What the flow of a lag is made from; equal plans give equal bytes."""
        return {
            "version": FLOW_VERSION,
            "lag": lag,
            "settings": {
                **request.settings(),
                "input_size_px": self.input_size_px,
                "flow_size_px": self.flow_size_px,
                "weights_sha256": weights_hash(request),
            },
            "inputs": _inputs(request, self.frames),
        }


def select(request: EstimateRequest, work: Work) -> Selection:
    """Find the variant and decide lags and sizes.

    Raises UserError: exit code 4 where frames are missing, 2 where a lag cannot be had.
    """
    packed = PackedVideos(_variant(request))
    frames, rows = _frames(request, packed)
    if request.estimator != "files":
        check_frames(frames, request.name)
    lags = choose_lags(request, packed, work)
    sizes = sizes_of(request.estimator)
    return Selection(
        packed,
        frames,
        rows,
        lags,
        request.input_size_px or sizes.nearest(frames.size_px),
        request.flow_size_px or packed.size_px,
    )


def choose_lags(request: EstimateRequest, packed: PackedVideos, work: Work) -> tuple[int, ...]:
    """The lags that are asked for, else those the dataset asks for; ascending.

    A dataset asks for those whose true motion it has, or for those its published preparation has.
    Raises UserError with exit code 2 for a lag that is longer than every video.
    """
    longest = int(packed.num_frames.max())
    published = PUBLISHED.get(str(packed.index.get("kind")))
    usual = tuple(packed.flow_lags) or (published.lags if published else FALLBACK_LAGS)
    wanted = request.lags or tuple(lag for lag in usual if lag < longest) or usual[:1]
    if max(wanted) >= longest:
        video = packed.ids[int(packed.num_frames.argmax())]
        raise UserError(
            f"no video of '{request.name}' has two frames that are {max(wanted)} apart",
            {
                "longest video": f"{video}, {longest} frames",
                "to fix": f"give --lags of at most {longest - 1}, or extract longer videos",
            },
            EXIT_USAGE,
        )
    for lag in wanted:
        short = int((packed.num_frames <= lag).sum())
        if short:
            work.warning(
                f"{short:,} of {len(packed):,} videos have no more than {lag} frames:"
                f" no flow of lag {lag} for them"
            )
    return wanted


def check_frames(packed: PackedVideos, name: str) -> None:
    """Raise UserError (exit code 4) where a file of frames is missing or too short."""
    files: Mapping[str, Any] = packed.index["files"]
    for file_name, expected in files.items():
        path = packed.dir / file_name
        if not file_name.startswith("frames-"):
            continue
        there = path.stat().st_size if path.is_file() else 0
        if there < expected["bytes"]:
            raise UserError(
                f"frames of '{name}' are missing",
                {
                    "file": path,
                    "video": _first_lost(packed, file_name, there),
                    "has": f"{there:,} of {expected['bytes']:,} bytes",
                    "to fix": "i2v extract-frames with the options used before, and --rebuild",
                },
                EXIT_NO_DATA,
            )


def changes(
    old: Mapping[str, Any], new: Mapping[str, Any], *, lag: int, name: str
) -> UserError | None:
    """The error when flow was made with other settings, None when they are the same."""
    before, now = old["settings"], new["settings"]
    changed = [
        f"{key}: {before.get(key)} before, {value} now"
        for key, value in now.items()
        if before.get(key) != value
    ]
    if not changed:
        return None
    return UserError(
        f"the flow '{name}' of lag {lag} was made with other settings",
        {
            **{f"changed {number}": text for number, text in enumerate(changed, 1)},
            "to fix": "give it another name, --name NAME, or --rebuild to replace it",
        },
        EXIT_USAGE,
    )


def _variant(request: EstimateRequest) -> Path:
    return find_variant(
        request.data_root, request.name, request.variant, to_choose="--variant {name}"
    )


def _frames(request: EstimateRequest, packed: PackedVideos) -> tuple[PackedVideos, tuple[int, ...]]:
    if request.frames_of is None or request.frames_of == packed.dir.name:
        return packed, tuple(range(len(packed)))
    other = PackedVideos(find_variant(request.data_root, request.name, request.frames_of))
    row_of = {video: row for row, video in enumerate(other.ids)}
    rows = []
    for row, video in enumerate(packed.ids):
        there = int(other.num_frames[row_of[video]]) if video in row_of else 0
        if there != packed.num_frames[row]:
            raise UserError(
                f"video '{video}' is not the same in both variants",
                {
                    packed.dir.name: f"{packed.num_frames[row]} frames",
                    other.dir.name: f"{there} frames" if there else "not there",
                    "to fix": "extract both with the same options, all but --size",
                },
                EXIT_NO_DATA,
            )
        rows.append(row_of[video])
    return other, tuple(rows)


def _inputs(request: EstimateRequest, frames: PackedVideos) -> str:
    """A short hash of what is looked at."""
    if request.estimator == "files":
        assert request.files_dir is not None
        return files_state(request.files_dir, frames)
    files: Mapping[str, Any] = frames.index["files"]
    known = {name: file for name, file in files.items() if name.startswith("frames-")}
    return fingerprint([known, frames.ids])


def _first_lost(packed: PackedVideos, file_name: str, num_bytes: int) -> str:
    """The first video whose frames lie beyond the end of a file, and its first lost frame."""
    frame_bytes = packed.size_px**2 * packed.channels
    for row in packed.rows:
        lost = num_bytes // frame_bytes - row.offset
        is_here = file_name == f"frames-{row.shard:03d}.u8"
        if is_here and lost < row.num_frames:
            return f"{row.id}, from frame {max(0, lost)} of {row.num_frames}"
    return "see i2v data verify"


def lags_in_words(lags: Sequence[int]) -> str:
    """'lag 10' or 'lags 5, 10'."""
    return f"lag{'s' if len(lags) > 1 else ''} {', '.join(map(str, lags))}"


def folder_of(variant_dir: Path, name: str) -> Path:
    """The folder that holds one folder per lag."""
    return variant_dir / "flow" / name
