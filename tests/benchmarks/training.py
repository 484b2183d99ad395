"""What a training step costs: against batch, size and clip length, and with each lever of `train`.

Every point is a real training of a few steps with the demo's networks in a process of its own, on
made-up videos, timed by the processor time that a step takes. `growth` also writes what
`i2v train --dry-run` estimates from.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from pipelines.training import checkpoint, loop
from tests.benchmarks.rows import Measurement, Settings, apart, hardware
from tests.pipelines.cinn import tiny as cinn
from tests.pipelines.poke import tiny as poke

_CONF = Path(__file__).resolve().parents[2] / "conf"
COSTS_PATH = _CONF / "costs.yaml"
PRESET = "demo"
"""Whose networks are measured: those that are trained without a graphics card."""


class Size(NamedTuple):
    """Clips in a batch, side of a frame in pixels, frames of a clip after the first."""

    batch: int
    size_px: int
    num_frames: int


class Stage(NamedTuple):
    """Names of the settings that a Size gives values to, and the sizes that are measured.

    others: settings that are the same at every size.  doubled: sizes that differ from the first in
    one number each.
    """

    family: str
    stage: str
    names: Size
    first: Size
    others: Mapping[str, Any]


_PERCEPTUAL = {"perceptual.backbone": "efficientnet-lite0"}
STAGES = (
    Stage(
        "cinn",
        "1",
        Size("stage1.batch_size", "stage1.size_px", "stage1.num_frames"),  # type: ignore[arg-type]
        Size(1, 32, 8),
        {"stage1.temporal_window": 6, "stage1.patch_frames": 4, "stage1.warmup_epochs": 0},
    ),
    Stage(
        "cinn",
        "ae",
        Size("ae.batch_size", "stage1.size_px", ""),  # type: ignore[arg-type]
        Size(1, 32, 1),
        {"ae.warmup_epochs": 0},
    ),
    Stage(
        "poke",
        "1",
        Size("batch_size", "model.size_px", "clips.num_frames"),  # type: ignore[arg-type]
        Size(1, 32, 4),
        {
            "clips.start": "any",
            "clips.flow_lag": 4,
            "patch.start_step": 0,
            "patch.num_frames": 4,
            "temporal.start_step": 0,
        },
    ),
)
LEVERS: dict[str, dict[str, Any]] = {
    "bf16": {"train.precision": "bf16"},
    "channels last": {"train.channels_last": True},
    "checkpointing": {"train.checkpointing": True},
    "batch in 2 parts": {"train.accumulate": 2},
}
_STEPS = 4


def growth(settings: Settings) -> Iterator[Measurement]:
    """Time and memory of a step of each stage, each of batch, size and length doubled in turn."""
    costs = []
    for stage in STAGES:
        found: dict[Size, tuple[float, float, float]] = {}
        for size in _sizes(stage):
            done = apart(step_cost, stage, size, {})
            seconds, checkpoint_mb, idle_mb = done.result
            found[size] = (statistics.median(seconds), done.peak_mb - idle_mb, checkpoint_mb)
            what = f"{stage.family} {stage.stage}, batch {size.batch}, {size.size_px} px"
            what += f", {size.num_frames} frames" if stage.names.num_frames else ""
            note = "processor time, one thread; embedded perceptual network"
            yield Measurement(what, seconds, "s/step", note=note, peak_mb=done.peak_mb)
        costs.append(_cost(stage, found))
    if not settings.quick:
        head = "# Written by the benchmark 'growth': what i2v train --dry-run estimates from.\n"
        COSTS_PATH.write_text(head + yaml.safe_dump({"stages": costs}, sort_keys=False))


def levers(settings: Settings) -> Iterator[Measurement]:
    """Each lever over the same step without it: time and memory."""
    for stage in STAGES:
        size = stage.first._replace(batch=2)
        plain = apart(step_cost, stage, size, {})
        plain_s = statistics.median(plain.result[0])
        for name, changes in LEVERS.items():
            try:
                done = apart(step_cost, stage, size, changes)
            except RuntimeError as problem:  # such as a training that diverges with it
                print(f"{stage.family} {stage.stage}, {name}: {problem}", file=sys.stderr)
                continue
            ratios = [each / plain_s for each in done.result[0]]
            memory = (done.peak_mb - done.result[2]) / (plain.peak_mb - plain.result[2])
            note = f"time over the plain step's; memory {memory:.2f} x; below 1 is better"
            what = f"{stage.family} {stage.stage}, {name}"
            yield Measurement(what, ratios, "x", note=note, peak_mb=done.peak_mb)


def background_save(settings: Settings) -> Iterator[Measurement]:
    """How long a save holds the training up, in the background and not."""
    network = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(16)))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(2, 1024)).sum().backward()
    optimizer.step()
    state = checkpoint.TrainState({"net": network}, {"adam": optimizer}, {})
    held: dict[str, list[float]] = {"in the background": [], "at once": []}
    for _ in range(settings.repeats):
        for way, times in held.items():
            run_dir = settings.scratch_dir / way
            run_dir.mkdir(exist_ok=True)
            with checkpoint.background.writing(run_dir):
                checkpoint._WORTH_A_COPY = 0 if way == "in the background" else 10**12
                state.step += 1
                start = time.perf_counter()
                checkpoint.save_checkpoint(run_dir, state, keep=1)
                times.append(time.perf_counter() - start)
    note = "200 MB of weights and optimizer; how long the save holds the training up"
    for way, times in held.items():
        yield Measurement(f"save {way}", [each * 1e3 for each in times], "ms", note=note)
    between = 500 * 0.1  # seconds: the default save_every at a tenth of a second per step
    shares = [100 * each / between for each in held["in the background"]]
    about = "of the time between saves, 500 steps of 0.1 s"
    yield Measurement("stall by a save", shares, "%", at_most=5, note=about)


def step_cost(
    stage: Stage, size: Size, changes: Mapping[str, Any]
) -> tuple[list[float], float, float]:
    """Processor seconds of steps, MB of a checkpoint, and MB of memory before the training."""
    torch.set_num_threads(1)
    loop.time = types.SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    tiny: Any = {"cinn": cinn, "poke": poke}[stage.family]
    with tempfile.TemporaryDirectory(prefix="i2v-bench-") as folder:
        root = Path(folder)
        tiny.prepare_squares(root / "data", counts=(4, 0, 0), size_px=size.size_px, num_frames=20)
        config: dict[str, Any] = {
            "data": {"dataset": "squares"},
            "train": {"device": "cpu", "threads": 1, "log_every": 1, "save_every": 1000},
            "log": {"tensorboard": False},
        }
        preset = yaml.safe_load((_CONF / stage.family / f"{PRESET}.yaml").read_text())
        config = preset | config
        pairs = zip(stage.names, size, strict=True)
        given = {str(name): value for name, value in pairs if name}
        for name, value in (given | dict(stage.others) | _PERCEPTUAL | dict(changes)).items():
            _put(config, name, value)
        if stage.family == "poke":
            config.pop("log")
        if stage.family == "cinn":  # how often the decoder doubles follows from the sizes
            _put(config, "stage1.decoder_upsample_space", [max(1, size.size_px // 32), 1])
            _put(config, "stage1.decoder_upsample_time", [max(1, size.num_frames // 8), 1])
        named = (stage.stage,) if stage.family == "cinn" else ()
        request = tiny.request(root, *named, config=config, max_steps=_STEPS)
        heard = tiny.Heard()
        idle_mb = _resident_mb()
        _train_of(stage.family)(request, heard)
        seconds = [each["values"]["seconds_per_step"] for each in heard.of("metric")]
        newest = checkpoint.list_checkpoints(request.run_dir)[0]
        stored = sum(path.stat().st_size for path in newest.iterdir()) / 1e6
    return seconds[1:], stored, idle_mb


def _train_of(family: str) -> Any:
    import importlib

    return importlib.import_module(f"pipelines.{family}.train").train


def _sizes(stage: Stage) -> list[Size]:
    first = stage.first
    sizes = [first, first._replace(batch=2 * first.batch), first._replace(size_px=64)]
    if stage.names.num_frames:
        sizes.append(first._replace(num_frames=2 * first.num_frames))
    return sizes


def _cost(stage: Stage, found: Mapping[Size, tuple[float, float, float]]) -> dict[str, Any]:
    """What is known of a stage: time and memory as lines over the pixels of a batch's frames."""
    pixels = [size.batch * size.num_frames * size.size_px**2 for size in found]
    seconds = statistics.linear_regression(pixels, [each[0] for each in found.values()])
    memory = statistics.linear_regression(pixels, [each[1] for each in found.values()])
    return {
        "family": stage.family,
        "stage": stage.stage,
        "preset": PRESET,
        "settings": {k: v for k, v in zip(Size._fields, stage.names, strict=True) if v},
        "seconds": _line(seconds.slope, seconds.intercept),
        "memory_mb": _line(memory.slope, memory.intercept),
        "checkpoint_mb": round(max(each[2] for each in found.values())),
        "device": f"one core of {hardware()['cpu']}",
    }


def _line(slope: float, intercept: float) -> dict[str, float]:
    per_million, fixed = max(0.0, slope) * 1e6, max(0.0, intercept)
    return {"fixed": float(f"{fixed:.4g}"), "per_megapixel": float(f"{per_million:.4g}")}


def _put(config: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        config = config.setdefault(section, {})
    config[last] = value


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
