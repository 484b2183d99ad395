"""Published renderers on disk: their weights and what their settings say in our words
(spec: behavior, 2.9, 7).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.training.published import (
    SUFFIXES,
    State,
    read_checkpoint,
    read_settings,
    state_of,
)

Settings = Mapping[str, Any]

_DATASETS = {"human3.6m": "h36m", "human36m": "h36m", "deepfashion": "deepfashion"}
_PARTS = 30


@dataclass(frozen=True)
class PublishedModel:
    """net, regressor: state dicts, names as published.  files: by the same names.

    settings: of the config.yaml, flat; empty without one.
    """

    net: State
    regressor: State | None
    files: Mapping[str, Path]
    settings: Settings


def find_model(path: Path, *, trust: bool, work: Work) -> PublishedModel:
    """The one renderer in a folder, or in a file. Raises UserError for none, or several."""
    paths = _weights(path)
    states: dict[str, State] = {}
    files: dict[str, Path] = {}
    for number, each in enumerate(paths, 1):
        content = read_checkpoint(each, trust=trust)
        inner = content.get("model", content) if isinstance(content, Mapping) else content
        state = {k.removeprefix("module."): v for k, v in state_of(inner, each).items()}
        role = _role(state)
        if role == "net" and role in files and files[role].parent != each.parent:
            raise UserError(
                "several published renderers are here, one can be imported at a time",
                {
                    "found": f"{files[role]}, {each}",
                    "to fix": f"name one: i2v import shape-pose {each.parent}",
                },
                EXIT_USAGE,
            )
        if role is not None:
            states[role], files[role] = state, each
        work.progress("read published weights", number, len(paths), "files")
    if "net" not in states:
        raise UserError(
            f"no published renderer in '{path.name}'",
            {
                "looked in": path,
                "to fix": "give the folder of a shape-and-posture net or a VUNet: .pth files and "
                "config.yaml",
            },
            EXIT_NO_DATA,
        )
    return PublishedModel(states["net"], states.get("regressor"), files, _settings(files["net"]))


def _weights(path: Path) -> list[Path]:
    """Files of weights; later iterations after earlier ones, so that the last one counts."""
    if path.is_file():
        return [path]

    def order(each: Path) -> tuple[Path, int]:
        numbers = re.findall(r"\d+", each.name.split("=")[0].split(".pth")[0])
        return each.parent, int(numbers[-1]) if numbers else -1

    found = [each for each in path.rglob("*") if each.name.lower().endswith(SUFFIXES)]
    newest: dict[tuple[Path, str], Path] = {}
    for each in sorted(found, key=order):
        newest[each.parent, re.sub(r"[\d@=.\-].*", "", each.name)] = each
    if not newest:
        raise UserError(
            "no published weights of shape-pose here",
            {
                "looked for": f"{path}/**/*{SUFFIXES[0]}",
                "run first": "i2v download weights/behavior",
            },
            EXIT_NO_DATA,
        )
    return list(newest.values())


def _role(state: State) -> str | None:
    if any(key.startswith("eu.") for key in state):
        return "net"
    return "regressor" if any(key.startswith("embedders.") for key in state) else None


def _settings(path: Path) -> Settings:
    for home in (path.parent, *list(path.parents)[1:4]):
        for candidate in (home / "config.yaml", home / "config" / "config.yaml"):
            if candidate.is_file():
                return _flat(read_settings(candidate))
    return {}


def _flat(settings: Settings) -> dict[str, Any]:
    """All values by their last name; of the same name in two sections the first."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value) if isinstance(value, Mapping) else {name: value}
        for key, each in inner.items():
            found.setdefault(key, each)
    return found


def our_settings(found: PublishedModel) -> dict[str, Any]:
    """Content of FamilyConfig: sizes as the weights have them, the rest as the settings say."""
    settings, state = found.settings, found.net
    is_baseline = any(".auto_lp." in key for key in state)
    channels = int(_weight(state, "eu.nin").shape[1])
    num_scales = _count(state, r"^du\.downs\.(\d+)\.") + 1
    appearance_scales = _count(state, r"^eu\.downs\.(\d+)\.") + 1
    dataset = str(settings.get("dataset", "")).lower()
    ours = _DATASETS.get(dataset, "market" if "market" in dataset else None)
    if ours is None:
        ours = "h36m" if channels < _PARTS else "deepfashion"
    size_px = int(settings.get("spatial_size", 128 if ours == "market" else 256))
    network = {
        "size_px": size_px,
        "appearance_channels": channels,
        "width": int(_weight(state, "eu.nin").shape[0]),
        "max_width": int(_weight(state, "ed.nin").shape[0]),
        "bottleneck_factor": 1 + round(math.log2(size_px)) - num_scales,
        "box_factor": num_scales - appearance_scales if channels >= _PARTS else 2,
        "convolution": _convolution(state),
        "has_subpixel_upsampling": _has_subpixels(state, num_scales),
    }
    return {
        "kind": "vunet" if is_baseline else "shape-pose",
        "data": {"dataset": ours},
        "people": {"joints": f"joints_{ours}"},
        "network": network,
        **_training(settings, is_baseline=is_baseline),
    }


def _training(settings: Settings, *, is_baseline: bool) -> dict[str, Any]:
    names = {
        "batch_size": "batch_size",
        "steps": "end_iteration",
        "weight_likelihood": "ll_weight",
        "steps_without_kl": "n_init_batches",
    }
    found = {ours: settings.get(theirs) for ours, theirs in names.items()}
    rest = {name: value for name, value in found.items() if value is not None}
    return rest | ({"regressor": None} if is_baseline else {})


def _convolution(state: State) -> str:
    if "eu.nin.conv.weight_v" in state:
        return "l1"
    return "instance" if "eu.nin.conv.weight" in state else "l2"


def _has_subpixels(state: State, num_scales: int) -> bool:
    """Whether the decoder's last upsampling makes four times the channels that go on."""
    made = _weight(state, f"dd.ups.{num_scales - 2}.up").shape[0]
    return bool(made == 4 * _weight(state, "dd.out_conv").shape[1])


def _weight(state: State, name: str) -> Any:
    names = (f"{name}.{each}" for each in ("conv.weight_v", "conv.weight", "weight"))
    return next(state[each] for each in names if each in state)


def _count(state: State, pattern: str) -> int:
    numbers = [int(found[1]) for key in state if (found := re.match(pattern, key))]
    return max(numbers, default=-1) + 1
