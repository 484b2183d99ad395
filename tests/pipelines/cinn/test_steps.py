"""Whole training steps on networks small enough for a laptop."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

from pipelines.cinn import losses
from pipelines.cinn.config import AutoencoderConfig, FlowConfig, Stage1Config
from pipelines.cinn.networks import (
    AutoencoderNetworks,
    Stage1Networks,
    build_autoencoder,
    build_flow,
    build_stage1,
)
from pipelines.cinn.steps import (
    AutoencoderOptimizers,
    Stage1Optimizers,
    autoencoder_step,
    draw_stage1,
    flow_step,
    frozen,
    stage1_step,
)

STAGE1 = Stage1Config(
    size_px=32,
    num_frames=8,
    code_size=4,
    encoder_channels=(8, 8, 8, 8, 8),
    decoder_width=2,
    decoder_upsample_space=(1, 1),
    decoder_upsample_time=(1, 1),
    spade_channels=4,
    temporal_channels=(8, 8, 8, 8, 8),
    temporal_window=6,
    patch_width=4,
    patch_frames=5,
)
AUTOENCODER = AutoencoderConfig(
    embedding_size=8, encoder_width=4, decoder_width=4, class_hidden=8, patch_width=4
)


def squared_distance(real: Tensor, fake: Tensor) -> Tensor:
    return (real - fake).square().mean(dim=(1, 2, 3))


def stage1(learning_rate: float = 1e-3) -> tuple[Stage1Networks, Stage1Optimizers]:
    torch.manual_seed(0)
    networks = build_stage1(STAGE1)
    coders = chain(networks.encoder.parameters(), networks.decoder.parameters())
    return networks, Stage1Optimizers(
        Adam(coders, learning_rate),
        Adam(networks.temporal_discriminator.parameters(), learning_rate),
        Adam(networks.patch_discriminator.parameters(), learning_rate),
    )


def clip() -> Tensor:
    return torch.rand(2, 9, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def run_stage1(*, adversarial: bool, seed: int = 0) -> tuple[Stage1Networks, dict[str, Tensor]]:
    networks, optimizers = stage1()
    log = stage1_step(
        networks,
        optimizers,
        clip(),
        config=STAGE1,
        adversarial=adversarial,
        perceptual=squared_distance,
        generator=torch.Generator().manual_seed(seed),
    )
    return networks, log


def parameters(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_adversarial_step_updates_all_four_networks() -> None:
    before, _ = stage1()
    after, log = run_stage1(adversarial=True)
    for name, network in vars(after).items():
        assert not torch.equal(parameters(network), parameters(getattr(before, name))), name
    assert all(value.isfinite() and not value.requires_grad for value in log.values())


def test_warm_up_step_leaves_the_discriminators_weights_but_not_their_state() -> None:
    before, _ = stage1()
    after, log = run_stage1(adversarial=False)
    temporal, patch = after.temporal_discriminator, after.patch_discriminator
    assert torch.equal(parameters(temporal), parameters(before.temporal_discriminator))
    first = "groups.0.0.conv1.norm.left"
    old = before.temporal_discriminator.state_dict()[first]
    assert not torch.equal(temporal.state_dict()[first], old)
    assert all(bool(norm.initialized) for norm in patch.norms)
    weighted = 30 * log["perceptual"] + 10 * log["reconstruction"] + 1e-5 * log["kl"]
    torch.testing.assert_close(log["loss"], weighted)


def test_same_generator_gives_the_same_step_and_another_seed_another() -> None:
    (first, _), (second, _), (other, _) = (run_stage1(adversarial=True, seed=s) for s in (3, 3, 4))
    assert torch.equal(parameters(first.decoder), parameters(second.decoder))
    assert not torch.equal(parameters(first.decoder), parameters(other.decoder))


def test_draws_cover_every_window_and_frame() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [draw_stage1(STAGE1, clip(), generator) for _ in range(60)]
    assert {each.window_start for each in draws} == {0, 1, 2}
    assert set(torch.cat([each.frames for each in draws]).tolist()) == set(range(16))
    assert draws[0].noise.shape == (2, 4)


def test_stage_1_learns_to_reconstruct_one_clip() -> None:
    networks, optimizers = stage1(learning_rate=1e-2)
    generator = torch.Generator().manual_seed(0)
    still = clip()[:, :1].expand(-1, 9, -1, -1, -1)
    errors = [
        stage1_step(
            networks,
            optimizers,
            still,
            config=STAGE1,
            adversarial=False,
            perceptual=squared_distance,
            generator=generator,
            log_quality=False,
        )["reconstruction"].item()
        for _ in range(40)
    ]
    assert errors[-1] < 0.8 * errors[0]


def autoencoder(
    dtype: torch.dtype = torch.float32,
) -> tuple[AutoencoderNetworks, AutoencoderOptimizers]:
    torch.manual_seed(0)
    networks = build_autoencoder(AUTOENCODER, 32)
    for network in vars(networks).values():
        network.to(dtype)
    coders = chain(networks.encoder.parameters(), networks.decoder.parameters())
    optimizers = AutoencoderOptimizers(
        Adam(coders, 1e-3), Adam(networks.discriminator.parameters(), 1e-3)
    )
    return networks, optimizers


@pytest.mark.parametrize("adversarial", [False, True])
def test_autoencoder_step_takes_the_gradient_of_its_whole_loss(adversarial: bool) -> None:
    """The step sends two gradients down to the images once; here, one backward of the sum."""
    images = clip()[:, 0].double()
    networks, optimizers = autoencoder(torch.float64)
    log = autoencoder_step(
        networks,
        optimizers,
        images,
        config=AUTOENCODER,
        adversarial=adversarial,
        perceptual=squared_distance,
    )
    plain, _ = autoencoder(torch.float64)
    mean, log_variance = plain.encoder(images)
    fake = plain.decoder(mean)
    error = (images - fake).abs() + squared_distance(images, fake).view(-1, 1, 1, 1)
    loss = error.sum() / 2 + 1e-5 * losses.kl_divergence(mean, log_variance)
    if adversarial:
        loss = loss + log["gan_weight"] * losses.hinge_generator(plain.discriminator(fake))
    loss.backward()
    torch.testing.assert_close(loss.detach(), log["loss"])
    for network in ("encoder", "decoder"):
        pairs = zip(
            getattr(networks, network).named_parameters(),
            getattr(plain, network).parameters(),
            strict=True,
        )
        for (name, ours), theirs in pairs:
            torch.testing.assert_close(ours.grad, theirs.grad, msg=f"{network}.{name}")


@pytest.mark.parametrize("adversarial", [False, True])
def test_autoencoder_step_updates_its_discriminator_after_the_warm_up_only(
    adversarial: bool,
) -> None:
    networks, optimizers = autoencoder()
    before = parameters(networks.discriminator.convs)
    log = autoencoder_step(
        networks,
        optimizers,
        clip()[:, 0],
        config=AUTOENCODER,
        adversarial=adversarial,
        perceptual=squared_distance,
    )
    assert torch.equal(parameters(networks.discriminator.convs), before) != adversarial
    assert (log["discriminator"] > 0) == adversarial
    assert log["gan_factor"] == float(adversarial)


def test_flow_learns_the_distribution_of_codes() -> None:
    torch.manual_seed(0)
    flow = build_flow(FlowConfig(num_flows=4, hidden_width=16), 4, 2)
    optimizer = Adam(flow.parameters(), 1e-2)
    condition = torch.randn(128, 2)
    codes = condition.repeat(1, 2) * torch.tensor([1.0, 2.0, -1.0, 0.5]) + 0.1 * torch.randn(128, 4)
    logs = [
        flow_step(flow, optimizer, codes, condition, generator=torch.Generator().manual_seed(i))
        for i in range(80)
    ]
    assert logs[-1]["loss"] < logs[0]["loss"] - 2
    assert logs[0]["nll_of_noise"].item() == pytest.approx(2.0, abs=0.5)


def test_frozen_weights_get_no_gradient_and_thaw_afterwards() -> None:
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    x = torch.ones(1, 2, requires_grad=True)
    with frozen(layer):
        layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad
