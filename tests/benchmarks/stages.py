"""Every stage that is trained, as a benchmark trains it: real steps on made-up data.

The networks are those of the preset for machines without a graphics card. `train` lets a stage take
steps in the process that calls it; `Stepped` does so in a process of its own, a step at a time.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from i2v_cli.registry import FAMILIES
from tests.benchmarks.rows import peak_memory_mb
from tests.learning import behavior_world
from tests.pipelines.cinn import tiny as cinn
from tests.pipelines.poke import tiny as poke

_CONF = Path(__file__).resolve().parents[2] / "conf"
_NUM_FRAMES = 20
_COUNTS = (4, 1, 0)

Sizes = Mapping[str, int]
"""batch, size_px (side of a frame), num_frames (of a clip): those that a stage has."""


class Stage(NamedTuple):
    """A stage and what is measured of it.

    length: the setting that says how long it trains, in epochs or steps.
    names: size -> its setting.  first: the smallest sizes; grown: of each, in turn, a larger one.
    others: settings that differ from the preset at every size.
    """

    family: str
    stage: str
    preset: str
    length: str
    names: Mapping[str, str]
    first: Sizes
    grown: Sizes
    others: Mapping[str, Any] = {}

    @property
    def label(self) -> str:
        """As the command line names it."""
        return f"{self.family} {self.stage}"


_PERCEPTUAL = {"perceptual.backbone": "efficientnet-lite0"}
STAGES = (
    Stage(
        "cinn",
        "1",
        "demo",
        "stage1.epochs",
        {
            "batch": "stage1.batch_size",
            "size_px": "stage1.size_px",
            "num_frames": "stage1.num_frames",
        },
        {"batch": 1, "size_px": 32, "num_frames": 8},
        {"batch": 2, "size_px": 64, "num_frames": 16},
        _PERCEPTUAL
        | {"stage1.temporal_window": 6, "stage1.patch_frames": 4, "stage1.warmup_epochs": 0},
    ),
    Stage(
        "cinn",
        "ae",
        "demo",
        "ae.epochs",
        {"batch": "ae.batch_size", "size_px": "stage1.size_px"},
        {"batch": 2, "size_px": 32},
        {"batch": 4, "size_px": 64},
        _PERCEPTUAL | {"ae.warmup_epochs": 0},
    ),
    Stage(
        "cinn",
        "2",
        "demo",
        "stage2.epochs",
        {
            "batch": "stage2.batch_size",
            "size_px": "stage1.size_px",
            "num_frames": "stage1.num_frames",
        },
        {"batch": 4, "size_px": 32, "num_frames": 8},
        {"batch": 8, "size_px": 64, "num_frames": 16},
        _PERCEPTUAL | {"stage1.temporal_window": 6, "stage1.patch_frames": 4},
    ),
    Stage(
        "poke",
        "1",
        "demo",
        "epochs",
        {"batch": "batch_size", "size_px": "model.size_px", "num_frames": "clips.num_frames"},
        {"batch": 2, "size_px": 32, "num_frames": 4},
        {"batch": 4, "size_px": 64, "num_frames": 8},
        _PERCEPTUAL
        | {
            "clips.start": "any",
            "clips.num_frames": 4,
            "clips.flow_lag": 4,
            "patch.start_step": 0,
            "patch.num_frames": 4,
            "temporal.start_step": 0,
        },
    ),
    Stage(
        "behavior",
        "1",
        "walker",
        "stage1.epochs",
        {"batch": "stage1.batch_size", "num_frames": "poses.num_frames"},
        {"batch": 8, "num_frames": 9},
        {"batch": 32, "num_frames": 18},
    ),
    Stage(
        "behavior",
        "2",
        "walker",
        "stage2.epochs",
        {"batch": "stage2.batch_size", "num_frames": "poses.num_frames"},
        {"batch": 8, "num_frames": 9},
        {"batch": 32, "num_frames": 18},
    ),
    Stage(
        "shape-pose",
        "1",
        "walker",
        "steps",
        {"batch": "batch_size", "size_px": "network.size_px"},
        {"batch": 2, "size_px": 32},
        {"batch": 4, "size_px": 64},
    ),
    Stage(
        "fomm",
        "1",
        "demo",
        "epochs",
        {"batch": "batch_size", "size_px": "model.size_px"},
        {"batch": 2, "size_px": 32},
        {"batch": 4, "size_px": 64},
    ),
    Stage(
        "motion",
        "1",
        "demo",
        "steps",
        {"batch": "batch_size", "num_frames": "num_frames"},
        {"batch": 8, "num_frames": 8},
        {"batch": 32, "num_frames": 16},
    ),
    Stage(
        "inbetween",
        "1",
        "demo",
        "steps",
        {"batch": "batch_size", "size_px": "size_px"},
        {"batch": 2, "size_px": 32},
        {"batch": 4, "size_px": 64},
    ),
)

_TRAINERS = sorted({f"{FAMILIES[each.family].package}.train" for each in STAGES})
"""Imported once for all processes that take steps."""


def prepare(stage: Stage, sizes: Sizes, root: Path) -> None:
    """Data below root/data, and a run of each earlier stage, or other family, it is built on."""
    size_px, num_frames = sizes.get("size_px", 32), _NUM_FRAMES + sizes.get("num_frames", 0)
    if stage.family == "behavior":
        behavior_world.prepare_poses(root / "data", {"train": 8, "val": 1}, num_frames=num_frames)
    elif stage.family == "shape-pose":
        behavior_world.prepare_pictures(
            root / "data", {"train": 4, "val": 1}, num_frames=4, size_px=size_px
        )
    elif stage.family == "poke":
        poke.prepare_squares(root / "data", counts=_COUNTS, size_px=size_px, num_frames=num_frames)
    else:
        cinn.prepare_squares(root / "data", counts=_COUNTS, size_px=size_px, num_frames=num_frames)
    row = FAMILIES[stage.family]
    for earlier in row.needs.get(stage.stage, ()):
        carry_out(
            request(stage._replace(stage=earlier), sizes, {}, root, max_steps=1), cinn.Heard()
        )
    for field, family in row.built_on.items():
        other = Stage(family, "1", "demo", "epochs", {}, {}, {}, {"model.size_px": size_px})
        asked = request(other, {}, {}, root, max_steps=1)
        carry_out(asked.model_copy(update={"run_dir": root / field}), cinn.Heard())


def usual_sizes(stage: Stage) -> Sizes:
    """Those of the preset, or what is the default where it says nothing."""
    config = _validated(stage, {}, {}).model_dump()
    found = {}
    for size, name in stage.names.items():
        value: Any = config
        for part in name.split("."):
            value = value[part]
        found[size] = int(value)
    return found


def train(
    stage: Stage, sizes: Sizes, changes: Mapping[str, Any], root: Path, max_steps: int
) -> tuple[Any, Path]:
    """Train a stage; returns what was heard of it and its run folder."""
    asked, heard = request(stage, sizes, changes, root, max_steps=max_steps), cinn.Heard()
    carry_out(asked, heard)
    return heard, asked.run_dir


class Stepped:
    """A training in a process of its own, which takes a step when it is told to."""

    def __init__(
        self,
        stage: Stage,
        sizes: Sizes,
        changes: Mapping[str, Any],
        root: Path,
        *,
        name: str,
        begin: Callable[[], None] | None = None,
    ) -> None:
        """name: of its run folder.  begin: called in the process before all else."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, *_TRAINERS])
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, stage, sizes, changes, root, name, begin)
        self._process = context.Process(target=_step_by_step, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._peak_mb = 0.0

    def step(self) -> float:
        """Take a step; returns its processor time, s. RuntimeError when the training failed."""
        self._pipe.send("step")
        return float(self._answer())

    def wait(self) -> None:
        """Return when the first step can be taken."""
        self._answer()

    def end(self) -> float:
        """End it; returns the MB that the training took at most, beyond what it began with."""
        self._pipe.send("end")
        found = float(self._answer())
        self._process.join()
        return found

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the training died") from None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


class _Told(cinn.Heard):
    """A Work that waits, between two steps, until it is told to go on."""

    def __init__(self, pipe: Any, idle_mb: float) -> None:
        super().__init__()
        self._pipe, self._idle_mb, self._started = pipe, idle_mb, 0.0

    def progress(self, task: str, done: float, total: float | None = None, unit: str = "") -> None:
        if unit != "steps":
            return
        self._pipe.send(time.process_time() - self._started)
        if self._pipe.recv() == "end":
            self._pipe.send(peak_memory_mb() - self._idle_mb)
            os._exit(0)
        self._started = time.process_time()


def _step_by_step(
    pipe: Any,
    stage: Stage,
    sizes: Sizes,
    changes: Mapping[str, Any],
    root: Path,
    name: str,
    begin: Callable[[], None] | None,
) -> None:
    torch.set_num_threads(1)
    try:
        if begin is not None:
            begin()
        asked = request(stage, sizes, changes, root, max_steps=10_000)
        carry_out(asked.model_copy(update={"run_dir": root / name}), _Told(pipe, resident_mb()))
        pipe.send("the training is over")
    except Exception as problem:
        pipe.send(f"{type(problem).__name__}: {problem}")


def resident_mb() -> float:
    """Memory of this process now, in 10^6 B."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def carry_out(request: Any, work: Any) -> None:
    """Train."""
    module = type(request).__module__.removesuffix(".config")
    importlib.import_module(f"{module}.train").train(request, work)


def request(
    stage: Stage, sizes: Sizes, changes: Mapping[str, Any], root: Path, *, max_steps: int
) -> Any:
    """The request to train a stage in root/runs/<stage>; changes: settings by their names."""
    row = FAMILIES[stage.family]
    runs = root / "runs"
    earlier = {f"{_label(each)}_run": runs / each for each in row.needs.get(stage.stage, ())}
    fields = {
        # so long that max_steps ends it
        "config": _validated(stage, sizes, {stage.length: 10_000, **changes}),
        "stage": stage.stage,
        "data_root": root / "data",
        "run_dir": runs / stage.stage,
        "max_steps": max_steps,
        **earlier,
        **{field: root / field for field in row.built_on},
    }
    return _found(row.target("train").request).model_validate(fields)


def _validated(stage: Stage, sizes: Sizes, changes: Mapping[str, Any]) -> Any:
    path = _CONF / stage.family / f"{stage.preset}.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["data"] = _DATA.get(stage.family, {"dataset": "squares"})
    config.setdefault("train", {}).update(device="cpu", threads=1, log_every=1, save_every=100_000)
    given = {stage.names[size]: value for size, value in sizes.items() if size in stage.names}
    for name, value in (dict(stage.others) | given | dict(changes)).items():
        put(config, name, value)
    if stage.family == "cinn" and sizes:  # how often the decoder doubles follows from the sizes
        put(config, "stage1.decoder_upsample_space", [max(1, sizes["size_px"] // 32), 1])
        num_frames = sizes.get("num_frames", 16)
        put(config, "stage1.decoder_upsample_time", [max(1, num_frames // 8), 1])
    found = _found(f"{FAMILIES[stage.family].package}.config:FamilyConfig")
    if "log" in found.model_fields:
        config["log"] = {"tensorboard": False}
    return found.model_validate(config)


_DATA = {
    "behavior": {"dataset": behavior_world.POSES, "variant": "poses"},
    "shape-pose": {"dataset": behavior_world.PICTURES},
}


def put(config: dict[str, Any], name: str, value: Any) -> None:
    """Set a value by its dotted name."""
    *sections, last = name.split(".")
    for section in sections:
        config = config.setdefault(section, {})
    config[last] = value


def _label(stage: str) -> str:
    return f"stage{stage}" if stage.isdecimal() else stage


def _found(dotted: str) -> Any:
    module, name = dotted.split(":")
    return getattr(importlib.import_module(module), name)
