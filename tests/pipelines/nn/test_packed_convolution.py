"""Convolutions laid out for the processor give what torch's own give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.features.i3d import I3d, _max_pool
from pipelines.features.short_convolution import ShortConvolution
from pipelines.nn import packed_convolution
from pipelines.nn.packed_convolution import PackedConvolution
from tests.pipelines.tensors import drawn, largest_error

needs_operators = pytest.mark.skipif(
    not packed_convolution.is_available(), reason="this build of torch has no oneDNN operators"
)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@needs_operators
@pytest.mark.parametrize("num_axes", [2, 3])
def test_a_packed_convolution_takes_inputs_of_any_size(num_axes: int) -> None:
    convolve = F.conv2d if num_axes == 2 else F.conv3d
    weight, bias = drawn(6, 5, *(3,) * num_axes), drawn(6, seed=1)
    packed = PackedConvolution(weight, bias, stride=(2,) * num_axes)
    for size in (7, 10):
        x = drawn(2, 5, *(size,) * num_axes, seed=size)
        wanted = convolve(x, weight, bias, 2, 1).relu()
        found = packed(x, (1,) * num_axes, activation="relu")
        assert largest_error(found, wanted) < 1e-5


@needs_operators
def test_a_packed_convolution_adds_to_what_is_there() -> None:
    weight, x, there = drawn(6, 5, 3, 3), drawn(2, 5, 8, 8, seed=1), drawn(2, 6, 8, 8, seed=2)
    total = there.contiguous(memory_format=torch.channels_last)
    PackedConvolution(weight, None, stride=(1, 1)).add_to(total, x, (1, 1), activation="relu")
    assert largest_error(total, (there + F.conv2d(x, weight, padding=1)).relu()) < 1e-5


@needs_operators
@pytest.mark.parametrize("num_frames", [1, 4, 5, 8])
def test_a_short_convolution_is_the_plain_one_for_any_length(num_frames: int) -> None:
    weight, bias = drawn(7, 6, 3, 3, 3), drawn(7, seed=1)
    x = drawn(2, 6, num_frames, 9, 8, seed=2)
    found = ShortConvolution(weight, bias)(x)
    assert largest_error(found, F.conv3d(x, weight, bias, padding=1).relu()) < 1e-5


def test_short_convolutions_are_for_lengths_where_they_save_work() -> None:
    assert [frames for frames in range(1, 10) if ShortConvolution.pays(frames)] == [4, 7, 8]


@needs_operators
@pytest.mark.parametrize("shape", [(9, 64, 72), (14, 61, 67)])
def test_packing_i3d_changes_nothing_but_its_speed(shape: tuple[int, int, int]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = I3d(num_classes=5).eval()
    clip = drawn(1, 3, *shape)
    blocks = [network.conv_1a, network.conv_2b, network.conv_2c, *network.blocks.values()][:6]

    def seen() -> Tensor:
        x = clip
        for block in blocks:
            x = block(x)
        return x

    plain = seen()
    network.pack()
    assert largest_error(seen(), plain) < 1e-5


@pytest.mark.parametrize("sizes", [(8, 12, 14), (5, 7, 9), (1, 2, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((3, 3, 3), (1, 1, 1)), ((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2),) * 2],
)
def test_pools_of_one_axis_after_another_are_the_pool_of_all(
    sizes: tuple[int, int, int],
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
) -> None:
    x = drawn(2, 4, *sizes).relu().contiguous(memory_format=torch.channels_last_3d)
    margins = []
    for size, window, step in zip(sizes, kernel, stride, strict=True):
        total = max(window - (size % step or step), 0)
        margins = [total // 2, total - total // 2, *margins]
    wanted = F.max_pool3d(F.pad(x, margins), kernel, stride)
    assert torch.equal(_max_pool(x, kernel, stride), wanted)
