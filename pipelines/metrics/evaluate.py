"""`i2v eval`: any set of metrics over one folder of videos, in one pass."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.features.embedded import PooledFrames, UnitMaps
from pipelines.io.sample_folders import SampleFolder, SampleVideo
from pipelines.metrics import diversity, frechet_embedded, record
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.result import MetricResult
from pipelines.metrics.scenes import Clip, Conditions, Extractor, Metric, Scene
from pipelines.metrics.sources import (
    Decoder,
    PlannedScene,
    Sources,
    open_sources,
    plan_scenes,
    require_pairs,
    require_samples,
)
from pipelines.training.device import prepare_device

EXTRACTORS: Mapping[str, Callable[[torch.device], Extractor]] = {
    frechet_embedded.FEATURES: PooledFrames,
    diversity.FEATURES: UnitMaps,
}

_CPU = torch.device("cpu")


def evaluate(request: EvalRequest, work: Work) -> dict[str, Any]:
    """Measure a folder of videos; write metrics.json; return a table and the numbers."""
    metrics = {name: load_metric(name) for name in request.metrics}
    sources = open_sources(request)
    scenes = _needed(plan_scenes(sources), metrics)
    _check_needs(scenes, sources, metrics)
    _announce(sources, scenes, work)
    extractors = load_extractors(
        metrics.values(), prepare_device(request.device, threads=request.threads)
    )
    decoder = Decoder(request, sources)
    for scene in _decoded(scenes, decoder, sources, work):
        _show(scene, metrics.values(), extractors)
    frames, height, width, _ = decoder.shape
    conditions = Conditions(frames, (width, height), _settings(request, sources))
    results = collect(metrics.values(), conditions, extractors)
    for text in dict.fromkeys(text for each in results for text in each.warnings):
        work.warning(text)
    found = record.evaluation(
        request.label or sources.generated.path.name,
        results,
        source=sources.generated.path,
        real=sources.real.path if sources.real else None,
    )
    if request.out_path:
        record.save(request.out_path, found)
        work.artifact(request.out_path, "metrics")
    path = str(request.out_path) if request.out_path else None
    return {**record.table(results), "metrics_path": path, **found}


def measure(
    names: Sequence[str],
    scenes: Iterable[Scene],
    *,
    device: torch.device = _CPU,
    settings: Mapping[str, str | float | bool] | None = None,
) -> list[MetricResult]:
    """The numbers of scenes that are decoded already, all clips of one shape.

    settings: what else the numbers depend on, for their protocols.
    """
    metrics = [load_metric(name) for name in names]
    extractors = load_extractors(metrics, device)
    shape: tuple[int, ...] = ()
    for scene in scenes:
        _show(scene, metrics, extractors)
        shape = next(each.frames.shape for each in (scene.real, *scene.samples) if each)
    frames, height, width, _ = shape
    return collect(metrics, Conditions(frames, (width, height), settings or {}), extractors)


def load_metric(name: str) -> Metric:
    """A fresh metric: `build()` of the module that has its name."""
    module = f"pipelines.metrics.{name.replace('-', '_')}"
    if re.fullmatch(r"[a-z][a-z0-9-]*", name) and importlib.util.find_spec(module):
        build = getattr(importlib.import_module(module), "build", None)
        if build is not None:
            metric: Metric = build()
            return metric
    raise UserError(
        f"no metric '{name}'", {"to fix": "list them with: i2v eval --help"}, EXIT_USAGE
    )


def load_extractors(metrics: Iterable[Metric], device: torch.device) -> dict[str, Extractor]:
    """The feature networks that the metrics need, each once."""
    names = dict.fromkeys(name for each in metrics for name in each.extractors)
    return {name: EXTRACTORS[name](device) for name in names}


def collect(
    metrics: Iterable[Metric], conditions: Conditions, extractors: Mapping[str, Extractor]
) -> list[MetricResult]:
    """All numbers of all metrics."""
    return [found for each in metrics for found in each.results(conditions, extractors)]


def _show(scene: Scene, metrics: Iterable[Metric], extractors: Mapping[str, Extractor]) -> None:
    """Compute each feature of each clip once, then let every metric look."""
    real = _with_features(scene.real, extractors) if scene.real else None
    samples = tuple(_with_features(each, extractors) for each in scene.samples)
    scene = replace(scene, real=real, samples=samples)
    for metric in metrics:
        metric.add(scene)


def _with_features(clip: Clip, extractors: Mapping[str, Extractor]) -> Clip:
    features = {name: extract(clip.frames) for name, extract in extractors.items()}
    for name, values in features.items():
        if not all(_is_finite(each) for each in (values if isinstance(values, list) else [values])):
            raise UserError(
                f"the features of '{clip.name}' are not finite",
                {
                    "features": f"{name} ({extractors[name].name})",
                    "to fix": "look at the video; if it is sound, try --device cpu",
                },
            )
    return replace(clip, features=features)


def _is_finite(values: np.ndarray | Tensor) -> bool:
    return bool(torch.isfinite(torch.as_tensor(values)).all())


def _needed(scenes: list[PlannedScene], metrics: Mapping[str, Metric]) -> list[PlannedScene]:
    """Real videos without a counterpart matter only to metrics that compare whole sets."""
    if all(each.needs_pairs for each in metrics.values()):
        return [each for each in scenes if each.samples]
    return scenes


def _check_needs(
    scenes: list[PlannedScene], sources: Sources, metrics: Mapping[str, Metric]
) -> None:
    for name, metric in metrics.items():
        if metric.needs_real and sources.real is None:
            raise UserError(
                f"{name} compares with real videos, but there is no folder of them",
                {"to fix": "give --real a folder of real videos"},
                EXIT_USAGE,
            )
        if metric.needs_pairs:
            require_pairs(scenes, sources, name)
        if metric.needs_samples:
            require_samples(scenes, sources, name)


def _announce(sources: Sources, scenes: list[PlannedScene], work: Work) -> None:
    work.log(f"{len(sources.generated.videos)} videos in {sources.generated.path}")
    if sources.real:
        work.log(f"{len(sources.real.videos)} real videos in {sources.real.path}")
    suffixes = {_format(video) for each in scenes for video in each.samples}
    real_suffixes = {_format(each.real) for each in scenes if each.real}
    if real_suffixes and suffixes != real_suffixes:
        work.warning(
            f"generated videos are {_listed(suffixes)}, real ones {_listed(real_suffixes)}: "
            "a difference in compression alone changes the numbers"
        )


def _decoded(
    scenes: Sequence[PlannedScene], decoder: Decoder, sources: Sources, work: Work
) -> Iterator[Scene]:
    total = sum(len(each.samples) + (each.real is not None) for each in scenes)
    done = 0
    for planned in scenes:
        yield _decode(planned, decoder, sources)
        done += len(planned.samples) + (planned.real is not None)
        work.progress("measure", done, total, "videos")


def _decode(planned: PlannedScene, decoder: Decoder, sources: Sources) -> Scene:
    def clip(video: SampleVideo, folder: SampleFolder) -> Clip:
        return decoder.decode(video, folder)

    real = clip(planned.real, sources.real) if planned.real and sources.real else None
    samples = tuple(clip(each, sources.generated) for each in planned.samples)
    if real is not None and real.start is None:
        start = next((each.start for each in samples if each.start is not None), None)
        real = replace(real, start=start)
    return Scene(planned.name, real, samples, planned.group)


def _settings(request: EvalRequest, sources: Sources) -> dict[str, str | float | bool]:
    settings: dict[str, str | float | bool] = {
        "decoded from": _listed({_format(each) for each in sources.generated.videos})
    }
    if request.size_px:
        settings["resized to"] = f"{request.size_px} px, bicubic, aspect not kept"
    skips = request.skip_start_frame
    if skips or (skips is None and sources.generated.includes_start_frame):
        settings["start frame"] = "left out"
    return settings


def _format(video: SampleVideo) -> str:
    return video.path.suffix.lower().lstrip(".") if video.path.is_file() else "images"


def _listed(names: set[str]) -> str:
    return " and ".join(sorted(names))
