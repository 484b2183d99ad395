"""Published checkpoints of the family: where one is, and the settings that its weights tell.

The file holds all networks; its settings lie in the published code and not beside it, but all that
decides the networks can be read from the shapes (spec: completion, B and F).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.training.published import SUFFIXES

Shapes = Mapping[str, Tensor]

REQUIRED = ("kp_detector", "generator")
_SCALES = {5: 0.5, 13: 0.25, 29: 0.125}
"""Side of the stored blur kernel -> scale factor."""
_WORKING_PX = 64  # size that keypoints and motion are found at in every published configuration
_WIDEST = 1024


def find_file(path: Path) -> Path:
    """The one checkpoint in a folder; or the file itself.

    Raises UserError when there is none, or several.
    """
    if path.is_file():
        return path
    found = [
        each
        for each in sorted(path.iterdir())
        if each.is_file() and each.name.lower().endswith(SUFFIXES)
    ]
    if not found:
        raise UserError(
            "no published fomm model here",
            {
                "looked for": path / "*.pth.tar",
                "to fix": "give the checkpoint itself, such as vox-cpk.pth.tar",
            },
            EXIT_NO_DATA,
        )
    if len(found) > 1:
        raise UserError(
            f"{len(found)} published models are here, one can be imported at a time",
            {
                "looked in": path,
                "found": ", ".join(each.name for each in found[:6]),
                "to fix": f"name one: i2v import fomm {found[0]}",
            },
            EXIT_USAGE,
        )
    return found[0]


def networks_in(content: Any, path: Path) -> dict[str, dict[str, Tensor]]:
    """The state dicts of a published file by their published names, without a wrapper's prefix."""
    names = (*REQUIRED, "discriminator")
    is_dict = isinstance(content, Mapping)
    found = {
        name: {
            key.removeprefix("module."): value
            for key, value in content[name].items()
            if isinstance(value, Tensor)
        }
        for name in names
        if is_dict and isinstance(content.get(name), Mapping)
    }
    missing = [name for name in REQUIRED if not found.get(name)]
    if missing:
        raise UserError(
            f"the file '{path.name}' is no published fomm checkpoint",
            {
                "file": path,
                "reason": f"it has no {' and no '.join(missing)}",
                "to fix": "give a file such as vox-cpk.pth.tar or vox-adv-cpk.pth.tar",
            },
            EXIT_NO_DATA,
        )
    return found


def settings_of(networks: Mapping[str, Shapes], path: Path) -> dict[str, Any]:
    """Content of FamilyConfig, from the shapes of published weights.

    Sampling is as the published code runs today (grid_align_corners is false).
    """
    try:
        return {"model": _model(networks)}
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"the networks in '{path.name}' are none that this family knows",
            {"file": path, "missing or unknown": error, "to fix": "download the file again"},
            EXIT_NO_DATA,
        ) from error


def _model(networks: Mapping[str, Shapes]) -> dict[str, Any]:
    keypoints, generator = networks["kp_detector"], networks["generator"]
    num_keypoints = keypoints["kp.weight"].shape[0]
    scale = _scale(keypoints, "down.weight")
    jacobian = keypoints.get("jacobian.weight")
    is_single = jacobian is not None and jacobian.shape[0] == 4 and num_keypoints > 1
    first = generator["first.conv.weight"]
    num_down = _count(generator, "down_blocks.{}.conv.weight")
    found = {
        "size_px": round(_WORKING_PX / scale),
        "num_keypoints": num_keypoints,
        "num_channels": first.shape[1],
        "grid_align_corners": False,
        "keypoints": _hourglass(keypoints, "predictor.")
        | {
            "scale_factor": scale,
            "has_jacobian": jacobian is not None,
            "has_single_jacobian_map": is_single,
        },
        "generator": {
            "block_expansion": first.shape[0],
            "num_down_blocks": num_down,
            "max_features": _cap(
                [generator[f"down_blocks.{i}.conv.weight"].shape[0] for i in range(num_down)],
                first.shape[0],
                512,
            ),
            "num_bottleneck_blocks": _count(generator, "bottleneck.r{}.conv1.weight"),
            "has_occlusion_map": "dense_motion_network.occlusion.weight" in generator,
            "dense_motion": _hourglass(generator, "dense_motion_network.hourglass.")
            | {"scale_factor": _scale(generator, "dense_motion_network.down.weight")},
        },
    }
    if "discriminator" in networks:
        found["discriminator"] = _discriminator(networks["discriminator"], first.shape[1])
    return found


def _hourglass(state: Shapes, prefix: str) -> dict[str, int]:
    num_blocks = _count(state, prefix + "encoder.down_blocks.{}.conv.weight")
    widths = [
        state[f"{prefix}encoder.down_blocks.{i}.conv.weight"].shape[0] for i in range(num_blocks)
    ]
    width = state[f"{prefix}decoder.up_blocks.{num_blocks - 1}.conv.weight"].shape[0]
    return {
        "block_expansion": width,
        "num_blocks": num_blocks,
        "max_features": _cap(widths, width, _WIDEST),
    }


def _discriminator(state: Shapes, num_channels: int) -> dict[str, Any]:
    names = sorted({key.split(".")[1] for key in state})
    leaf = "weight_orig" if any(key.endswith("weight_orig") for key in state) else "weight"
    block = f"discs.{names[0]}.down_blocks.{{}}.conv.{leaf}"
    num_blocks = _count(state, block)
    widths = [state[block.format(i)].shape[0] for i in range(num_blocks)]
    return {
        "scales": [float(name.replace("-", ".")) for name in names],
        "block_expansion": widths[0] // 2,
        "max_features": _cap(widths, widths[0] // 2, 512),
        "num_blocks": num_blocks,
        "sees_keypoints": state[block.format(0)].shape[1] > num_channels,
        "has_spectral_norm": leaf == "weight_orig",
    }


def _count(state: Shapes, pattern: str) -> int:
    number = 0
    while pattern.format(number) in state:
        number += 1
    return number


def _cap(widths: list[int], first: int, usual: int) -> int:
    """The limit of the widths, which double from the first on: the usual one where none shows."""
    unlimited = first * 2 ** len(widths)
    return max(widths) if widths and widths[-1] < unlimited else max(usual, *widths, 1)


def _scale(state: Shapes, key: str) -> float:
    return _SCALES[state[key].shape[-1]] if key in state else 1.0
