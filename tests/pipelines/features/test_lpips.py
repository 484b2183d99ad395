"""LPIPS against the `lpips` package, with a random trunk (the trained one must be downloaded)."""

from __future__ import annotations

import lpips
import pytest
import torch
from torch import Tensor

from pipelines.features import in_parts
from pipelines.features.lpips import Lpips, lpips_state, total
from pipelines.features.vgg import Vgg16, vgg16_state

# the package asks for its random trunk in torchvision's old way
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchvision.models._utils")


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    torch.manual_seed(0)
    return lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()


@pytest.fixture(scope="module")
def ours(reference: torch.nn.Module) -> Lpips:
    network = Lpips().eval()
    network.load_state_dict(lpips_state(reference.state_dict()))
    return network


def images(seed: int) -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_distance_is_that_of_the_package(reference: torch.nn.Module, ours: Lpips) -> None:
    real, fake = images(1), images(2)
    with torch.no_grad():
        expected = reference(real, fake).flatten()
    torch.testing.assert_close(ours(real, fake), expected, rtol=1e-4, atol=1e-6)
    assert (expected > 0).all()


def test_equal_images_have_no_distance(ours: Lpips) -> None:
    assert ours(images(1), images(1)).abs().max() == 0


def test_gradient_goes_to_the_images_and_to_no_weight(ours: Lpips) -> None:
    fake = images(2).requires_grad_()
    ours(images(1), fake).sum().backward()
    assert fake.grad is not None
    assert fake.grad.abs().max() > 0
    assert not any(p.requires_grad for p in ours.parameters())


def test_a_few_images_at_a_time_give_what_all_at_once_do(
    ours: Lpips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five pairs in parts of two, one and so on, each distance with a weight of its own."""
    real, fake = (torch.cat([images(seed), images(seed + 1), images(seed)[:1]]) for seed in (1, 4))
    fake.requires_grad_()
    weights = torch.arange(1.0, 6.0)
    expected = total(ours.terms(real, fake))
    (gradient,) = torch.autograd.grad((weights * expected).sum(), fake)
    for num in (1, 2, 8):
        monkeypatch.setattr(in_parts, "_PIXELS_AT_ONCE", num * 32 * 32)
        made = ours(real, fake)
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-7)
        (found,) = torch.autograd.grad((weights * made).sum(), fake)
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-7)
        with torch.no_grad():
            torch.testing.assert_close(ours(real, fake), expected, rtol=1e-5, atol=1e-7)


def test_a_uniform_image_gives_a_finite_gradient(ours: Lpips) -> None:
    fake = torch.zeros(1, 3, 32, 32, requires_grad=True)
    ours(images(1)[:1], fake).sum().backward()
    assert fake.grad.isfinite().all()


def test_vgg_takes_torchvisions_weights_without_the_classifier() -> None:
    indices = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    own = Vgg16().state_dict()
    weights = [value for name, value in own.items() if name.endswith("weight")]
    published = {f"features.{i}.weight": w for i, w in zip(indices, weights, strict=True)}
    published["classifier.0.weight"] = torch.zeros(1)
    assert vgg16_state(published).keys() == {name for name in own if name.endswith("weight")}
