from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.features import vgg
from pipelines.features.embedded import PooledFrames, UnitMaps
from pipelines.features.perceptual import build_perceptual, map_distance


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def embedded():
    return build_perceptual("efficientnet-lite0")


def pictures(num: int = 3, size_px: int = 64) -> torch.Tensor:
    """Smooth coloured blobs with some fine grain, N 3 H W in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(num, 3, 6, 6, generator=generator)
    smooth = F.interpolate(coarse, size=(size_px, size_px), mode="bicubic")
    fine = 0.2 * torch.randn(num, 3, size_px, size_px, generator=generator)
    return (0.5 * smooth + fine).clamp(-1, 1)


def noisy(images: torch.Tensor, amount: float) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    return (images + amount * noise).clamp(-1, 1)


def blurred(images: torch.Tensor, factor: int) -> torch.Tensor:
    small = F.avg_pool2d(images, factor)
    return F.interpolate(small, scale_factor=factor, mode="bilinear")


def test_equal_images_are_at_distance_zero(embedded):
    assert embedded(pictures(), pictures()).abs().max() < 1e-6


def test_the_distance_is_symmetric_and_per_image(embedded):
    real, fake = pictures(), noisy(pictures(), 0.2)
    there, back = embedded(real, fake), embedded(fake, real)
    assert there.shape == (3,)
    assert torch.allclose(there, back, atol=1e-6)
    assert torch.allclose(embedded(real[1:2], fake[1:2])[0], there[1], atol=1e-5)


def test_more_noise_is_farther_away(embedded):
    distances = [float(embedded(pictures(), noisy(pictures(), a)).mean()) for a in (0.05, 0.1, 0.3)]
    assert 0 < distances[0] < distances[1] < distances[2] < 2


def test_more_blur_is_farther_away(embedded):
    distances = [float(embedded(pictures(), blurred(pictures(), k)).mean()) for k in (2, 4, 8)]
    assert 0 < distances[0] < distances[1] < distances[2] < 2


@pytest.mark.parametrize("size_px", [32, 64, 128])
def test_every_pixel_gets_a_finite_gradient_and_the_weights_none(embedded, size_px):
    fake = noisy(pictures(2, size_px), 0.3).requires_grad_()
    embedded(pictures(2, size_px), fake).mean().backward()
    assert torch.isfinite(fake.grad).all()
    assert (fake.grad.abs().sum(1) > 0).float().mean() > 0.99
    assert all(each.grad is None for each in embedded.parameters())


def test_the_gradient_is_finite_for_images_of_one_colour(embedded):
    fake = torch.full((1, 3, 64, 64), -1.0).requires_grad_()
    embedded(torch.full((1, 3, 64, 64), -1.0), fake).sum().backward()
    assert torch.isfinite(fake.grad).all()


def test_following_the_gradient_brings_a_blurred_image_closer(embedded):
    real = pictures(1)
    fake = blurred(real, 4)
    before, before_pixels = float(embedded(real, fake)), float((real - fake).square().mean())
    for step in range(40):
        fake.requires_grad_()
        (gradient,) = torch.autograd.grad(embedded(real, fake).sum(), fake)
        fake = fake.detach() - 0.02 * 0.95**step * gradient / gradient.square().mean().sqrt()
    assert float(embedded(real, fake)) < before / 2
    assert float((real - fake).square().mean()) < before_pixels


def test_the_loss_stays_in_evaluation_mode_inside_a_model_that_trains(embedded):
    model = torch.nn.ModuleDict({"loss": embedded}).train()
    assert not any(each.training for each in model["loss"].modules())


def test_maps_of_a_video_compare_like_its_frames(embedded):
    real, fake = pictures(20), noisy(pictures(20), 0.2)
    frames = [((each + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy() for each in (real, fake)]
    extract = UnitMaps(torch.device("cpu"))
    of_video = map_distance(*(extract(each) for each in frames))
    as_images = [torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1 for x in frames]
    assert torch.allclose(of_video, embedded(*as_images), atol=1e-5)


def test_pooled_features_are_a_vector_per_frame_that_depends_on_its_frame_alone():
    frames = ((pictures(20) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    extract = PooledFrames(torch.device("cpu"))
    features = extract(frames)
    assert features.shape == (20, extract.size)
    assert features.dtype == np.float32
    np.testing.assert_allclose(extract(frames[18:19])[0], features[18], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("weights_dir", [None, Path("nowhere")])
def test_vgg16_without_its_weights_names_the_download_and_the_alternative(weights_dir):
    with pytest.raises(UserError) as caught:
        build_perceptual("vgg16", weights_dir=weights_dir)
    assert caught.value.exit_code == EXIT_NO_DATA
    remedies = " ".join(caught.value.details.values())
    assert "i2v download weights/vgg16" in remedies
    assert "perceptual.backbone=efficientnet-lite0" in remedies


def torchvision_trunk(seed: int) -> dict[str, torch.Tensor]:
    """A state dict with torchvision's names for the convolutions of VGG-16."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    before = 3
    for stage, channels in zip(vgg._TORCHVISION_INDEX, vgg.CHANNELS, strict=True):
        for index in stage:
            scale = (2 / (9 * before)) ** 0.5
            weight = torch.randn(channels, before, 3, 3, generator=generator) * scale
            state |= {
                f"features.{index}.weight": weight,
                f"features.{index}.bias": torch.zeros(channels),
            }
            before = channels
    return state


def test_vgg16_takes_its_trunk_from_the_folder_and_its_linear_weights_from_the_package(tmp_path):
    trunk = torchvision_trunk(3)
    torch.save(trunk, tmp_path / "vgg16-397923af.pth")
    network = build_perceptual("vgg16", weights_dir=tmp_path)
    folder = importlib.util.find_spec("lpips").submodule_search_locations[0]
    linear = torch.load(
        Path(folder) / "weights" / "v0.1" / "vgg.pth", map_location="cpu", weights_only=True
    )
    assert torch.equal(network.weights[2], linear["lin2.model.1.weight"].flatten())
    assert torch.equal(network.trunk.stages[4][2].weight, trunk["features.28.weight"])
    real = pictures(2, 32)
    assert network(real, real).abs().max() < 1e-6
    assert network(real, noisy(real, 0.3)).min() > 0


def test_a_vgg16_file_that_is_not_one_is_named(tmp_path):
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"vgg16-397923af\.pth"):
        build_perceptual("vgg16", weights_dir=tmp_path)
