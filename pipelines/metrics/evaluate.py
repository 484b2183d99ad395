"""`i2v eval`: any set of metrics over one source of videos, in one pass."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pipelines.engines.items import ShardTask, run_shards
from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.io.sample_folders import SampleFolder, SampleVideo
from pipelines.metrics import poke_simulator, pose, record, self_test, shards
from pipelines.metrics.compare import differences
from pipelines.metrics.config import EvalRequest, MetricProtocol
from pipelines.metrics.frechet_set import FrechetMetric
from pipelines.metrics.one_pass import Known, OnePass, load_extractors
from pipelines.metrics.real_cache import RealCache
from pipelines.metrics.result import MetricResult
from pipelines.metrics.scenes import Clip, Conditions, Extractor, Metric, Resources, Scene
from pipelines.metrics.sources import (
    Decoder,
    PlannedScene,
    Sources,
    open_sources,
    plan_scenes,
    require_pairs,
    require_samples,
    require_two,
)
from pipelines.training.device import prepare_device

_CPU = torch.device("cpu")


def evaluate(request: EvalRequest, work: Work) -> dict[str, Any]:
    """Measure a source of videos; write metrics.json; return a table and the numbers."""
    if request.metrics == ("pose",):
        return pose.evaluate_run(request, work)
    if request.metrics == (poke_simulator.NAME,):
        return poke_simulator.evaluate_run(request, work)
    if request.self_test:
        return self_test.run(request, work)
    if request.merge:
        return _finished(request, _merged(request), work)
    assert request.source is not None
    if request.engine != "local":
        return _finished(request, _spread(request, request.source, work), work)
    resources = resources_of(request)
    measured = _measure(request, request.source, resources, work)
    if request.shard:
        return _kept_shard(request, measured, work)
    if request.compare is None:
        return _finished(request, measured, work)
    # what was computed of the real videos is used again
    again = _measure(request, request.compare, resources, work, first=measured)
    return _compared(request, measured, again, work)


@dataclass
class Measured:
    """A source after the pass. metrics: by the name they were asked for."""

    label: str
    source: Path
    real: Path | None
    metrics: dict[str, Metric]
    one_pass: OnePass
    conditions: Conditions

    def results(self) -> list[MetricResult]:
        """All numbers; each under the name and with the protocol that was asked for."""
        found = []
        for name, metric in self.metrics.items():
            for each in metric.results(self.conditions, self.one_pass.extractors):
                protocol = name.partition("/")[2]
                shown = f"{each.metric}/{protocol}" if protocol else each.metric
                found.append(replace(each, metric=shown))
        return found


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
    one_pass = OnePass(metrics, load_extractors(metrics, device), device)
    shape: tuple[int, ...] = ()
    for scene in scenes:
        one_pass.add(scene)
        shape = next(each.frames.shape for each in (scene.real, *scene.samples) if each)
    frames, height, width, _ = shape
    return one_pass.results(Conditions(frames, (width, height), settings or {}))


def load_metric(name: str, protocol: MetricProtocol | None = None) -> Metric:
    """A fresh metric: `build()` of the module that has its name."""
    module = f"pipelines.metrics.{name.replace('-', '_')}"
    if re.fullmatch(r"[a-z][a-z0-9-]*", name) and importlib.util.find_spec(module):
        build = getattr(importlib.import_module(module), "build", None)
        if build is not None:
            metric: Metric = build() if protocol is None else build(protocol)
            return metric
    raise UserError(
        f"no metric '{name}'", {"to fix": "list them with: i2v eval --help"}, EXIT_USAGE
    )


def load_metrics(request: EvalRequest) -> dict[str, Metric]:
    """The metrics of a request, by the name they were asked for."""
    return {
        name: load_metric(name.partition("/")[0], request.protocols.get(name))
        for name in request.metrics
    }


def resources_of(request: EvalRequest) -> Resources:
    """What feature networks are made from."""
    return Resources(
        prepare_device(request.device, threads=request.threads),
        request.weights_root,
        request.weights,
        request.generated_weights,
        request.tensorflow_python,
        request.cache_dir,
    )


def _measure(
    request: EvalRequest,
    source: Path,
    resources: Resources,
    work: Work,
    *,
    first: Measured | None = None,
) -> Measured:
    """Everything up to the numbers. first: a measurement with the same real videos."""
    metrics = load_metrics(request)
    sources = open_sources(request, source)
    number, total = request.shard_numbers
    scenes = _needed(plan_scenes(sources), metrics)
    _check_needs(scenes, sources, metrics)
    scenes = scenes[number::total]
    _announce(sources, scenes, work)
    chosen = list(metrics.values())
    extractors = (
        first.one_pass.extractors if first is not None else load_extractors(chosen, resources)
    )
    known, shapes, cache = _known_real(request, scenes, sources, chosen, extractors, first)
    one_pass = OnePass(
        chosen, extractors, resources.device,
        known=known, has_baselines=request.baselines, seed=request.seed,
    )  # fmt: skip
    decoder = Decoder(request, sources)
    for scene in _decoded(scenes, decoder, sources, work, with_real=one_pass.needs_real_frames):
        one_pass.add(scene)
    one_pass.finish()
    for each in shapes:
        decoder.hold_to(sources.real.path if sources.real else source, each)
    if cache is not None:
        cache.keep(one_pass.sides, extractors, ",".join(map(str, decoder.shape)))
    frames, height, width, _ = decoder.shape
    conditions = Conditions(frames, (width, height), _settings(request, sources, decoder))
    label = request.label or sources.generated.path.name
    real = sources.real.path if sources.real else None
    return Measured(label, sources.generated.path, real, metrics, one_pass, conditions)


def _known_real(
    request: EvalRequest,
    scenes: Sequence[PlannedScene],
    sources: Sources,
    metrics: Sequence[Metric],
    extractors: Mapping[str, Extractor],
    first: Measured | None,
) -> tuple[Known, set[tuple[int, ...]], RealCache | None]:
    """Features of the real videos that need not be computed, and their videos' shapes."""
    distances: list[FrechetMetric] = [each for each in metrics if isinstance(each, FrechetMetric)]
    real = {each.name: each.real for each in scenes if each.real is not None}
    if not distances or not real or request.cache_dir is None:
        return {}, set(), None
    keys = ("num_frames", "size_px", "skip_start_frame", "seed")
    settings = {key: getattr(request, key) for key in keys}
    cache = RealCache(request.cache_dir, real, settings, sources.digest)
    known, shapes = cache.find(distances, extractors, has_baselines=request.baselines)
    return known, {tuple(map(int, each.split(","))) for each in shapes}, cache


