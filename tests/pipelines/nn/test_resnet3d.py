"""The basic block of the 3D ResNets: shapes, shortcut, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipelines.nn.resnet3d import ResidualBlock3d, conv3d
from pipelines.nn.spectral_norm import SpectralConv3d

STRIDES = [(1, 1, 1), (1, 2, 2), (2, 1, 1), (2, 2, 2)]


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("stride", STRIDES)
def test_strides_divide_time_and_space(stride, spectral) -> None:
    block = ResidualBlock3d(6, 16, stride=stride, spectral=spectral)
    result = block(torch.randn(2, 6, 8, 12, 10))
    expected = [-(-size // step) for size, step in zip((8, 12, 10), stride, strict=True)]
    assert list(result.shape) == [2, 16, *expected]
    assert result.min() >= 0


def test_the_shortcut_is_the_input_itself_where_shapes_agree() -> None:
    assert isinstance(ResidualBlock3d(8, 8, stride=(1, 1, 1)).shortcut, nn.Identity)
    for changed in (
        ResidualBlock3d(8, 16, stride=(1, 1, 1)),
        ResidualBlock3d(8, 8, stride=(1, 2, 2)),
    ):
        convolution = changed.shortcut[0]
        assert convolution.kernel_size == (3, 3, 3)


def test_without_its_convolutions_a_block_passes_the_positive_part_on() -> None:
    block = ResidualBlock3d(8, 8, stride=(1, 1, 1))
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 8, 3, 6, 6)
    torch.testing.assert_close(block(x), F.relu(x))


def test_the_block_is_what_its_parts_make_of_the_input() -> None:
    block = ResidualBlock3d(4, 8, stride=(1, 2, 2))
    x = torch.randn(1, 4, 3, 8, 8)
    main = F.group_norm(block.conv1(x), 8, block.norm1.weight, block.norm1.bias).clamp(min=0)
    main = F.group_norm(block.conv2(main), 8, block.norm2.weight, block.norm2.bias)
    expected = (main + block.shortcut(x)).clamp(min=0)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("spectral", [False, True])
def test_every_parameter_and_the_input_get_a_finite_gradient(spectral) -> None:
    block = ResidualBlock3d(4, 8, stride=(2, 2, 2), spectral=spectral)
    x = torch.randn(2, 4, 4, 8, 8, requires_grad=True)
    block(x).square().mean().backward()
    for tensor in (x, *block.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0


def test_convolutions_have_no_bias_and_keep_the_size() -> None:
    assert isinstance(conv3d(3, 4, spectral=True), SpectralConv3d)
    for spectral in (False, True):
        layer = conv3d(3, 4, spectral=spectral)
        assert layer.bias is None
        assert layer(torch.randn(1, 3, 5, 7, 9)).shape == (1, 4, 5, 7, 9)
