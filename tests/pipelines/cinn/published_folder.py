"""Model folders as they were published, made from networks of ours or from given state dicts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# our name (a pattern) -> the published one
_SPECTRAL = ((r"\.norm\.left$", ".weight_u"), (r"\.norm\.right$", ".weight_v"))
_BLOCK = (
    (r"^blocks\.0\.", "head_0."),
    (r"^blocks\.(\d)\.", lambda found: f"g_{int(found[1]) - 1}."),
    (r"\.conv1\.", ".conv_0."),
    (r"\.conv2\.", ".conv_1."),
    (r"\.spade\.to_", ".norm_0.conv_"),
    (r"\.spade\.conv\.", ".norm_0.conv."),
    (r"\.adain\.from_code\.", ".norm_1.linear."),
    (r"\.shortcut\.0\.", ".norm_s.bn."),
    (r"\.shortcut\.1\.", ".conv_s."),
    (r"^from_code\.", "fc."),
    (r"^to_frames\.", "conv_img."),
    *_SPECTRAL,
)
_ENCODER = (
    (r"^conv\.", "conv1."),
    (r"^norm\.", "norm1."),
    (r"^groups\.(\d)\.(\d)\.conv", r"layer.\1.\2.conv"),
    (r"^groups\.(\d)\.(\d)\.norm", r"layer.\1.\2.bn"),
    (r"^groups\.(\d)\.(\d)\.shortcut", r"layer.\1.\2.downsample"),
    (r"^to_mean\.", "conv_mu."),
    (r"^to_log_variance\.", "conv_var."),
)
_IMAGE_ENCODER = (
    (r"^conv\.", "model.conv1."),
    (r"^norm\.", "model.bn1."),
    (r"^stages\.(\d)\.(\d+)\.norm", lambda f: f"model.layer{int(f[1]) + 1}.{f[2]}.bn"),
    (r"^stages\.(\d)\.(\d+)\.shortcut", lambda f: f"model.layer{int(f[1]) + 1}.{f[2]}.downsample"),
    (r"^stages\.(\d)\.(\d+)\.", lambda f: f"model.layer{int(f[1]) + 1}.{f[2]}."),
    (r"^to_moments\.", "model.fc.sub_layers.0."),
)
_FLOW = (
    (r"^blocks\.(\d+)\.norm\.", r"sub_layers.\1.norm_layer."),
    (r"^blocks\.(\d+)\.coupling\.log_scale\.(\d)\.", r"sub_layers.\1.coupling.s.\2.main."),
    (r"^blocks\.(\d+)\.coupling\.shift\.(\d)\.", r"sub_layers.\1.coupling.t.\2.main."),
    (r"^blocks\.(\d+)\.order", r"sub_layers.\1.shuffle.forward_shuffle_idx"),
)


def encoder_state(network: nn.Module) -> dict[str, Tensor]:
    return _published(network, _ENCODER)


def decoder_state(network: nn.Module) -> dict[str, Tensor]:
    state = _published(network, _BLOCK)
    normalised = [key.removesuffix("weight_u") for key in state if key.endswith("weight_u")]
    return {_original(key, normalised): value for key, value in state.items()}


def image_encoder_state(network: nn.Module) -> dict[str, Tensor]:
    state = _published(network, _IMAGE_ENCODER)
    name = "model.fc.sub_layers.0.weight"
    return state | {name: state[name][..., None, None]}


def flow_state(network: nn.Module) -> dict[str, Tensor]:
    state = _published(network, _FLOW)
    for key in list(state):
        if key.endswith(("loc", "scale")):
            state[key] = state[key].view(1, -1, 1, 1)
        if key.endswith("forward_shuffle_idx"):
            state[key.replace("forward", "backward")] = state[key].argsort()
    return state


def write_model(
    root: Path,
    *,
    settings: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, Mapping[str, Tensor]],
    suffix: str = ".pth",
    encoder_name: str = "Encoder_stage2",
    flow_folder: str = "stage2",
) -> Path:
    """A model folder. settings: yaml content of stage1, ae, stage2. states: decoder, encoder,
    embedder, flow; an encoder may be left out.
    """
    stage1, image, flow = root / "stage1" / "run7", root / "stage2" / "AE", root / flow_folder
    for folder in (stage1, image, flow):
        folder.mkdir(parents=True, exist_ok=True)
    _write_yaml(stage1 / "config_stage1.yaml", settings["stage1"])
    _write_yaml(image / "config_stage2_AE.yaml", settings["ae"])
    parts = {
        "First_stage_model": {
            "model_path": f"models/{root.name}/stage1/",
            "model_name": "run7",
            "checkpoint_decoder": "best_PFVD_GEN",
            "checkpoint_encoder": "best_PFVD_ENC",
        },
        "Conditioning_Model": {
            "model_path": f"models/{root.name}/stage2/",
            "model_name": "AE",
            "checkpoint_name": "Encoder_stage2",
            "z_dim": settings["ae"]["AE"]["z_dim"],
        },
    }
    _write_yaml(flow / "config_stage2.yaml", {**settings["stage2"], **parts})
    _save(stage1 / "best_PFVD_GEN.pth", states["decoder"])
    if "encoder" in states:
        _save(stage1 / f"best_PFVD_ENC{suffix}", states["encoder"])
    _save(image / f"{encoder_name}.pth", states["embedder"])
    _save(flow / "cINN.pth", states["flow"])
    return root


def _save(path: Path, state: Mapping[str, Tensor]) -> None:
    optimizer = {"state": {}, "param_groups": [{"lr": 2e-4, "betas": (0.5, 0.9), "params": [0]}]}
    file = {"epoch": 55, "state_dict": dict(state), "optim_state_dict": optimizer}
    torch.save(file, path)


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """YAML as the published tools leave it: lists as Python tuples, 1e-05 without a point."""
    path.write_text(_yaml(content), encoding="utf-8")


def _yaml(content: Mapping[str, Any], indent: str = "") -> str:
    lines = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{key}:\n{_yaml(value, indent + '  ')}")
        elif isinstance(value, list | tuple):
            items = "".join(f"\n{indent}- {each}" for each in value)
            lines.append(f"{indent}{key}: !!python/tuple{items}\n")
        else:
            lines.append(f"{indent}{key}: {value}\n")
    return "".join(lines)


def _published(network: nn.Module, rules: Any) -> dict[str, Tensor]:
    found = {}
    for key, value in network.state_dict().items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        found[key] = value.clone()
    return found


def _original(key: str, normalised: list[str]) -> str:
    stem = key.removesuffix("weight")
    return f"{stem}weight_orig" if key.endswith(".weight") and stem in normalised else key
