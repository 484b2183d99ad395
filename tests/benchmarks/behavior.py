"""behavior and shape-pose: training steps, sampling and rendering at the published sizes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pipelines.behavior.config import BehaviorFlowConfig, BehaviorLossConfig, Stage1Config
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.networks import BehaviorNet
from pipelines.behavior.steps import build_networks, build_optimizers, flow_step, stage1_step
from pipelines.nn.norm_conv import fold_for_inference
from pipelines.shape_pose.config import FamilyConfig
from pipelines.shape_pose.networks import ShapePoseNet
from pipelines.shape_pose.sample import Renderer
from pipelines.training.device import choose_device
from pipelines.training.optim import build_adam
from tests.benchmarks.rows import Measurement, Settings, seconds

NUM_FRAMES, NUM_ACTIONS = 50, 15


def measure(settings: Settings) -> Iterator[Measurement]:
    """Each in a process of its own would be cleaner; the networks are freed one after another."""
    device = choose_device(settings.device)
    yield _stage1(settings, device)
    yield _stage2(settings, device)
    yield _sampling(settings, device)
    yield _rendering(settings, device)


def _stage1(settings: Settings, device: torch.device) -> Measurement:
    """A step on 64 clips, as published; what it trains beside the net is part of it."""
    config, batch = Stage1Config(), 8 if settings.quick else 64
    networks = build_networks(config, num_frames=NUM_FRAMES, num_actions=NUM_ACTIONS)
    for network in networks.by_name.values():
        network.to(device)
    optimizers = build_optimizers(networks, config.optimizer)
    clip = _normal(batch, NUM_FRAMES + 1, 51).to(device)
    step = partial(
        stage1_step,
        networks,
        optimizers,
        clip,
        torch.randint(NUM_ACTIONS, (batch,), generator=_draws()).to(device),
        noise=_normal(batch, config.net.code_size).to(device),
        frames=[3, 11, 27, 36, 48],
        kl_weight=0.01,
        weights=BehaviorLossConfig(),
        is_tuning=False,
    )
    found = [1000 * each for each in seconds(step, repeats=settings.repeats)]
    return Measurement(f"stage 1, a step of {batch} clips", found, "ms", note=_note(device))


def _stage2(settings: Settings, device: torch.device) -> Measurement:
    """A step of the flow on 64 codes; quick: 2 blocks of the 15."""
    config = BehaviorFlowConfig(num_flows=2 if settings.quick else 15)
    flow = BehaviorFlow(config, code_size=1024).to(device)
    optimizer = build_adam([flow], Stage1Config().optimizer)
    code, reference = _normal(64, 1024).to(device), _normal(64, 1024).to(device)
    found = seconds(partial(flow_step, flow, optimizer, code, reference), repeats=settings.repeats)
    name = f"stage 2, a step of 64 codes, {config.num_flows} blocks"
    return Measurement(name, [1000 * each for each in found], "ms", note=_note(device))


def _sampling(settings: Settings, device: torch.device) -> Measurement:
    """64 sequences of 50 poses: codes through the flow, then the decoder."""
    net = BehaviorNet(Stage1Config().net).to(device).eval()
    config = BehaviorFlowConfig(num_flows=2 if settings.quick else 15)
    flow = BehaviorFlow(config, code_size=1024).to(device).eval()
    noise, start = _normal(64, 1024).to(device), _normal(64, 51).to(device)

    @torch.inference_mode()
    def sample() -> None:
        net.decoder(flow.inverse(noise), start, NUM_FRAMES)

    found = [1000 * each for each in seconds(sample, repeats=settings.repeats)]
    return Measurement("64 sequences of 50 poses, sampled", found, "ms", note=_note(device))


def _rendering(settings: Settings, device: torch.device) -> Measurement:
    """Frames per second at 256 px (quick: 64), stick figures included, appearance known."""
    size_px, num_frames = (64, 4) if settings.quick else (256, 16)
    config = FamilyConfig.model_validate({"network": {"size_px": size_px}})
    net = ShapePoseNet(config.network).to(device).eval()
    fold_for_inference(net)
    renderer = Renderer(net, config, device)
    codes = renderer.appearance(np.zeros((size_px, size_px, 3), np.uint8), None)
    places = np.random.default_rng(0).uniform(0.1, 0.9, (num_frames, 17, 2))
    found = seconds(lambda: renderer.render(codes, places), repeats=settings.repeats)
    rates = [num_frames / each for each in found]
    return Measurement(f"rendering at {size_px} px", rates, "frames/s", note=_note(device))


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_draws())


def _draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _note(device: torch.device) -> str:
    return f"random weights, {device.type}"
