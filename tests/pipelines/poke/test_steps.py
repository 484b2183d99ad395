"""The forms that a training step takes on a CPU compute what the plain ones do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from pipelines.nn.repeated_convolution import pays_repeated
from pipelines.poke import recurrence, steps
from pipelines.poke.build import build_model
from pipelines.poke.config import FamilyConfig
from pipelines.poke.networks import Layout, PokeModel, SingleScaleModel, States, joined
from pipelines.poke.recurrence import moved_states
from tests.pipelines.poke.tiny import CONFIG

_BATCH, _STRENGTHS = 4, (1.0, 1.0, 0.5)


def _weighted(states: States) -> Tensor:
    return torch.stack([(i + 1) * level.sin().mean() for i, level in enumerate(states)]).sum()


def _gradients(
    model: PokeModel, code: Tensor, states: States, move: Callable[..., States]
) -> tuple[States, Sequence[Tensor]]:
    leaves = [code, *dict.fromkeys(states), *model.cells.parameters()]
    for leaf in leaves:
        leaf.requires_grad_()
    found = move(model, code, states, _STRENGTHS)
    return found, torch.autograd.grad(_weighted(found), leaves)


def _plainly(*arguments: object) -> States:
    model, *rest = arguments
    return joined(list(model.moved(*rest)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [PokeModel, SingleScaleModel])
def test_the_recurrence_of_a_step_has_the_states_and_gradients_of_the_plain_one(
    kind: type[PokeModel],
) -> None:
    torch.manual_seed(0)
    layout = Layout(widths=(8, 256), poke_widths=(8, 8), deep=256)
    model = kind(layout)
    cell = model.cells[1]
    code = torch.randn(_BATCH, 256, 16, 16)
    depths = (256, 256, 8) if kind is PokeModel else (256, 256)
    sizes = (16, 16, 32)
    states = [torch.randn(_BATCH, c, s, s) for c, s in zip(depths, sizes, strict=False)]
    assert pays_repeated(cell.from_input.weight, code), "the case does not reach the fast form"
    found, gradients = _gradients(model, code, states, moved_states)
    wanted, wanted_gradients = _gradients(model, code, states, _plainly)
    for mine, other in zip(found, wanted, strict=True):
        assert mine.shape == other.shape
        assert (mine - other).abs().max() < 2e-5 * other.abs().max()
    for mine, other in zip(gradients, wanted_gradients, strict=True):
        assert (mine - other).norm() < 2e-5 * other.norm()


@pytest.mark.parametrize("settings", [{}, {"spectral_decoder": True}, {"norm": "bn"}])
def test_pictures_drawn_a_few_at_a_time_are_those_drawn_at_once(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FamilyConfig.model_validate(CONFIG | {"model": CONFIG["model"] | settings})
    torch.manual_seed(0)
    model = build_model(config)
    states = [each.detach() for each in model.initial_states(torch.rand(5, 3, 32, 32) * 2 - 1)]
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = model.draw(states)
    wanted_gradient = torch.autograd.grad(wanted.sum(), model.decoder.to_image.weight)[0]
    model.load_state_dict(kept)
    monkeypatch.setattr(steps, "_PIXELS_AT_ONCE", 2 * 32 * 32)
    found = steps._drawn(model, states, config)
    gradient = torch.autograd.grad(found.sum(), model.decoder.to_image.weight)[0]
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(gradient, wanted_gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_gradient_of_the_recurrence_reaches_the_poke_encoder_unchanged(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrence, "pays_repeated", lambda *_: True)
    torch.manual_seed(0)
    model = PokeModel(Layout(widths=(8, 8), poke_widths=(8, 8), deep=8)).double()
    images = torch.rand(batch, 3, 64, 64, dtype=torch.float64)
    poke = torch.zeros(batch, 2, 64, 64, dtype=torch.float64)
    poke[:, :, 9:12, 9:12] = 3
    weights = [each for each in model.poke_encoder.parameters() if each.dim() > 1]
    found = []
    for move in (moved_states, _plainly):
        states = model.initial_states(images)
        moved = move(model, model.encode_poke(poke, images), states, _STRENGTHS)
        found.append(torch.autograd.grad(_weighted([*moved, model.draw(moved)]), weights))
    for mine, other in zip(*found, strict=True):
        assert (mine - other).norm() < 1e-9 * other.norm()