def _finished(request: EvalRequest, measured: Measured, work: Work) -> dict[str, Any]:
    """The numbers: said, written, returned."""
    results = measured.results()
    if request.generated_weights:
        work.warning("feature networks have made-up weights: their numbers mean nothing")
    for text in dict.fromkeys(text for each in results for text in each.warnings):
        work.warning(text)
    found = record.evaluation(
        measured.label, results, source=measured.source, real=measured.real, seed=request.seed
    )
    if request.out_path:
        record.save(request.out_path, found)
        work.artifact(request.out_path, "metrics")
    path = str(request.out_path) if request.out_path else None
    return {**record.table(results), "metrics_path": path, **found}


def _kept_shard(request: EvalRequest, measured: Measured, work: Work) -> dict[str, Any]:
    """What a shard found, written for `merge`."""
    assert request.out_path is not None
    number, total = request.shard_numbers
    folder = request.out_path.parent
    path = folder / f"{request.out_path.stem}-shard-{number}-of-{total}.npz"
    shards.save(path, measured, request)
    work.artifact(path, "shard")
    rest = [f"{request.out_path.stem}-shard-{each}-of-{total}.npz" for each in range(total)]
    return {"shard": str(path), "merge": [str(folder / each) for each in rest]}


def _spread(request: EvalRequest, source: Path, work: Work) -> Measured:
    """The same from shards, each measured on a machine that the request's engine finds."""
    assert request.out_path is not None
    sources = open_sources(request, source)
    scenes = _needed(plan_scenes(sources), load_metrics(request))
    count = max(1, min(request.parts, len(scenes)))
    request.out_path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=request.out_path.parent, prefix=".eval-") as folder:
        changes = {"engine": "local", "out_path": Path(folder) / "part.json"}
        each = request.model_copy(update=changes)
        tasks = [
            ShardTask(
                evaluate,
                each.model_copy(update={"shard": f"{number}/{count}"}),
                torch.get_num_threads(),
            )
            for number in range(count)
        ]
        for done, _ in enumerate(run_shards(tasks, request.engine, Path(folder)), 1):
            work.progress("measure", done, count, "parts")
        files = tuple(sorted(Path(folder).glob("part-shard-*.npz")))
        return _merged(request.model_copy(update={"merge": files}))


