"""The runs that the page offers, and what each can be asked; read from their settings alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from pipelines.cinn.config import FamilyConfig as CinnConfig
from pipelines.files import natural_key, read_json
from pipelines.fomm.config import FamilyConfig as FommConfig
from pipelines.inbetween.config import NUM_FRAMES as NUM_BETWEEN
from pipelines.inbetween.config import FamilyConfig as InbetweenConfig
from pipelines.poke.config import FamilyConfig as PokeConfig

Ability = Literal["poke", "sample", "transfer", "between"]


@dataclass(frozen=True)
class Facts:
    """What the settings of a run say.

    num_frames: of an answer that is not asked for more.  fps: at which it is shown.
    pace: frames of its data from one frame of an answer to the next.
    lag: frames of its data after which an arrow's motion is reached.
    has_endpoint: whether it must be told where an arm shall end.
    has_keypoints: whether it moves keypoints, so that a motion may be relative.
    kinds: of generated pictures that it was trained on.
    end_after: frames of its data from a first to a last picture, of a model that fills in between.
    """

    can: tuple[Ability, ...]
    size_px: int
    num_frames: int
    fps: float
    has_endpoint: bool = False
    has_keypoints: bool = False
    pace: int = 1
    lag: int = 1
    kinds: tuple[str, ...] = ()
    end_after: int | None = None


@dataclass(frozen=True)
class ServedRun:
    """A run that can be asked. name: unique on the page."""

    name: str
    path: Path
    family: str
    step: int
    facts: Facts


def _poke(config: Mapping[str, Any]) -> Facts:
    found = PokeConfig.model_validate(config)
    return Facts(
        can=("poke",),
        size_px=found.model.size_px,
        num_frames=found.clips.num_frames,
        fps=5.0,
        pace=found.clips.frame_step,
        lag=found.flow_lag,
        kinds=_kinds(found.data.dataset, found.data.include),
    )


def _cinn(config: Mapping[str, Any]) -> Facts:
    found = CinnConfig.model_validate(config)
    is_controlled, in_image = found.stage2.is_controlled, found.stage2.endpoint_in_image
    can: tuple[Ability, ...] = ("sample", "transfer")
    if is_controlled:  # an endpoint that lies in the arm's own space cannot be pointed at
        can = ("sample",) if in_image else ()
    return Facts(
        can=can,
        size_px=found.stage1.size_px,
        num_frames=found.stage1.num_frames,
        fps=8.0,
        has_endpoint=is_controlled and in_image,
        kinds=_kinds(found.data.dataset, found.data.include),
    )


def _fomm(config: Mapping[str, Any]) -> Facts:
    found = FommConfig.model_validate(config)
    return Facts(
        can=("transfer",),
        size_px=found.model.size_px,
        num_frames=found.validation_frames,
        fps=10.0,
        has_keypoints=True,
        kinds=_kinds(found.data.dataset, found.data.include),
    )


def _inbetween(config: Mapping[str, Any]) -> Facts:
    found = InbetweenConfig.model_validate(config)
    return Facts(
        can=("between",),
        size_px=found.size_px,
        num_frames=NUM_BETWEEN,
        fps=8.0,
        kinds=_kinds(found.data.dataset, found.data.include),
        end_after=found.frame_step * (NUM_BETWEEN - 1),
    )


FAMILIES: dict[tuple[str, str], Callable[[Mapping[str, Any]], Facts]] = {
    ("poke", "1"): _poke,
    ("cinn", "2"): _cinn,
    ("fomm", "1"): _fomm,
    ("inbetween", "1"): _inbetween,
}
"""For each family and the stage that holds its whole model, what its settings mean here."""


def list_runs(runs: Sequence[Path], runs_root: Path) -> list[ServedRun]:
    """The runs that were chosen, else all under runs_root, that have a model to ask; by name."""
    paths = runs or sorted(
        (path for path in runs_root.iterdir() if not path.name.startswith("."))
        if runs_root.is_dir()
        else (),
        key=lambda path: natural_key(path.name),
    )
    served: list[ServedRun] = []
    for path in paths:
        taken = {each.name for each in served}
        name = next(name for name in _names(path) if name not in taken)
        if found := read_run(path, name):
            served.append(found)
    return served


def read_run(path: Path, name: str) -> ServedRun | None:
    """The run in a folder; None when there is none that the page could ask."""
    try:
        record = read_json(path / "run.json")
        family, stage = str(record["family"]), str(record["stage"])
        config_path = path / "config.yaml"
        facts = _facts(family, stage, config_path, config_path.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, ValidationError):
        return None
    steps = [
        int(each.parent.name.removeprefix("step-"))
        for each in path.glob("checkpoints/step-*/meta.json")
        if each.parent.name.removeprefix("step-").isdigit()
    ]
    return ServedRun(name, path, family, max(steps), facts) if steps else None


@functools.lru_cache(maxsize=256)
def _facts(family: str, stage: str, config_path: Path, changed_ns: int) -> Facts:
    """changed_ns: so that a file that has changed is read again."""
    request = yaml.safe_load(config_path.read_text(encoding="utf-8"))
    return FAMILIES[family, stage](request["config"])


def _names(path: Path) -> Iterator[str]:
    yield path.name
    number = 2
    while True:
        yield f"{path.name} ({number})"
        number += 1


def _kinds(dataset: str, include: Sequence[str]) -> tuple[str, ...]:
    """Of the generated data: the kinds that the patterns begin with."""
    if dataset != "synthetic":
        return ()
    return tuple(dict.fromkeys(each.split("/")[0] for each in include if "/" in each))
