"""The kernels of convolutions on doubled images: of use to training and to sampling alike."""

from __future__ import annotations

import importlib.util

import torch
from torch.nn import functional as F


def test_a_network_can_be_trained_in_a_process_that_sampled_before() -> None:
    found = importlib.util.find_spec("pipelines.nn.sampling_convolutions")
    assert found is not None and found.loader is not None
    fresh = importlib.util.module_from_spec(found)  # nothing is kept in it yet
    found.loader.exec_module(fresh)
    weight = torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    x = torch.ones(1, 3, 4, 4)
    with torch.inference_mode():
        fresh.doubling_kernel(weight)
    weight.requires_grad_()
    made = F.conv_transpose2d(x, fresh.doubling_kernel(weight), stride=2, padding=1)
    plain = F.conv2d(F.interpolate(x, scale_factor=2), weight, padding=1)
    torch.testing.assert_close(made, plain)
    ours, wanted = (torch.autograd.grad(each.square().sum(), weight)[0] for each in (made, plain))
    torch.testing.assert_close(ours, wanted)
