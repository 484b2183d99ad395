"""A convolution that many maps go through is the plain one: its results and all its gradients."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.nn import repeated_convolution
from pipelines.nn.repeated_convolution import RepeatedConv, pays_repeated


def _inputs(height: int, width: int, *, batch: int = 4) -> tuple[Tensor, list[Tensor]]:
    drawn = torch.Generator().manual_seed(height * width)
    weight = torch.randn(224, 256, 3, 3, generator=drawn) / 48
    maps = [torch.randn(batch, 256, height, width, generator=drawn) for _ in range(3)]
    return weight, maps


def _chained(convolve, maps: list[Tensor]) -> Tensor:  # type: ignore[no-untyped-def]
    """Numbers that depend on each result, and on one result through another."""
    found = [convolve(x) for x in maps]
    again = convolve(F.pad(torch.tanh(found[0]), (0, 0, 0, 0, 16, 16)))
    return sum((i + 1) * each.sin().mean() for i, each in enumerate([*found, again]))  # type: ignore[return-value]


@pytest.mark.parametrize(("height", "width"), [(16, 16), (18, 17)])
def test_a_repeated_convolution_has_the_results_and_gradients_of_plain_ones(
    height: int, width: int
) -> None:
    weight, maps = _inputs(height, width)
    assert pays_repeated(weight, maps[0]), "the case does not reach the mixtures"
    wanted_leaves = [each.double().requires_grad_() for each in (weight, *maps)]
    wanted = _chained(lambda x: F.conv2d(x, wanted_leaves[0], padding=1), wanted_leaves[1:])
    wanted_gradients = torch.autograd.grad(wanted, wanted_leaves)
    leaves = [each.clone().requires_grad_() for each in (weight, *maps)]
    found = _chained(RepeatedConv(leaves[0]), leaves[1:])
    assert abs(float(found.detach()) - float(wanted.detach())) < 1e-6
    for a, b in zip(torch.autograd.grad(found, leaves), wanted_gradients, strict=True):
        assert (a - b).abs().max() < 3e-5 * b.abs().max()
        assert (a - b).norm() < 1e-5 * b.norm()


def test_a_repeated_convolution_whose_weight_is_frozen_still_leads_back_to_its_maps() -> None:
    weight, maps = _inputs(16, 16)
    maps = [each.requires_grad_() for each in maps]
    wanted = torch.autograd.grad(_chained(lambda x: F.conv2d(x, weight, padding=1), maps), maps)
    found = torch.autograd.grad(_chained(RepeatedConv(weight), maps), maps)
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


def test_a_repeated_convolution_keeps_nothing_once_its_step_is_over() -> None:
    weight, maps = _inputs(16, 16)
    conv = RepeatedConv(weight.requires_grad_())
    made = conv(maps[0])
    shared = weakref.ref(conv._shared)
    made.sum().backward()
    gc.disable()
    try:
        del conv, made
        assert shared() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("why", ["few channels", "64 bits", "few places"])
def test_where_mixtures_gain_nothing_the_plain_convolution_is_taken(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(repeated_convolution, "_Repeated")
    weight, maps = _inputs(8, 8) if why == "few places" else _inputs(16, 16)
    x = maps[0]
    if why == "few channels":
        weight, x = weight[:, :64], x[:, :64]
    if why == "64 bits":
        weight, x = weight.double(), x.double()
    assert torch.equal(RepeatedConv(weight)(x), F.conv2d(x, weight, padding=1))
