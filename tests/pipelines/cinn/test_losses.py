"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pipelines.cinn import losses
from pipelines.nn import image_quality


def test_hinge_losses_stop_at_the_margin() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert losses.hinge_discriminator(real, fake).item() == pytest.approx(0.5 * (0.25 + 1.0))
    assert losses.hinge_generator(fake).item() == pytest.approx(1.0)


def test_gradient_penalty_of_a_linear_discriminator_is_its_weight_over_the_batch_squared() -> None:
    weight = torch.randn(3 * 2 * 4 * 4)
    clips = torch.randn(5, 2, 3, 4, 4, requires_grad=True)
    penalty = losses.gradient_penalty(clips.flatten(1) @ weight[:, None], clips)
    torch.testing.assert_close(penalty, weight.square().sum() / 25)


def test_gradient_penalty_can_be_trained_on() -> None:
    clips = torch.randn(2, 1, 3, 2, 2, requires_grad=True)
    weight = torch.randn(12, 1, requires_grad=True)
    losses.gradient_penalty(clips.flatten(1) @ weight, clips).backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach() / 4)


def test_feature_matching_averages_over_maps_and_leaves_the_real_branch_alone() -> None:
    real = [torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 8, requires_grad=True)]
    fake = [torch.full((1, 2), 3.0, requires_grad=True), torch.ones(1, 8)]
    loss = losses.feature_matching(fake, real)
    assert loss.item() == pytest.approx(2.0)
    assert losses.feature_matching(fake, real, power=2).item() == pytest.approx(5.0)
    loss.backward()
    assert fake[0].grad is not None
    assert real[0].grad is None


def test_kl_of_a_standard_normal_is_zero_and_grows_with_distance() -> None:
    zero = torch.zeros(3, 4)
    assert losses.kl_divergence(zero, zero).item() == 0
    assert losses.kl_divergence(zero + 2, zero).item() == pytest.approx(0.5 * 4 * 4)
    spread = losses.kl_divergence(zero, zero + math.log(4.0))
    assert spread.item() == pytest.approx(4 * 0.5 * (4 - 1 - math.log(4.0)), rel=1e-5)


def test_reconstruction_nll_is_the_sum_of_errors_per_image() -> None:
    error = torch.ones(2, 3, 4, 4)
    assert losses.reconstruction_nll(error).item() == pytest.approx(48)
    spread = losses.reconstruction_nll(error, torch.tensor(1.0)).item()
    assert spread == pytest.approx(48 * (math.exp(-1) + 1), rel=1e-5)


def test_adaptive_weight_evens_out_gradients_within_its_bounds() -> None:
    nll, gan = torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor([0.0, 2.5])
    weight = losses.adaptive_weight(nll, gan)
    assert weight.item() == pytest.approx(2.0, rel=1e-3)
    assert not weight.requires_grad
    assert losses.adaptive_weight(1e9 * nll, gan).item() == 1e4


def test_flow_loss_is_lowest_for_a_standard_normal_of_the_same_volume() -> None:
    residual, log_det = torch.full((2, 4), 2.0), torch.tensor([1.0, 3.0])
    loss, nll, negative_log_det = losses.flow_loss(residual, log_det)
    assert nll.item() == pytest.approx(8.0)
    assert negative_log_det.item() == pytest.approx(-2.0)
    assert loss.item() == pytest.approx(6.0)


def test_psnr_takes_its_range_from_the_generated_frames() -> None:
    real = torch.zeros(1, 1, 2, 2)
    fake = torch.tensor([[[[0.5, -0.5], [0.5, -0.5]]]])
    assert image_quality.psnr(real, fake).item() == pytest.approx(10 * math.log10(1 / 0.25))


def test_ssim_is_one_for_equal_frames_and_falls_with_noise() -> None:
    torch.manual_seed(0)
    frames = torch.rand(2, 3, 24, 24)
    assert image_quality.ssim(frames, frames).item() == pytest.approx(1.0, abs=1e-5)
    little = image_quality.ssim(frames, frames + 0.05 * torch.randn_like(frames))
    much = image_quality.ssim(frames, frames + 0.5 * torch.randn_like(frames))
    assert 1.0 > little > much
