"""Spectral norm beside the one that published files were written with."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from pipelines.nn.spectral_norm import (
    SpectralConv2d,
    SpectralConv3d,
    SpectralNorm,
    effective_weight,
    fold_spectral_norm,
    spectral_key,
)


def published(layer: nn.Module) -> nn.Sequential:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.spectral_norm(layer))


def loaded(layer: nn.Module, theirs: nn.Sequential) -> nn.Sequential:
    ours = nn.Sequential(layer)
    entries = theirs.state_dict().items()
    ours.load_state_dict({spectral_key(key): value for key, value in entries})
    return ours


LAYERS = {
    "2d": (
        lambda: SpectralConv2d(3, 6, 3, padding=1),
        lambda: nn.Conv2d(3, 6, 3, padding=1),
        (2, 3, 8, 8),
    ),
    "3d": (
        lambda: SpectralConv3d(3, 6, 3, padding=1),
        lambda: nn.Conv3d(3, 6, 3, padding=1),
        (2, 3, 4, 8, 8),
    ),
}


@pytest.mark.parametrize(("make_ours", "make_theirs", "shape"), LAYERS.values(), ids=LAYERS)
def test_a_published_layer_goes_on_as_it_would_have(make_ours, make_theirs, shape) -> None:
    theirs = published(make_theirs())
    for _ in range(3):
        theirs(torch.randn(shape))
    ours = loaded(make_ours(), theirs)
    for is_training in (False, True, True, False):
        x = torch.randn(shape)
        torch.testing.assert_close(ours.train(is_training)(x), theirs.train(is_training)(x))


@pytest.mark.parametrize(("make_ours", "make_theirs", "shape"), LAYERS.values(), ids=LAYERS)
def test_gradients_are_those_of_the_published_layer(make_ours, make_theirs, shape) -> None:
    theirs, x = published(make_theirs()), torch.randn(shape)
    ours = loaded(make_ours(), theirs)
    for layer in (ours, theirs):
        layer.train()(x).square().sum().backward()
    torch.testing.assert_close(ours[0].weight.grad, theirs[0].weight_orig.grad)


def test_the_largest_singular_value_becomes_one() -> None:
    weight = torch.randn(8, 3, 3, 3) * 5
    norm = SpectralNorm(weight)
    for _ in range(100):
        normed = norm(weight)
    assert torch.linalg.matrix_norm(normed.flatten(1), ord=2).item() == pytest.approx(1, abs=1e-3)


def test_in_eval_mode_nothing_moves() -> None:
    layer = SpectralConv2d(3, 4, 3).eval()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(layer(x), layer(x))
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    layer.train()(x)
    assert not torch.equal(layer.norm.left, before["norm.left"])


def test_the_effective_weight_is_the_one_that_is_convolved_with() -> None:
    layer, plain = SpectralConv2d(3, 4, 3).eval(), nn.Conv2d(3, 4, 3)
    x = torch.randn(2, 3, 6, 6)
    expected = nn.functional.conv2d(x, effective_weight(layer), layer.bias)
    assert torch.equal(layer(x), expected)
    assert effective_weight(plain) is plain.weight


def test_folding_leaves_plain_layers_with_the_same_output_wherever_they_are() -> None:
    network = nn.Sequential(
        SpectralConv2d(3, 4, 3, stride=2, padding=1),
        nn.Sequential(nn.ReLU(), SpectralConv2d(4, 4, 1)),
    ).eval()
    x = torch.randn(2, 3, 9, 9)
    expected = network(x)
    folded = fold_spectral_norm(network)
    assert not any(isinstance(each, SpectralConv2d | SpectralNorm) for each in folded.modules())
    torch.testing.assert_close(folded(x), expected)
    assert not any(each.requires_grad for each in folded[0].parameters())


def test_only_entries_of_the_published_layer_are_renamed() -> None:
    assert spectral_key("main.0.weight_orig") == "main.0.weight"
    assert spectral_key("main.0.weight_u") == "main.0.norm.left"
    assert spectral_key("main.0.weight_v") == "main.0.norm.right"
    assert spectral_key("main.0.bias") == "main.0.bias"
    assert spectral_key("norm.weight") == "norm.weight"
