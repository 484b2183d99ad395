"""Every form of a convolution over time gives what torch's own gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipelines.cinn.time_convolutions import FoldedConv, sampling_form, training_form


@pytest.mark.parametrize("form_for", [training_form, sampling_form])
@pytest.mark.parametrize("is_repeated", [False, True])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4])
def test_a_form_equals_the_convolution_of_all_frames(form_for, is_repeated, num_frames):
    torch.manual_seed(0)
    conv = nn.Conv3d(4, 6, 3, padding=1).double().requires_grad_(False)
    x = torch.randn(2, 4, num_frames, 5, 5).double()
    expected = conv(x.repeat_interleave(2, dim=2) if is_repeated else x)
    form = form_for(num_frames, is_repeated=is_repeated)
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        made = FoldedConv(conv, form)(x.contiguous(memory_format=layout))
        torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("num_frames", [1, 3])
def test_a_training_form_has_the_gradient_of_the_convolution_of_all_frames(num_frames):
    torch.manual_seed(1)
    weight = torch.randn(6, 4, 3, 3, 3).double().requires_grad_()
    x = torch.randn(2, 4, num_frames, 5, 5).double().requires_grad_()
    form = training_form(num_frames, is_repeated=True)
    made = form.apply(x, form.split(weight), None)
    expected = F.conv3d(x.repeat_interleave(2, dim=2), weight, padding=1)
    weighting = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad((made * weighting).sum(), (x, weight)),
        torch.autograd.grad((expected * weighting).sum(), (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
