"""Estimated flow for `i2v data`: facts, checks, a sheet of frames with their flow, a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.datasets.config import InspectRequest
from pipelines.events import EXIT_FAILED, EXIT_NO_DATA, UserError, Work
from pipelines.files import sha256
from pipelines.io.flow_colour import flow_colours
from pipelines.io.flow_pack import find_flow, flow_names
from pipelines.io.images import contact_sheet, write_png
from pipelines.io.packed import PackedVideos
from pipelines.io.video import write_mp4

TRUTH = "truth"
"""The name of the true motion, which generated data comes with."""

MAX_VIDEO_FRAMES = 300
_FALLBACK_FPS = 12.0
_MARGIN = 1.001
"""So that rounding does not take the longest flow over the rim of the wheel."""


@dataclass(frozen=True)
class FlowView:
    """Flow to look at. counts: pairs of each video.  flow: (row, start, count) -> [count 2 S S].

    full_px: the length that gets full colour.
    """

    name: str
    lag: int
    counts: Sequence[int]
    flow: Callable[[int, int, int], np.ndarray]
    full_px: float


def preview_flow(packed: PackedVideos, request: InspectRequest, work: Work) -> dict[str, Any]:
    """Write a sheet and, beside it, a video; the result names both.

    Raises UserError with exit code 4 when there is no such flow.
    """
    dataset = str(packed.index["dataset"])
    view = open_flow(packed, dataset, name=request.flow_name, lag=request.lag)
    usable = [row for row, count in enumerate(view.counts) if count]
    places = np.linspace(0, len(usable) - 1, min(request.num_videos, len(usable))).round()
    rows = [usable[int(place)] for place in places]
    name = f"preview-{packed.dir.name}-flow-{view.name}-{view.lag}.png"
    path = request.out_path or packed.dir.parents[1] / name
    write_png(path, flow_sheet(packed, view, rows, request.num_frames))
    video_path = path.with_suffix(".mp4")
    write_mp4(video_path, flow_video(packed, view, rows), _fps(packed, rows))
    for made, kind in ((path, "preview"), (video_path, "video")):
        work.artifact(made, kind)
    return {"path": str(path), "video_path": str(video_path), "lines": [str(video_path)]}


def flow_facts(packed: PackedVideos) -> Iterator[tuple[str, str]]:
    """What is estimated, in words."""
    for name in packed.flow_names:
        for lag in packed.estimated_lags(name):
            pack = packed.estimated(name, lag)
            longest = pack.statistics["max_norm"]
            text = f"to {lag} frames later, {pack.index['num_valid']:,} pairs, {pack.size_px} px"
            yield f"flow by {name}", text + (f", up to {longest:.1f} px" if longest else "")


def check_flow(packed: PackedVideos, name: str, work: Work) -> int:
    """Compare every file of estimated flow with its index; returns how many there are.

    Raises UserError (exit code 1) that names what is not as it was written.
    """
    packs = [
        packed.estimated(each, lag)
        for each in packed.flow_names
        for lag in packed.estimated_lags(each)
    ]
    files = [
        (pack, file, expected) for pack in packs for file, expected in pack.index["files"].items()
    ]
    for number, (pack, file, expected) in enumerate(files, 1):
        path = pack.dir / file
        is_whole = path.is_file() and path.stat().st_size == expected["bytes"]
        if not is_whole or sha256(path) != expected["sha256"]:
            estimator = pack.dir.parent.name
            raise UserError(
                f"estimated flow of '{name}' is damaged",
                {
                    "file": path,
                    "to fix": f"i2v estimate-flow {name} --lags {pack.lag} --rebuild"
                    f" with the options used for '{estimator}'",
                },
                EXIT_FAILED,
            )
        work.progress("verify flow", number, len(files), "files")
    return len(files)


def open_flow(packed: PackedVideos, dataset: str, *, name: str | None, lag: int | None) -> FlowView:
    """The flow of a name and a lag; the only estimate, or the true motion where there is none.

    Raises UserError with exit code 4 when there is no such flow.
    """
    has_choice = name is None and (flow_names(packed.dir) or not packed.flow_lags)
    if name != TRUTH and (name is not None or has_choice):
        pack = find_flow(packed.dir, dataset, name=name, lag=lag)
        full_px = _MARGIN * (pack.statistics["percentiles"].get("90") or 1.0)
        counts = [int(count) for count in pack.counts]
        return FlowView(pack.dir.parent.name, pack.lag, counts, pack.flow, full_px)
    lags = packed.flow_lags
    if not lags or lag not in (None, *lags):
        raise UserError(
            f"no true motion{'' if lag is None else f' to {lag} frames later'} for '{dataset}'",
            {
                "lags": ", ".join(map(str, lags)) or "none",
                "run first": f"i2v estimate-flow {dataset}" + (f" --lags {lag}" if lag else ""),
            },
            EXIT_NO_DATA,
        )
    chosen = lag if lag is not None else lags[0]
    places = [row.flow.get(chosen) for row in packed.rows]
    counts = [place[2] if place else 0 for place in places]

    def flow(row: int, start: int, count: int) -> np.ndarray:
        return packed.flow(chosen, row, start, count)

    return FlowView(TRUTH, chosen, counts, flow, _longest(flow, counts))


def flow_sheet(
    packed: PackedVideos, view: FlowView, rows: Sequence[int], num_columns: int
) -> np.ndarray:
    """For each video a row of frames and a row of their flow, under the wheel: uint8 [H W 3]."""
    pictures = [[wheel_picture(max(32, packed.size_px))]]
    labels = [f"full colour: {view.full_px:.1f} px in {view.lag} frames ({view.name})"]
    for row in rows:
        last = view.counts[row] - 1
        shown = sorted({int(n) for n in np.linspace(0, last, min(num_columns, last + 1)).round()})
        pictures.append([_coloured(packed.frames(row, number, 1)[0]) for number in shown])
        labels.append(_short(packed.ids[row]))
        flows = (view.flow(row, number, 1)[0] for number in shown)
        pictures.append([flow_colours(each, max_flow=view.full_px) for each in flows])
        labels.append(f"flow of frames {shown[0]} to {shown[-1]}")
    return contact_sheet(pictures, labels)


def flow_video(packed: PackedVideos, view: FlowView, rows: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames beside their flow, one video below the other: uint8 [H W 3], frame by frame.

    A video that is shorter than the longest one stands still at its end.
    """
    length = min(MAX_VIDEO_FRAMES, max(view.counts[row] for row in rows))
    for number in range(length):
        lines = []
        for row in rows:
            at = min(number, view.counts[row] - 1)
            frame = _coloured(packed.frames(row, at, 1)[0])
            colours = flow_colours(view.flow(row, at, 1)[0], max_flow=view.full_px)
            lines.append(np.concatenate([frame, _as_large(colours, len(frame))], axis=1))
        yield np.concatenate(lines)


