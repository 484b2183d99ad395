"""behavior: training steps of both stages and sampling, with peak memory.

`--against DIR`: a checkout of the published code, whose networks then take turns with ours: same
weights, same inputs, same outputs. What it computes in a step is written out here, since its own
step no longer runs on today's PyTorch: the posture regressor is stepped before the net's loss goes
backward through it. Like ours, it computes that loss once more, with the regressor as it is then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pipelines.behavior import checkpoint
from pipelines.behavior.config import BehaviorFlowConfig, BehaviorLossConfig, Stage1Config
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.networks import BehaviorNet
from pipelines.behavior.steps import (
    Networks,
    build_networks,
    build_optimizers,
    flow_step,
    stage1_step,
)
from pipelines.training.device import choose_device
from pipelines.training.optim import build_adam
from tests.benchmarks import beside
from tests.benchmarks.beside import Sides
from tests.benchmarks.published_behavior import PublishedBehavior
from tests.benchmarks.rows import Measurement, Settings, apart, interleaved

NUM_FRAMES, NUM_ACTIONS, CODE, BATCH = 50, 15, 1024, 64
_NUM_FLOWS, _TRAINED_FLOWS = 15, 3
_FRAMES_ASKED = [3, 11, 27, 36, 48]
_FLOOR = {
    "stage 1": "nine tenths of our time are the products of the two LSTMs",
    "stage 2": "the same products on both sides, ours by oneDNN, and Adam over the same weights",
    "sampling": "the same products on both sides, 109 GFLOP, ours by oneDNN with weights in order",
}
"""Why a ratio is not larger: what a profile of our side shows."""


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of each part in a process of its own, for its memory; then beside the published code."""
    batch = 8 if settings.quick else BATCH
    num_flows = _TRAINED_FLOWS if settings.quick else _NUM_FLOWS
    step1 = f"stage 1, a step of {batch} clips"
    step2 = f"stage 2, a step of {batch} codes, {_TRAINED_FLOWS} of {_NUM_FLOWS} blocks"
    sampling = f"{batch} sequences of {NUM_FRAMES} poses, sampled"
    own: dict[str, tuple[Callable[..., list[float]], int]] = {
        step1: (stage1_seconds, 0),
        step2: (stage2_seconds, _TRAINED_FLOWS),
        sampling: (sampling_seconds, num_flows),
    }
    for name, (function, blocks) in own.items():
        done = apart(function, settings.device, settings.repeats, batch, blocks)
        found = [1000 * each for each in done.result]
        yield Measurement(name, found, "ms", note=beside.how(settings.device), peak_mb=done.peak_mb)
    if settings.against is None:
        return
    floor = _FLOOR["stage 1"]
    yield beside.speed(step1, settings, stage1_sides, batch, at_least=1.5, note=floor)
    yield beside.memory(step1, settings, stage1_sides, batch)
    floor = _FLOOR["stage 2"]
    yield beside.speed(step2, settings, stage2_sides, batch, at_least=1.5, note=floor)
    yield beside.memory(step2, settings, stage2_sides, batch)
    arguments, floor = (batch, num_flows), _FLOOR["sampling"]
    yield beside.speed(sampling, settings, sampling_sides, *arguments, at_least=2.0, note=floor)
    yield beside.memory(sampling, settings, sampling_sides, *arguments)


def stage1_seconds(device: str, repeats: int, batch: int, _: int) -> list[float]:
    """Seconds of a step on published batches; what is trained beside the net is part of it."""
    beside.prepare(device)
    return _seconds(_stage1_step(_stage1_networks(choose_device(device)), batch), device, repeats)


def stage2_seconds(device: str, repeats: int, batch: int, num_flows: int) -> list[float]:
    """Seconds of a step of a part of the flow: the whole takes 10 GB."""
    beside.prepare(device)
    flow = _flow(num_flows).to(choose_device(device))
    return _seconds(_stage2_step(flow, batch), device, repeats)


def sampling_seconds(device: str, repeats: int, batch: int, num_flows: int) -> list[float]:
    """Seconds from random numbers to poses: through the whole flow, then the decoder."""
    beside.prepare(device)
    place = choose_device(device)
    net, flow = BehaviorNet(Stage1Config().net).to(place), _flow(num_flows).to(place)
    return _seconds(_sampler(net.eval(), flow.eval(), batch), device, repeats)


def _seconds(work: Callable[[], object], device: str, repeats: int) -> list[float]:
    return interleaved([work], repeats=repeats, clock=beside.clock_of(device))[0]


def _stage1_networks(device: torch.device) -> Networks:
    networks = build_networks(Stage1Config(), num_frames=NUM_FRAMES, num_actions=NUM_ACTIONS)
    for network in networks.by_name.values():
        network.to(device)
    return networks