def _merged(request: EvalRequest) -> Measured:
    """What all shards found, as if it had been measured at once."""
    parts = shards.load(request.merge)
    metrics = load_metrics(parts.request)
    one_pass = OnePass(
        list(metrics.values()), parts.extractors, _CPU, known=parts.sides, seed=request.seed
    )
    one_pass.finish()
    for name, metric in metrics.items():
        metric.restore([states[name] for states in parts.states])
    label = request.label or parts.label
    return Measured(label, parts.source, parts.real, metrics, one_pass, parts.conditions)


def _compared(
    request: EvalRequest, first: Measured, second: Measured, work: Work
) -> dict[str, Any]:
    """Both sources beside each other, with what chance explains of the difference."""
    for each in (first, second):
        _finished(request.model_copy(update={"label": each.label}), each, work)
    found = differences(first, second)
    path = str(request.out_path) if request.out_path else None
    return {**found, "metrics_path": path}


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
        if isinstance(metric, FrechetMetric):
            require_two(scenes, sources, name)


def _announce(sources: Sources, scenes: list[PlannedScene], work: Work) -> None:
    folder = sources.generated.path
    work.log(f"{len(sources.generated.videos)} videos in {folder}")
    if sources.made is None and (folder.parent.parent / "run.json").is_file():
        work.log("makes_anew=true measures videos that the run makes now, from its fixed list")
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
    scenes: Sequence[PlannedScene],
    decoder: Decoder,
    sources: Sources,
    work: Work,
    *,
    with_real: bool,
) -> Iterator[Scene]:
    if not with_real:
        scenes = [replace(each, real=None) for each in scenes if each.samples]
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


def _settings(
    request: EvalRequest, sources: Sources, decoder: Decoder
) -> dict[str, str | float | bool]:
    settings: dict[str, str | float | bool] = {
        "decoded from": _listed({_format(each) for each in sources.generated.videos})
    }
    if decoder.fps is not None:
        settings["frames per second"] = round(decoder.fps, 3)
    if sources.made is not None:
        settings["each is"] = str(sources.generated.meta["made"])
    for name in ("seed", "checkpoint"):
        if sources.generated.meta.get(name) is not None:
            settings[f"generated with {name}"] = str(sources.generated.meta[name])
    if request.size_px:
        settings["resized to"] = f"{request.size_px} px, bicubic, aspect not kept"
    skips = request.skip_start_frame
    if skips or (skips is None and sources.generated.includes_start_frame):
        settings["start frame"] = "left out"
    return settings


def _format(video: SampleVideo) -> str:
    if video.index is not None:
        return "arrays" if video.path.is_file() else "frames in memory"
    return video.path.suffix.lower().lstrip(".") if video.path.is_file() else "images"


def _listed(names: set[str]) -> str:
    return " and ".join(sorted(names))
