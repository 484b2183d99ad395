"""Published names of weights -> ours (spec: completion, B.7): pure functions on state dicts.

`import_published` makes run folders of whole published models with them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pipelines.events import Work
from pipelines.fomm import published
from pipelines.fomm.config import FamilyConfig
from pipelines.fomm.networks import build
from pipelines.nn.spectral_norm import spectral_key
from pipelines.training.config import ImportRequest
from pipelines.training.published import ImportedRun, check_fit, read_checkpoint, write_run

_Rules = Sequence[tuple[str, str]]
_HOURGLASS: _Rules = (
    (r"\bencoder\.down_blocks\.", "encoder."),
    (r"\bdecoder\.up_blocks\.", "decoder."),
)
_KEYPOINTS: _Rules = ((r"^predictor\.", "hourglass."), (r"^kp\.", "heatmap."), *_HOURGLASS)
_GENERATOR: _Rules = (
    (r"^dense_motion_network\.", "dense_motion."),
    *_HOURGLASS,
    (r"^down_blocks\.", "down."),
    (r"^up_blocks\.", "up."),
    (r"^bottleneck\.r", "bottleneck."),
)
_DISCRIMINATOR: _Rules = (
    (r"down_blocks\.(\d+)\.conv\.", r"convs.\1."),
    (r"down_blocks\.(\d+)\.norm\.", r"norms.\1."),
    (r"^((?:by_scale\.)?\d+)\.conv\.", r"\1.final."),
)


def import_published(request: ImportRequest, work: Work) -> dict[str, Any]:
    """Make a run folder of a published checkpoint; its discriminator comes along if it is there."""
    path = published.find_file(request.path)
    content = read_checkpoint(path, trust=request.trust_checkpoint)
    found = published.networks_in(content, path)
    config = FamilyConfig.model_validate(published.settings_of(found, path))
    states = {
        "keypoint_detector": keypoint_state(found["kp_detector"]),
        "generator": generator_state(found["generator"]),
    }
    if "discriminator" in found:
        scales = config.model.discriminator.scales
        states["discriminator"] = discriminator_state(found["discriminator"], scales)
    else:
        work.log("the file has no discriminator: a training from here begins it anew")
    with torch.device("meta"):
        networks = vars(build(config.model))
    for name, state in states.items():
        check_fit(networks[name], state, path)
    settings = {
        "config": config.model_dump(mode="json"),
        "stage": "1",
        "run_dir": str(request.run_dir),
        "imported_from": str(request.path),
    }
    write_run(request.run_dir, ImportedRun("fomm", "1", settings, states, [path]))
    work.artifact(request.run_dir, "run")
    return {"run": str(request.run_dir), "family": "fomm", "stage": "1", "files": [str(path)]}


def keypoint_key(key: str) -> str | None:
    """Ours for an entry of `kp_detector`; None for the stored blur kernel, which we compute."""
    return None if _is_kernel(key) else _renamed(key, _KEYPOINTS)


def generator_key(key: str) -> str | None:
    """Ours for an entry of `generator`; None for the stored blur kernel."""
    return None if _is_kernel(key) else _renamed(key, _GENERATOR)


def dense_motion_key(key: str) -> str | None:
    """Ours for an entry of a dense motion network that stands alone."""
    return None if _is_kernel(key) else _renamed(key, _HOURGLASS)


def discriminator_key(key: str, scales: Sequence[float]) -> str:
    """Ours for an entry of `discriminator`, whose parts are named by their scale."""
    _, name, rest = key.split(".", 2)
    number = [_scale_name(scale) for scale in scales].index(name)
    return spectral_key(_renamed(f"by_scale.{number}.{rest}", _DISCRIMINATOR))


def keypoint_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of KeypointDetector."""
    return {name: value for key, value in published.items() if (name := keypoint_key(key))}


def generator_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of OcclusionAwareGenerator."""
    return {name: value for key, value in published.items() if (name := generator_key(key))}


def dense_motion_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of DenseMotionNetwork."""
    return {name: value for key, value in published.items() if (name := dense_motion_key(key))}


def discriminator_state(
    published: Mapping[str, Tensor], scales: Sequence[float]
) -> dict[str, Tensor]:
    """State dict of MultiScaleDiscriminator with these scales."""
    return {discriminator_key(key, scales): value for key, value in published.items()}


def _is_kernel(key: str) -> bool:
    return key.endswith("down.weight")


def _scale_name(scale: float) -> str:
    return f"{scale:g}".replace(".", "-")


def _renamed(key: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key
