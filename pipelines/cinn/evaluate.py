"""How good a finished model is on videos it has not seen (the `test` split).

Writes what can be looked at (samples/held-out-real, -reconstruction, -sample, grids) and
what can be compared (metrics.json). A start frame is frame 0 of a video. What follows it in a
generated clip is one of many true futures; the others can be made as well, and tell how far apart
real futures of one image are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipelines.cinn import sample
from pipelines.cinn.augment import prepare
from pipelines.cinn.config import EvaluateRequest
from pipelines.cinn.endpoint import endpoints_of
from pipelines.cinn.inference import render, sample_video
from pipelines.cinn.preview import to_bytes
from pipelines.cinn.sample import Sampler, require_encoder
from pipelines.cinn.validation import as_clips
from pipelines.clips.batches import load_clips
from pipelines.clips.rules import Clip as Place
from pipelines.datasets import synthetic
from pipelines.events import EXIT_NO_DATA, UserError, Work
from pipelines.io.packed import PackedVideos, VideoRow, find_variant
from pipelines.io.sample_writer import sample_writer, scene_names
from pipelines.metrics import record
from pipelines.metrics.evaluate import measure
from pipelines.metrics.result import MetricResult
from pipelines.metrics.scenes import Clip, Scene
from pipelines.training.device import prepare_device

_SHOWN = 8
_DEFAULT_FPS = 8.0
_RECONSTRUCTION_METRICS = ("psnr", "ssim")
_SAMPLE_METRICS = ("psnr", "ssim", "diversity", "motion-energy", "frechet-embedded")


@dataclass(frozen=True)
class HeldOutVideo:
    """A video that no stage has seen and what the model makes of it; uint8 T H W 3 each.

    start: uint8 H W 3.  futures: other true continuations of the same start frame, maybe none.
    """

    name: str
    start: np.ndarray
    real: np.ndarray
    reconstruction: np.ndarray
    samples: list[np.ndarray]
    futures: list[np.ndarray]


def evaluate_run(request: EvaluateRequest, work: Work) -> dict[str, Any]:
    """Reconstruct and sample held-out videos, write them and their numbers."""
    sampler = sample.load(request.run_dir, prepare_device(request.device), warn=work.warning)
    config = sampler.config
    videos = PackedVideos(find_variant(request.data_root, config.data.dataset, config.data.variant))
    rows = _held_out_rows(videos, sampler, request.clips)
    names = scene_names([row.id for row in rows])
    made = [
        _make(name, row, videos, sampler, number, request)
        for number, (name, row) in enumerate(zip(names, _with_progress(rows, work), strict=True))
    ]
    folder = request.out_dir / "samples"
    fps = rows[0].fps or _DEFAULT_FPS
    for kind in ("real", "reconstruction", "sample"):
        _write(folder / f"held-out-{kind}", kind, made, fps)
        work.artifact(folder / f"held-out-{kind}", "videos")
    metrics_path = request.out_dir / "metrics.json"
    tables = []
    for label, results in _measured(made, sampler):
        found = record.evaluation(
            label,
            results,
            source=folder / label.replace(" ", "-"),
            real=folder / "held-out-real",
        )
        record.save(metrics_path, found)
        tables += [[label, *row] for row in record.table(results)["rows"]]
    work.artifact(metrics_path, "metrics")
    return {
        "columns": ["videos", *record.COLUMNS],
        "rows": tables,
        "metrics_path": str(metrics_path),
        "samples": str(folder / "held-out-sample"),
    }


def _held_out_rows(videos: PackedVideos, sampler: Sampler, limit: int) -> list[VideoRow]:
    """Rows of the test split, spread evenly over all that are long enough."""
    needed = sampler.config.stage1.num_frames + 1
    rows = videos.select("test", sampler.config.data.include, needed)
    if len(rows) < 2:
        raise UserError(
            f"{len(rows)} held-out videos (split 'test') are long enough, 2 are needed",
            {
                "looked in": videos.dir,
                "a clip has": f"{needed} frames",
                "to fix": "prepare the data with a larger test part, such as --split 0.8/0.1/0.1",
            },
            EXIT_NO_DATA,
        )
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int))
    return [videos.rows[rows[i]] for i in chosen]


def _with_progress(rows: Sequence[VideoRow], work: Work) -> Iterator[VideoRow]:
    for number, row in enumerate(rows):
        work.progress("animate held-out images", number, len(rows), "images")
        yield row
    work.progress("animate held-out images", len(rows), len(rows), "images")


@torch.inference_mode()
def _make(
    name: str,
    row: VideoRow,
    videos: PackedVideos,
    sampler: Sampler,
    number: int,
    request: EvaluateRequest,
) -> HeldOutVideo:
    num_frames = sampler.config.stage1.num_frames
    place = Place(videos.ids.index(row.id), 0)
    frames = load_clips(videos, [place], num_frames + 1)
    clip = prepare(as_clips(torch.from_numpy(frames).to(sampler.device)), sampler.size_px)
    start, model = clip[:, 0], sampler.model
    require_encoder(sampler)
    assert model.encoder is not None
    mean, _ = model.encoder(clip[:, 1:])
    residual = torch.cat(
        [sampler.residual(request.seed, number, each) for each in range(request.num)]
    )
    control, endpoint = sampler.config.stage2, None
    if control.is_controlled:  # asked for: where the real clip ends
        endpoint = endpoints_of(videos, [place], num_frames + 1, control).to(sampler.device)
    samples = sample_video(model, start, residual[None], num_frames, endpoint=endpoint)[0]
    real = to_bytes(clip[0])
    return HeldOutVideo(
        name=name,
        start=real[0],
        real=real[1:],
        reconstruction=to_bytes(render(model.decoder, start, mean, num_frames)[0]),
        samples=list(to_bytes(samples)),
        futures=_futures(row, request.num, frames[0, 0], sampler),
    )


def _futures(row: VideoRow, num: int, start: np.ndarray, sampler: Sampler) -> list[np.ndarray]:
    """Other true continuations of a generated clip's first frame; none for any other video."""
    labels, size_px = row.labels, sampler.size_px
    if not {"kind", "seed", "index", "speed_range"} <= labels.keys():
        return []
    found = []
    for future in range(1, num):
        clip = synthetic.generate(
            str(labels["kind"]),
            int(str(labels["index"])),
            seed=int(str(labels["seed"])),
            size_px=size_px,
            num_frames=sampler.config.stage1.num_frames + 1,
            future=future,
            speed_range=tuple(labels["speed_range"]),  # type: ignore[arg-type]
            with_truth=False,
        )
        if not np.array_equal(clip.frames[0], start):
            return []  # the prepared frames were resized or made by another version
        found.append(clip.frames[1:])
    return found


