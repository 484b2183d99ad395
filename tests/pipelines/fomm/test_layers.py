"""Layers that compute another way what torch's do: the same numbers and the same gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.features.vgg19 import Vgg19Loss
from pipelines.fomm.networks import build, in_order
from pipelines.nn.packed_convolution import PackedConv
from pipelines.nn.packed_layers import MixedConv
from pipelines.nn.sampling_convolutions import DoublingConv, SamplingConv
from pipelines.nn.training_convolutions import convolved, convolved_by_both, doubled_and_convolved
from tests.pipelines.fomm import tiny


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def alike(found: Tensor, wanted: Tensor) -> None:
    largest = float(wanted.detach().abs().max())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * largest)


def doubled(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def gradients(made: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    weight = torch.linspace(-1, 1, made.numel()).view_as(made)
    return torch.autograd.grad((made * weight).sum(), inputs, retain_graph=True)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "size"), [(480, 4), (16, 16), (128, 47)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_training_convolves_with_the_same_numbers_and_gradients(order, channels, size, dtype):
    conv = nn.Conv2d(channels, channels, 3, padding=1).to(dtype).to(memory_format=order)
    x = torch.rand(2, channels, size, size, dtype=dtype).to(memory_format=order).requires_grad_()
    for found, wanted in (
        (convolved(x, conv.weight, conv.bias), conv(x)),
        (doubled_and_convolved(x, conv.weight, conv.bias), doubled(conv, x)),
    ):
        alike(found, wanted)
        inputs = (x, conv.weight, conv.bias)
        for mine, torchs in zip(gradients(found, *inputs), gradients(wanted, *inputs), strict=True):
            alike(mine, torchs)


def test_two_convolutions_at_once_give_what_each_gives():
    first, second = nn.Conv2d(6, 3, 7, padding=3), nn.Conv2d(6, 1, 7, padding=3)
    x = torch.rand(2, 6, 12, 12)
    for found, wanted in zip(
        convolved_by_both(first, second, x), (first(x), second(x)), strict=True
    ):
        alike(found, wanted)
    assert convolved_by_both(first, None, x)[1] is None


@pytest.mark.parametrize(
    ("channels", "size", "kind"), [(128, 24, MixedConv), (128, 10, PackedConv), (8, 24, PackedConv)]
)
def test_sampling_convolves_with_the_same_numbers(channels, size, kind):
    conv, x = nn.Conv2d(channels, channels, 3, padding=1), torch.rand(1, channels, size, size)
    with torch.inference_mode():
        layer = SamplingConv(conv, has_relu=True)
        alike(layer(x), F.relu(conv(x)))
        alike(layer(x[:, :, :-3, :-1]), F.relu(conv(x[:, :, :-3, :-1])))
    assert any(isinstance(module, kind) for module in layer.modules())


@pytest.mark.parametrize(("channels", "size"), [(8, 8), (64, 3)])
def test_sampling_doubles_images_with_the_same_numbers(channels, size):
    conv, x = nn.Conv2d(channels, 6, 3, padding=1), torch.rand(2, channels, size, size)
    with torch.inference_mode():
        alike(DoublingConv(conv.weight, conv.bias)(x), F.relu(doubled(conv, x)))


def test_a_network_that_never_changes_gives_the_same_maps_and_gradients():
    network = Vgg19Loss()
    frozen, names = copy.deepcopy(network).pack(), ("relu1_1", "relu4_1")
    images = (torch.rand(1, 3, 48, 48) * 2 - 1).requires_grad_()
    pairs = zip(frozen.maps(images, names), network.maps(images, names), strict=True)
    for mine, torchs in pairs:
        alike(mine, torchs)
        alike(gradients(mine, images)[0], gradients(torchs, images)[0])
    with torch.no_grad():
        alike(frozen.maps(images, names)[1], network.maps(images, names)[1])


def test_keypoints_of_several_batches_are_those_of_one_after_the_other():
    one = build(tiny.config().model)
    in_order(one, torch.device("cpu"))
    detector = one.keypoint_detector.train()
    other = copy.deepcopy(detector)
    batches = [torch.rand(4, 3, 32, 32) for _ in range(3)]
    together, apart = detector.each(*batches), [other(batch) for batch in batches]
    for mine, wanted in zip(together, apart, strict=True):
        alike(mine.value, wanted.value)
        alike(mine.jacobian, wanted.jacobian)
    for mine, wanted in zip(detector.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-6)
