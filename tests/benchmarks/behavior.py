"""behavior: training steps of both stages and sampling, with peak memory.

`--against DIR`: a checkout of the published code, whose networks then take turns with ours: same
weights, same inputs, same outputs. What it computes in a step is written out here, since its own
step no longer runs on today's PyTorch: the posture regressor is stepped before the net's loss goes
backward through it. Like ours, it computes that loss once more, with the regressor as it is then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

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
from tests.benchmarks.published_behavior import PublishedBehavior
from tests.benchmarks.rows import Measurement, Settings, apart, interleaved, ratios, seconds

NUM_FRAMES, NUM_ACTIONS, CODE, BATCH = 50, 15, 1024, 64
_NUM_FLOWS, _TRAINED_FLOWS = 15, 3
_FRAMES_ASKED = [3, 11, 27, 36, 48]
_FLOOR = {
    "stage 1": "what is left is matrix products of the two LSTMs",
    "stage 2": "the same matrix products on both sides, and Adam over the same weights",
    "sampling": "the same matrix products on both sides, each weight read once for 64 codes",
}
"""Why a ratio is not larger: what a profile of our side shows."""


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of each part in a process of its own, for its memory; then beside the published code."""
    flows = f"{_TRAINED_FLOWS} of {_NUM_FLOWS} blocks"
    own: dict[str, Callable[..., list[float]]] = {
        f"stage 1, a step of {BATCH} clips": stage1_seconds,
        f"stage 2, a step of {BATCH} codes, {flows}": stage2_seconds,
        f"{BATCH} sequences of {NUM_FRAMES} poses, sampled": sampling_seconds,
    }
    batch = 8 if settings.quick else BATCH
    for name, function in own.items():
        done = apart(function, settings.device, settings.repeats, batch)
        found = [1000 * each for each in done.result]
        yield Measurement(name, found, "ms", note=_note(settings), peak_mb=done.peak_mb)
    if settings.against is not None:
        published = PublishedBehavior(settings.against, choose_device(settings.device))
        yield _stage1_beside(settings, published, batch)
        yield _stage2_beside(settings, published, batch)
        yield _sampling_beside(settings, published, batch)


def _note(settings: Settings) -> str:
    return f"random weights; {settings.device}, {torch.get_num_threads()} threads"


def stage1_seconds(device: str, repeats: int, batch: int) -> list[float]:
    """Seconds of a step on published batches; what is trained beside the net is part of it."""
    place = choose_device(device)
    return seconds(_stage1_step(_stage1_networks(place), batch), repeats=repeats)


def stage2_seconds(device: str, repeats: int, batch: int) -> list[float]:
    """Seconds of a step of a part of the flow: the whole takes 10 GB."""
    flow = _flow(_TRAINED_FLOWS).to(choose_device(device))
    return seconds(_stage2_step(flow, batch), repeats=repeats)


def sampling_seconds(device: str, repeats: int, batch: int) -> list[float]:
    """Seconds from random numbers to poses: through the whole flow, then the decoder."""
    place = choose_device(device)
    net, flow = BehaviorNet(Stage1Config().net).to(place), _flow(_NUM_FLOWS).to(place)
    return seconds(_sampler(net.eval(), flow.eval(), batch), repeats=repeats)


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

    @torch.inference_mode()
    def sample() -> Tensor:
        return net.decoder(flow.inverse(noise), start, NUM_FRAMES)

    return sample


# The published code, taking turns with ours


def _stage1_beside(settings: Settings, published: PublishedBehavior, batch: int) -> Measurement:
    ours = _stage1_networks(published.device)
    theirs = published.networks(NUM_FRAMES, NUM_ACTIONS)
    ours.net.load_state_dict(checkpoint.net_state(theirs["net"].state_dict()))
    clip = _clip(batch).to(published.device)
    poses = clip[:, :-1]
    with torch.no_grad():
        torch.manual_seed(0)
        expected = published.reconstructed(theirs["net"], poses)
        torch.manual_seed(0)
        found = ours.net.encoder(poses)
        noise = torch.randn_like(found.mean)
        made = ours.net.decoder(found.sample(noise), poses[:, 0], NUM_FRAMES)
    difference = _agreement(made, expected)

    def step() -> None:
        published.stage1_step(theirs, clip, _actions(batch).to(published.device), _FRAMES_ASKED)

    own, other = interleaved([_stage1_step(ours, batch), step], repeats=settings.repeats)
    return _ratio("stage 1, a step", other, own, difference, settings, floor="stage 1")


def _stage2_beside(settings: Settings, published: PublishedBehavior, batch: int) -> Measurement:
    theirs = published.flow(_TRAINED_FLOWS)
    ours = _flow(_TRAINED_FLOWS).to(published.device)
    codes = _normal(batch, CODE).to(published.device)
    theirs(codes)  # so that its first layers are initialised
    ours.load_state_dict(checkpoint.flow_state(theirs.state_dict()))
    with torch.no_grad():
        expected, log_det = theirs(codes)
        found, own_log_det = ours(codes)
    difference = _agreement(found, expected[:, :, 0, 0])
    _agreement(own_log_det / CODE, log_det / CODE)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=2.88e-5, betas=(0.5, 0.9))

    def step() -> None:
        residual, each = theirs(codes)
        loss = 0.5 * residual.square().sum(dim=[1, 2, 3]).mean() - each.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    own, other = interleaved([_stage2_step(ours, batch), step], repeats=settings.repeats)
    title = f"stage 2, a step, {_TRAINED_FLOWS} of {_NUM_FLOWS} blocks"
    return _ratio(title, other, own, difference, settings, floor="stage 2")


def _sampling_beside(settings: Settings, published: PublishedBehavior, batch: int) -> Measurement:
    num_flows = _TRAINED_FLOWS if settings.quick else _NUM_FLOWS
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

    difference = _agreement(sample(), published_sample())
    own, other = interleaved([sample, published_sample], repeats=settings.repeats)
    title = f"{batch} sequences of {NUM_FRAMES} poses, sampled"
    return _ratio(title, other, own, difference, settings, floor="sampling", at_least=2.0)


def _ratio(
    title: str,
    theirs: list[float],
    ours: list[float],
    difference: float,
    settings: Settings,
    *,
    floor: str,
    at_least: float = 1.5,
) -> Measurement:
    note = f"{_note(settings)}; largest difference {difference:.1g}; {_FLOOR[floor]}"
    return Measurement(
        f"{title}, over the published code",
        ratios(theirs, ours),
        "x",
        at_least=at_least,
        note=note,
    )


def _agreement(found: Tensor, expected: Tensor) -> float:
    """Largest difference; an error where the two do not compute the same."""
    difference = float((found - expected).abs().max())
    if not difference < 1e-3 * max(1.0, float(expected.abs().max())):
        raise RuntimeError(f"the outputs differ by {difference:g}")
    return difference


def _clip(batch: int) -> Tensor:
    return _normal(batch, NUM_FRAMES + 1, 51)


def _actions(batch: int) -> Tensor:
    return torch.randint(NUM_ACTIONS, (batch,), generator=torch.Generator().manual_seed(0))


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