def _measured(
    made: Sequence[HeldOutVideo], sampler: Sampler
) -> Iterator[tuple[str, list[MetricResult]]]:
    """Numbers of reconstructions, then of samples."""
    reconstructed = [
        Scene(each.name, _clip(each, each.real), (_clip(each, each.reconstruction),))
        for each in made
    ]
    yield (
        "held-out reconstruction",
        measure(_RECONSTRUCTION_METRICS, reconstructed, device=sampler.device),
    )
    sampled = []
    for each in made:
        samples = tuple(_clip(each, frames) for frames in each.samples)
        sampled.append(Scene(each.name, _clip(each, each.real), samples, each.name))
        # other futures of the same image are real videos of the same group
        sampled += [
            Scene(f"{each.name} future {number}", _clip(each, frames), (), each.name)
            for number, frames in enumerate(each.futures, 1)
        ]
    yield "held-out sample", measure(_SAMPLE_METRICS, sampled, device=sampler.device)


def _clip(video: HeldOutVideo, frames: np.ndarray) -> Clip:
    return Clip(video.name, frames, start=video.start)


def _write(folder: Any, kind: str, made: Sequence[HeldOutVideo], fps: float) -> None:
    """One folder of videos; its grid has the real clips on top."""
    with sample_writer(folder, kind=kind, fps=fps) as writer:
        for each in made:
            for number, frames in enumerate(_videos(each, kind)):
                index = number if kind == "sample" else None
                writer.add(each.name, frames, start=each.start, sample=index)
        shown = made[:_SHOWN]
        columns = [_videos(each, kind) for each in shown]
        rows = [[each.real for each in shown]] if kind != "real" else []
        rows += [[videos[i] for videos in columns] for i in range(len(columns[0]))]
        sheet = []
        for each in shown:
            whole = [("real", each.real)] if kind != "real" else []
            whole += [(kind, video) for video in _videos(each, kind)[:3]]
            sheet += [(name, np.concatenate([each.start[None], video])) for name, video in whole]
        writer.add_grid(rows, sheet)
        writer.finish({"about": "held-out videos (split 'test')", "clips": len(made)})


def _videos(each: HeldOutVideo, kind: str) -> list[np.ndarray]:
    return {
        "real": [each.real],
        "reconstruction": [each.reconstruction],
        "sample": each.samples,
    }[kind]
