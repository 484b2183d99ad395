"""Weight files of every published variant, random values under the true names and shapes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from pipelines.flownet2.config import NETWORKS

_CASES = Path(__file__).parents[2] / "parity" / "cases" / "flow"


def published_shapes(network: str) -> dict[str, list[int]]:
    """Published name -> shape of every entry of a variant."""
    case = NETWORKS[network].title.replace("-", "").lower()
    document = json.loads((_CASES / f"{case}.json").read_text(encoding="utf-8"))
    return {name: shape for name, shape, _ in document["state"]}


def published_state(network: str, seed: int = 0) -> dict[str, Tensor]:
    """Weights at which activations neither grow nor vanish."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in published_shapes(network).items():
        values = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            state[name] = 0.01 * values
            continue
        # of a transposed convolution, only every fourth tap meets a given output
        taps = shape[0] * 4 if "deconv" in name or "upsampled" in name else values[0].numel()
        state[name] = values * (1.4 / taps**0.5)
    return state


def write_published(path: Path, state: dict[str, Tensor]) -> Path:
    """A file of the published layout, in the old format without a zip."""
    content = {"epoch": 0, "state_dict": state, "best_EPE": 1e10}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path
