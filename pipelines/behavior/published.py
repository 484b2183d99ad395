"""Published behaviour models on disk: which file is what, and what their settings say in our words
(spec: behavior, 2.9).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.training.published import SUFFIXES, State, read_settings, state_of

Settings = Mapping[str, Any]

_KINDS = {"net": "b_enc.", "flow": "flow.sub_layers.", "mtvae": "lstm_enc."}
"""Role of a file -> how an entry in it begins."""
_ARRAYS = {"keypoints_3d_world": "joints_world_m", "keypoints_3d": "joints_camera_m"}


@dataclass(frozen=True)
class PublishedModel:
    """A published model's folder. settings: of its config.yaml, flat; empty without one."""

    folder: Path
    files: Mapping[str, Path]
    settings: Settings


def weight_files(path: Path, *, family: str) -> list[Path]:
    """The files of weights in a folder, of several iterations the last; or the file itself.

    Raises UserError when there is none.
    """
    if path.is_file():
        return [path]
    found = [each for each in sorted(path.rglob("*")) if each.name.lower().endswith(SUFFIXES)]
    if not found:
        raise UserError(
            f"no published weights of {family} here",
            {
                "looked for": f"{path}/**/*{SUFFIXES[0]}",
                "run first": "i2v download weights/behavior",
            },
            EXIT_NO_DATA,
        )
    newest: dict[tuple[Path, str], Path] = {}
    for each in sorted(found, key=iteration):
        newest[each.parent, re.sub(r"_?\d+$", "", each.name.split(".")[0])] = each
    return list(newest.values())


def iteration(path: Path) -> int:
    """The number behind the last underscore of a file's name, -1 without one."""
    number = re.search(r"_(\d+)$", path.name.split(".")[0])
    return int(number[1]) if number else -1


def weights_in(content: Any, path: Path) -> State:
    """The state dict in a file: bare, or under "model" beside an optimizer; without "module."."""
    inner = content.get("model", content) if isinstance(content, Mapping) else content
    state = state_of(inner, path)
    return {key.removeprefix("module."): value for key, value in state.items()}


def role_of(state: State) -> str | None:
    """What a file of weights is, by its entries: a key of _KINDS, or None."""
    for role, prefix in _KINDS.items():
        if any(key.startswith(prefix) for key in state):
            return role
    return None


def settings_beside(files: Iterable[Path]) -> Settings:
    """The values in a config.yaml beside or above the weights, without their sections."""
    for path in files:
        for home in (path.parent, *list(path.parents)[1:4]):
            for candidate in (home / "config.yaml", home / "config" / "config.yaml"):
                if candidate.is_file():
                    return flat(read_settings(candidate))
    return {}


def flat(settings: Settings) -> dict[str, Any]:
    """All values by their last name: the released files have them in sections, or not."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            for inner, each in flat(value).items():
                found.setdefault(inner, each)
        else:
            found[name] = value
    return found


def our_settings(model: PublishedModel, states: Mapping[str, State]) -> dict[str, Any]:
    """Content of FamilyConfig: sizes as the weights have them, the rest as the settings say."""
    settings = model.settings
    if settings.get("decoder_arch", "lstm") != "lstm":
        raise UserError(
            f"the published decoder '{settings['decoder_arch']}' never worked",
            {"looked in": model.folder, "to fix": "give a model whose decoder is an lstm"},
            EXIT_USAGE,
        )
    lengths = settings.get("seq_length")
    array = _ARRAYS.get(str(settings.get("keypoint_type", "keypoints_3d_world")))
    found = {
        "data": {"dataset": "h36m", "variant": "poses"},
        "poses": _given(
            {
                "array": array,
                "num_frames": lengths[0] if lengths else None,
                "lag": settings.get("sequential_frame_lag"),
            }
        ),
        "stage1": _stage1(settings, states),
    }
    if "flow" in states:
        found["stage2"] = {"flow": _flow_sizes(states["flow"])}
    return found


def _stage1(settings: Settings, states: Mapping[str, State]) -> dict[str, Any]:
    control = _given(
        {
            "initial": settings.get("gamma_init"),
            "step": settings.get("gamma_step"),
            "largest_information": settings.get("information_max"),
            "scaling": settings.get("imax_scaling"),
            "is_fixed": settings.get("cvae"),
        }
    )
    common = _given(
        {
            "batch_size": settings.get("batch_size"),
            "epochs": settings.get("n_epochs"),
            "milestones": settings.get("tau"),
        }
    )
    if "mtvae" in states:
        state = states["mtvae"]
        sizes = _given(
            {
                "width": state["lstm_enc.weight_hh_l0"].shape[1],
                "code_size": state["inv_z.weight"].shape[0],
                "num_condition": settings.get("n_cond"),
            }
        )
        pose_size = state["lstm_enc.weight_ih_l0"].shape[1]
        return {"kind": "mt-vae", "mtvae": sizes, "net": {"pose_size": pose_size}, **common}
    state = states["net"]
    weights = _given(
        {
            "weight_reconstruction": settings.get("recon_loss_weight"),
            "weight_regressor": settings.get("weight_regressor"),
        }
    )
    net = {
        "pose_size": state["b_enc.rnn.weight_ih_l0"].shape[1],
        "code_size": state["b_enc.rnn.weight_hh_l0"].shape[1],
        "has_input_layer": "decoder.n_in.weight" in state,
    }
    return {"net": net, "losses": weights, "kl": control, **common}


def _flow_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    numbers = [int(key.split(".")[2]) for key in state if key.startswith("flow.sub_layers.")]
    first = "flow.sub_layers.0.coupling.s.0.main."
    layers = {int(key[len(first) :].split(".")[0]) for key in state if key.startswith(first)}
    width = state[f"{first}0.weight"].shape[0]
    return {"num_flows": max(numbers) + 1, "hidden_width": width, "hidden_depth": len(layers) - 2}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
