"""What a training step costs: against batch, size and clip length, and with each lever of `train`.

`growth` also writes what `i2v train --dry-run` estimates from.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from pipelines.training import checkpoint, levers, loop
from tests.benchmarks import stages
from tests.benchmarks.rows import Measurement, Settings, apart, hardware
from tests.benchmarks.stages import STAGES, Sizes, Stage, Stepped

COSTS_PATH = Path(__file__).resolve().parents[2] / "conf" / "costs.yaml"
LEVERS: dict[str, dict[str, Any]] = {
    "channels last": {"train.channels_last": True},
    "checkpointing": {"train.checkpointing": True},
    "batch in 2 parts": {"train.accumulate": 2},
    "bf16": {"train.precision": "bf16"},
    "optimizer not fused": {},
}
_STEPS = 4
_WORDS = {"batch": "batch {}", "size_px": "{} px", "num_frames": "{} frames"}


def growth(settings: Settings) -> Iterator[Measurement]:
    """Time and memory of a step of each stage, each of batch, size and length larger in turn.

    Each point is a training of a few steps in a process of its own, timed by the processor time
    that a step takes.
    """
    costs = []
    for stage in STAGES[:1] if settings.quick else STAGES:
        found: list[tuple[Sizes, float, float, float]] = []
        for sizes in _grown(stage):
            done = apart(step_cost, stage, sizes)
            seconds, checkpoint_mb, idle_mb = done.result
            found.append((sizes, statistics.median(seconds), done.peak_mb - idle_mb, checkpoint_mb))
            said = ", ".join(_WORDS[name].format(value) for name, value in sizes.items())
            note = "processor time, one thread"
            yield Measurement(
                f"{stage.label}, {said}", seconds, "s/step", note=note, peak_mb=done.peak_mb
            )
        costs.append(_cost(stage, found))
    if not settings.quick:
        head = "# Written by the benchmark 'growth': what i2v train --dry-run estimates from.\n"
        COSTS_PATH.write_text(head + yaml.safe_dump({"stages": costs}, sort_keys=False))


def step_cost(stage: Stage, sizes: Sizes) -> tuple[list[float], float, float]:
    """Processor seconds of steps, MB of a checkpoint, and MB of memory before the training."""
    torch.set_num_threads(1)
    loop.time = types.SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(prefix="i2v-bench-") as folder:
        stages.prepare(stage, sizes, Path(folder))
        idle_mb = stages.resident_mb()
        heard, run_dir = stages.train(stage, sizes, {}, Path(folder), max_steps=_STEPS)
        seconds = [each["values"] for each in heard.of("metric")]
        seconds = [each["seconds_per_step"] for each in seconds if "seconds_per_step" in each]
        newest = checkpoint.list_checkpoints(run_dir)[0]
        stored = sum(path.stat().st_size for path in newest.iterdir()) / 1e6
    return seconds[1:], stored, idle_mb


def lever_ratios(settings: Settings) -> Iterator[Measurement]:
    """Each lever over the same step without it, step by step in turn: time and memory.

    By processor time on one thread, which other programs do not change much.
    """
    for stage in STAGES[:1] if settings.quick else STAGES:
        sizes = dict(stage.first if settings.quick else stages.usual_sizes(stage))
        # a part of one clip would say little: torch convolves single small clips on a slow path
        sizes["batch"] = max(4, sizes["batch"])
        root = settings.scratch_dir / stage.label.replace(" ", "-")
        stages.prepare(stage, sizes, root)
        yield from _levers_of(stage, sizes, root, repeats=settings.repeats)


def _levers_of(stage: Stage, sizes: Sizes, root: Path, *, repeats: int) -> Iterator[Measurement]:
    trainings = {
        name: Stepped(
            stage,
            sizes,
            changes,
            root,
            name=f"run{number}",
            begin=optimizers_step_one_by_one if name == "optimizer not fused" else None,
        )
        for number, (name, changes) in enumerate({"": {}, **LEVERS}.items())
    }
    for name, training in list(trainings.items()):
        try:
            training.wait()
            training.step()
        except RuntimeError as problem:  # such as what the device cannot do
            print(f"{stage.label}, {name}: {problem}", file=sys.stderr)
            del trainings[name]
    times: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(repeats):
        for name, training in trainings.items():
            times[name].append(training.step())
    memory = {name: training.end() for name, training in trainings.items()}
    plain, plain_mb = times.pop(""), memory.pop("")
    yield Measurement(
        f"{stage.label}, plain",
        plain,
        "s/step",
        note=f"processor time, one thread; {_said(sizes)}",
        peak_mb=plain_mb,
    )
    for name, taken in times.items():
        ratios = [each / before for each, before in zip(taken, plain, strict=True)]
        note = f"processor time over the plain step's; memory {memory[name] / plain_mb:.2f} x"
        yield Measurement(f"{stage.label}, {name}", ratios, "x", note=note, peak_mb=memory[name])


def optimizers_step_one_by_one() -> None:
    """Let Adam take its parameters one after the other, as published code does."""
    adam = torch.optim.Adam

    class OneByOne(adam):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "fused": False, "foreach": False})

    torch.optim.Adam = OneByOne  # type: ignore[misc]


_SAVED = ("cinn 1", "fomm 1")
_BLOCK = 8


def saving(settings: Settings) -> Iterator[Measurement]:
    """How much longer a block of steps takes with a save before it, for real trainings."""
    for stage in STAGES:
        if stage.label not in _SAVED[: 1 if settings.quick else None]:
            continue
        sizes = stage.first if settings.quick else stages.usual_sizes(stage)
        root = settings.scratch_dir / stage.family
        stages.prepare(stage, sizes, root)
        done = apart(blocks_of_steps, stage, sizes, root, settings.repeats)
        plain, saved, stored_mb = done.result
        step_s = statistics.median(plain) / _BLOCK
        every = 500
        between = every * step_s
        extra = [after - before for before, after in zip(plain, saved, strict=True)]
        note = (
            f"{_BLOCK} steps of {step_s:.2f} s behind the save and the save itself, over such steps"
            f" without; {stored_mb:.0f} MB; save_every {every}; {_said(sizes)}"
        )
        shares = [100 * max(0.0, each) / between for each in extra]
        yield Measurement(
            f"{stage.label}, stall by a save",
            shares,
            "%",
            at_most=5,
            note=note,
            peak_mb=done.peak_mb,
        )
    yield from _large_save(settings)


def blocks_of_steps(
    stage: Stage, sizes: Sizes, root: Path, repeats: int
) -> tuple[list[float], list[float], float]:
    """Seconds of blocks of steps without a save and of such with one, in turn, and its MB."""
    plain: list[float] = []
    saved: list[float] = []
    training: list[checkpoint.TrainState] = []
    set_up = levers.prepare
    checkpoint._WORTH_A_COPY = 0

    def remember(state: checkpoint.TrainState, *others: Any) -> None:
        training[:] = [state]
        set_up(state, *others)

    levers.prepare = remember
    run_dir = root / "runs" / stage.stage

    class Blocks(stages.cinn.Heard):
        started = 0.0

        def progress(self, task: str, done: float, total: Any = None, unit: str = "") -> None:
            block, place = divmod(int(done) - 2, _BLOCK)
            if unit != "steps" or done < 2 or place:
                return
            now = time.perf_counter()
            if block:
                (saved if block % 2 == 0 else plain).append(now - self.started)
            checkpoint.background.finish(run_dir)  # what is not measured
            self.started = time.perf_counter()
            if block % 2:
                checkpoint.save_checkpoint(run_dir, training[0], keep=1)

    steps = 2 + _BLOCK * 2 * repeats
    threads = {"train.threads": len(os.sched_getaffinity(0))}
    request = stages.request(stage, sizes, threads, root, max_steps=steps)
    stages.carry_out(request, Blocks())
    newest = checkpoint.list_checkpoints(run_dir)[0]
    return plain, saved, sum(path.stat().st_size for path in newest.iterdir()) / 1e6


def _large_save(settings: Settings) -> Iterator[Measurement]:
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
    note = "200 MB of weights and optimizer; how long the call holds the training up"
    for way, times in held.items():
        yield Measurement(f"save {way}", [each * 1e3 for each in times], "ms", note=note)


def _grown(stage: Stage) -> list[Sizes]:
    return [stage.first, *({**stage.first, name: value} for name, value in stage.grown.items())]


def _said(sizes: Sizes) -> str:
    return ", ".join(_WORDS[name].format(value) for name, value in sizes.items())


def _cost(stage: Stage, found: list[tuple[Sizes, float, float, float]]) -> dict[str, Any]:
    """What is known of a stage: time and memory as lines over the pixels of a batch's frames."""
    pixels = [
        sizes["batch"] * sizes.get("num_frames", 1) * sizes.get("size_px", 1) ** 2
        for sizes, *_ in found
    ]
    seconds = statistics.linear_regression(pixels, [each[1] for each in found])
    memory = statistics.linear_regression(pixels, [each[2] for each in found])
    return {
        "family": stage.family,
        "stage": stage.stage,
        "preset": stage.preset,
        "settings": dict(stage.names),
        "seconds": _line(seconds.slope, seconds.intercept),
        "memory_mb": _line(memory.slope, memory.intercept),
        "checkpoint_mb": max(1, round(max(each[3] for each in found))),
        "device": f"one core of {hardware()['cpu']}",
    }


def _line(slope: float, intercept: float) -> Mapping[str, float]:
    per_million, fixed = max(0.0, slope) * 1e6, max(0.0, intercept)
    return {"fixed": float(f"{fixed:.4g}"), "per_million": float(f"{per_million:.4g}")}