def _fps(packed: PackedVideos, rows: Sequence[int]) -> float:
    """The frame rate of the first video that has one."""
    known = (packed.rows[row].fps for row in rows)
    return next((fps for fps in known if fps), _FALLBACK_FPS)


def wheel_picture(size_px: int) -> np.ndarray:
    """What the colours mean: every direction, longer towards the rim; uint8 [size size 3]."""
    axis = np.linspace(-1, 1, size_px, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    picture = flow_colours(np.stack([x, y]), max_flow=1.0)
    picture[np.hypot(x, y) > 1] = 255
    return picture


def _longest(flow: Callable[[int, int, int], np.ndarray], counts: Sequence[int]) -> float:
    """The longest motion in the first pair of each video, at most 64 of them."""
    rows = [row for row, count in enumerate(counts) if count][:64]
    found = [float(np.nan_to_num(np.hypot(*flow(row, 0, 1)[0])).max()) for row in rows]
    return _MARGIN * (max(found, default=0.0) or 1.0)


def _coloured(frame: np.ndarray) -> np.ndarray:
    return np.repeat(frame, 3, axis=-1) if frame.shape[-1] == 1 else frame


def _as_large(picture: np.ndarray, size_px: int) -> np.ndarray:
    """The same picture with pixels repeated or left out."""
    places = np.arange(size_px) * len(picture) // size_px
    return picture[places][:, places]


def _short(text: str) -> str:
    return text if len(text) <= 32 else f"...{text[-29:]}"