def _stage1_step(networks: Networks, batch: int) -> Callable[[], object]:
    device = next(networks.net.parameters()).device
    return partial(
        stage1_step,
        networks,
        build_optimizers(networks.by_name, Stage1Config().optimizer),
        _clip(batch).to(device),
        _actions(batch).to(device),
        noise=_normal(batch, CODE).to(device),
        frames=_FRAMES_ASKED,
        kl_weight=0.01,
        weights=BehaviorLossConfig(),
        is_tuning=False,
    )


def _flow(num_flows: int) -> BehaviorFlow:
    return BehaviorFlow(BehaviorFlowConfig(num_flows=num_flows), code_size=CODE)


def _stage2_step(flow: BehaviorFlow, batch: int) -> Callable[[], object]:
    device = next(flow.parameters()).device
    optimizer = build_adam([flow], Stage1Config().optimizer)
    codes = _normal(batch, CODE).to(device)
    return partial(flow_step, flow, optimizer, codes, codes.flip(0))


def _sampler(net: BehaviorNet, flow: BehaviorFlow, batch: int) -> Callable[[], Tensor]:
    device = next(net.parameters()).device
    noise, start = _normal(batch, CODE).to(device), _clip(batch)[:, 0].to(device)
    flow.keep_packed()  # as a loaded model does

    @torch.inference_mode()
    def sample() -> Tensor:
        return net.decoder(flow.inverse(noise), start, NUM_FRAMES)

    return sample


# The published code, taking turns with ours


def stage1_sides(against: str, device: str, batch: int) -> Sides:
    """A step of stage 1; the same where nothing is trained: poses made again."""
    published = PublishedBehavior(Path(against), choose_device(device))
    ours = _stage1_networks(published.device)
    theirs = published.networks(NUM_FRAMES, NUM_ACTIONS)
    ours.net.load_state_dict(checkpoint.net_state(theirs["net"].state_dict()))
    clip = _clip(batch).to(published.device)
    actions = _actions(batch).to(published.device)

    @torch.no_grad()
    def difference() -> float:
        poses = clip[:, :-1]
        torch.manual_seed(0)
        expected = published.reconstructed(theirs["net"], poses)
        torch.manual_seed(0)
        found = ours.net.encoder(poses)
        noise = torch.randn_like(found.mean)
        made = ours.net.decoder(found.sample(noise), poses[:, 0], NUM_FRAMES)
        return beside.difference(made, expected)

    def step() -> None:
        published.stage1_step(theirs, clip, actions, _FRAMES_ASKED)

    return Sides(_stage1_step(ours, batch), step, difference)


def stage2_sides(against: str, device: str, batch: int) -> Sides:
    """A step of a part of the flow."""
    published = PublishedBehavior(Path(against), choose_device(device))
    theirs = published.flow(_TRAINED_FLOWS)
    ours = _flow(_TRAINED_FLOWS).to(published.device)
    codes = _normal(batch, CODE).to(published.device)
    theirs(codes)  # so that its first layers are initialised
    ours.load_state_dict(checkpoint.flow_state(theirs.state_dict()))
    optimizer = torch.optim.Adam(theirs.parameters(), lr=2.88e-5, betas=(0.5, 0.9))

    @torch.no_grad()
    def difference() -> float:
        expected, log_det = theirs(codes)
        found, own_log_det = ours(codes)
        return max(
            beside.difference(found, expected[:, :, 0, 0]),
            beside.difference(own_log_det / CODE, log_det / CODE),
        )

    def step() -> None:
        residual, each = theirs(codes)
        loss = 0.5 * residual.square().sum(dim=[1, 2, 3]).mean() - each.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return Sides(_stage2_step(ours, batch), step, difference)


def sampling_sides(against: str, device: str, batch: int, num_flows: int) -> Sides:
    """From random numbers to poses."""
    published = PublishedBehavior(Path(against), choose_device(device))
    net, flow = published.networks(NUM_FRAMES, NUM_ACTIONS)["net"], published.flow(num_flows)
    own_net = BehaviorNet(Stage1Config().net).to(published.device)
    own_net.load_state_dict(checkpoint.net_state(net.state_dict()))
    with torch.device("meta"):
        own_flow = _flow(num_flows)
    state = checkpoint.flow_state(flow.state_dict())
    own_flow.load_state_dict(state, assign=True)  # one copy in memory
    noise = _normal(batch, CODE).to(published.device)
    start = _clip(batch)[:, 0].to(published.device)
    sample = _sampler(own_net.eval(), own_flow.eval(), batch)

    def published_sample() -> Tensor:
        return published.sampled(net, flow, noise, start, NUM_FRAMES)

    return Sides(sample, published_sample, lambda: beside.difference(sample(), published_sample()))


def _clip(batch: int) -> Tensor:
    return _normal(batch, NUM_FRAMES + 1, 51)


def _actions(batch: int) -> Tensor:
    return torch.randint(NUM_ACTIONS, (batch,), generator=torch.Generator().manual_seed(0))


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
