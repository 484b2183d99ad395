"""The form that a CPU samples from gives the answers of the model it was made of."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.poke.build import build_model
from pipelines.poke.config import FamilyConfig
from pipelines.poke.inference import answer_video
from pipelines.poke.networks import PokeModel
from pipelines.poke.sampling_form import PackedGru, for_sampling

SIZE_PX = 32
WIDE: dict[str, Any] = {"size_px": SIZE_PX, "widths": [32, 64], "deep": 64}


def trained_like(**changes: Any) -> PokeModel:
    """A model with random weights, of which those that a training would move are not at 0."""
    config = FamilyConfig.model_validate(
        {"model": {**WIDE, **changes}, "poke": {"length_aware": True}}
    )
    torch.manual_seed(0)
    model = build_model(config).eval().requires_grad_(False)
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            value.copy_(0.1 * torch.randn_like(value))
    return model


def asked(batch: int) -> tuple[Tensor, Tensor]:
    """Images with flat parts, as people draw them, and pokes in the middle."""
    draw = torch.Generator().manual_seed(1)
    images = torch.full((batch, 3, SIZE_PX, SIZE_PX), 0.9)
    images[:, :, 8:24, 10:20] = torch.rand((batch, 3, 16, 10), generator=draw) * 2 - 1
    pokes = torch.zeros(batch, 2, SIZE_PX, SIZE_PX)
    pokes[:, 0, 15:18, 15:18], pokes[:, 1, 15:18, 15:18] = 4.0, -2.0
    return images, pokes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": "group", "spectral_decoder": True},
        {"norm": "none", "sees_image": True},
        {"norm": "bn"},
        {"kind": "single-scale", "widths": []},
        {"widths": [], "smallest_px": 8, "deep": 128},
        {"widths": [8, 40]},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 5])
def test_every_layout_answers_as_the_model_it_was_made_of(changes, batch):
    model = trained_like(**changes)
    form = for_sampling(copy.deepcopy(model))
    assert any(isinstance(each, PackedGru) for each in form.modules())
    images, pokes = asked(batch)
    expected = answer_video(model, images, pokes, 6, schedule="there-and-back")
    for _ in range(2):  # weights are packed by the first answer
        found = answer_video(form, images, pokes, 6, schedule="there-and-back")
        assert float((found - expected).abs().max()) < 2e-4
