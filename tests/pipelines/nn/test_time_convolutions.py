"""Every way to convolve over time gives what torch's own gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipelines.nn.resnet3d import ResidualBlock3d
from pipelines.nn.time_convolutions import (
    PlannedConv,
    TapByTapConv,
    planned_conv,
    sampling_plan,
    training_form,
)


def convolved(conv: nn.Conv3d, x: torch.Tensor, *, is_repeated: bool) -> torch.Tensor:
    """What is to be found. x: B C T H W."""
    return F.conv3d(
        x.repeat_interleave(2, dim=2) if is_repeated else x, conv.weight, conv.bias, padding=1
    )


def in_layout(conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a sampling form, which takes and gives B T H W C, makes of B C T H W."""
    return conv(x.permute(0, 2, 3, 4, 1).contiguous()).permute(0, 4, 1, 2, 3)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("is_repeated", [False, True])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 6, 8, 16])
def test_a_plan_equals_the_convolution_of_all_frames(num_frames, is_repeated, bias):
    torch.manual_seed(0)
    conv = nn.Conv3d(4, 6, 3, padding=1, bias=bias).double().requires_grad_(False)
    x = torch.randn(2, 4, num_frames, 5, 4).double()
    planned = PlannedConv(conv, num_frames, is_repeated=is_repeated)
    torch.testing.assert_close(
        in_layout(planned, x), convolved(conv, x, is_repeated=is_repeated), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize(("is_repeated", "most"), [(False, 12), (True, 20)])
def test_a_plan_for_eight_frames_has_that_many_products(is_repeated, most):
    """Of single frames; tap by tap there are 22, and 46 where every frame stands for two."""
    assert len(sampling_plan(8, is_repeated=is_repeated).gather) == most


@pytest.mark.parametrize("is_repeated", [False, True])
def test_packed_weights_give_the_same_for_every_size_and_batch(is_repeated):
    """In 32 bits, where weights are packed at the first call."""
    torch.manual_seed(1)
    conv = nn.Conv3d(32, 16, 3, padding=1).requires_grad_(False)
    planned = PlannedConv(conv, 8, is_repeated=is_repeated)
    for batch, size in ((1, 8), (3, 8), (2, 5)):
        x = torch.randn(batch, 32, 8, size, size)
        expected = convolved(conv, x, is_repeated=is_repeated)
        torch.testing.assert_close(in_layout(planned, x), expected, atol=2e-5, rtol=0)


def test_tap_by_tap_equals_the_convolution():
    torch.manual_seed(2)
    conv = nn.Conv3d(5, 3, 3, padding=1).double().requires_grad_(False)
    x = torch.randn(2, 5, 4, 6, 6).double()
    expected = convolved(conv, x, is_repeated=False)
    torch.testing.assert_close(in_layout(TapByTapConv(conv), x), expected)


@pytest.mark.parametrize("is_repeated", [False, True])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4])
def test_a_training_form_equals_the_convolution_of_all_frames(is_repeated, num_frames):
    torch.manual_seed(3)
    conv = nn.Conv3d(4, 6, 3, padding=1).double().requires_grad_(False)
    x = torch.randn(2, 4, num_frames, 5, 5).double()
    form = training_form(num_frames, is_repeated=is_repeated)
    made = form.apply(x, form.split(conv.weight), conv.bias)
    torch.testing.assert_close(made, convolved(conv, x, is_repeated=is_repeated))


def by_form(x, weight, bias, *, is_repeated):
    form = training_form(x.shape[2], is_repeated=is_repeated)
    return form.apply(x, form.split(weight), bias)


@pytest.mark.parametrize("is_repeated", [False, True])
@pytest.mark.parametrize(("way", "num_frames"), [(by_form, 1), (by_form, 3), (planned_conv, 8)])
def test_training_has_the_gradients_of_the_convolution_of_all_frames(way, num_frames, is_repeated):
    torch.manual_seed(4)
    conv = nn.Conv3d(4, 6, 3, padding=1).double()
    x = torch.randn(2, 4, num_frames, 5, 4).double().requires_grad_()
    made = way(x, conv.weight, conv.bias, is_repeated=is_repeated)
    expected = convolved(conv, x, is_repeated=is_repeated)
    torch.testing.assert_close(made, expected)
    weighting = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad((made * weighting).sum(), (x, conv.weight, conv.bias)),
        torch.autograd.grad((expected * weighting).sum(), (x, conv.weight, conv.bias)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_block_of_convolutions_gives_the_same_whether_planned_or_not():
    """In 32 bits, large enough that the plan is taken, which the recorded graph shows."""
    torch.manual_seed(5)
    plain, planned = (
        ResidualBlock3d(64, 64, stride=(1, 1, 1), planned=each) for each in (False, True)
    )
    planned.load_state_dict(plain.state_dict())
    x = torch.randn(1, 64, 4, 32, 32)
    made = planned.conv1(x)
    assert made.grad_fn is not None and "PlannedTraining" in made.grad_fn.name()
    gradients = []
    for block in (plain, planned):
        block(x).square().mean().backward()
        gradients.append([each.grad for each in block.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)
