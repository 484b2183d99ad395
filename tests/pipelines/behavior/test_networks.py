"""Every network of both families builds, runs, and each of its parameters gets a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.behavior import auxiliary
from pipelines.behavior.config import BehaviorFlowConfig, BehaviorNetConfig
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.mtvae import MotionTransformationVae
from pipelines.behavior.networks import BehaviorNet
from pipelines.shape_pose import discriminators
from pipelines.shape_pose.baseline import BaselineVunet
from pipelines.shape_pose.config import NetworkConfig
from pipelines.shape_pose.networks import KeypointRegressor, ShapePoseNet

BATCH, POSE, FRAMES, CODE, SIZE_PX = 3, 51, 12, 8, 32

Built = tuple[nn.Module, Callable[[], list[Tensor]]]
"""A network, and a forward pass with the shapes that its outputs must have behind it."""


def shaped(values: Tensor, *shape: int) -> Tensor:
    assert values.shape == (BATCH, *shape)
    return values


def behavior_net(**settings: Any) -> Built:
    net = BehaviorNet(BehaviorNetConfig(code_size=CODE, **settings))

    def run() -> list[Tensor]:
        poses = torch.randn(BATCH, FRAMES, POSE)
        found = net.encoder(poses)
        code = shaped(found.sample(torch.randn(BATCH, CODE)), CODE)
        return [shaped(net.decoder(code, poses[:, 0], 5), 5, POSE), found.mean, found.log_std]

    return net, run


def flow() -> Built:
    config = BehaviorFlowConfig(num_flows=2, hidden_width=8, hidden_depth=1)
    net = BehaviorFlow(config, code_size=CODE)

    def run() -> list[Tensor]:
        code = torch.randn(BATCH, CODE)
        residual, log_det = net(code)
        assert torch.allclose(net.inverse(residual), code, atol=1e-4)
        return [shaped(residual, CODE), shaped(log_det)]

    return net, run


def mt_vae() -> Built:
    net = MotionTransformationVae(pose_size=POSE, width=8, code_size=4)

    def run() -> list[Tensor]:
        state = torch.randn(1, BATCH, 8), torch.randn(1, BATCH, 8)
        noise = torch.randn(2, BATCH, 4)
        poses = torch.randn(BATCH, FRAMES, POSE)
        made = net(poses, None, state, num_condition=4, noise=noise[0], cycle_noise=noise[1])
        return [shaped(made.poses, FRAMES - 4, POSE), made.mean, made.log_std, made.cycle]

    return net, run


def watcher(net: nn.Module, inputs: Callable[[], tuple[Tensor, ...]], *shape: int) -> Built:
    def run() -> list[Tensor]:
        found = net(*inputs())
        return [shaped(found[0] if isinstance(found, tuple) else found, *shape)]

    return net, run


def poses() -> tuple[Tensor, ...]:
    return (torch.randn(BATCH, FRAMES, POSE),)


def codes() -> tuple[Tensor, ...]:
    return (torch.randn(BATCH, CODE),)


def images() -> tuple[Tensor, ...]:
    return (torch.randn(BATCH, 3, SIZE_PX, SIZE_PX),)


def codes_and_frames() -> tuple[Tensor, ...]:
    return torch.randn(BATCH, CODE), torch.arange(BATCH)


def renderer(kind: Callable[[NetworkConfig], Any], **settings: Any) -> Built:
    config = NetworkConfig(size_px=SIZE_PX, width=4, max_width=8, **settings)
    net = kind(config)
    side = config.part_px or SIZE_PX
    sizes = list(reversed(config.code_sizes_px))

    def run() -> list[Tensor]:
        appearance = torch.randn(BATCH, config.appearance_channels, side, side)
        noise = [torch.randn(BATCH, 8, size, size) for size in sizes]
        found = net.encode(appearance, noise)
        figure = images()[0]
        if isinstance(net, BaselineVunet):
            groups = [torch.randn(BATCH, 8, size // 2, size // 2) for size in sizes for _ in "1234"]
            made = net.render(figure, groups, found.codes)
            return [shaped(made.image, 3, SIZE_PX, SIZE_PX), *made.prior_means]
        made = net.render(figure, found.codes)
        return [shaped(made, 3, SIZE_PX, SIZE_PX), *found.means, *found.log_stds]

    return net, run


def regressor() -> Built:
    net = KeypointRegressor(num_outputs=34, code_sizes_px=(8, 4), width=8)
    return watcher(net, lambda: ([torch.randn(BATCH, 8, size, size) for size in (4, 8)],), 34)


NETWORKS: dict[str, Callable[[], Built]] = {
    "behavior net": behavior_net,
    "behavior net with an input layer": lambda: behavior_net(has_input_layer=True),
    "flow": flow,
    "mt-vae": mt_vae,
    "action classifier": lambda: watcher(auxiliary.ActionClassifier(POSE, 4, width=8), poses, 4),
    "velocity classifier": lambda: watcher(
        auxiliary.VelocityClassifier(POSE, 4, num_frames=FRAMES - 1), poses, 4
    ),
    "posture regressor": lambda: watcher(
        auxiliary.PostureRegressor(CODE, POSE, num_frames=FRAMES), codes_and_frames, POSE
    ),
    "start posture regressor": lambda: watcher(
        auxiliary.start_posture_regressor(CODE, POSE), codes, POSE
    ),
    "realism classifier": lambda: watcher(auxiliary.RealismClassifier(POSE), poses, 1),
    "renderer": lambda: renderer(ShapePoseNet),
    "renderer of parts": lambda: renderer(ShapePoseNet, appearance_channels=30, box_factor=1),
    "renderer, l2": lambda: renderer(ShapePoseNet, convolution="l2"),
    "renderer, instance norm": lambda: renderer(ShapePoseNet, convolution="instance"),
    "renderer, interpolating": lambda: renderer(ShapePoseNet, has_subpixel_upsampling=False),
    "vunet": lambda: renderer(BaselineVunet),
    "vunet, l2": lambda: renderer(BaselineVunet, convolution="l2"),
    "keypoint regressor": regressor,
    "patch discriminator": lambda: watcher(
        discriminators.patch_discriminator(width=4), images, 1, 2, 2
    ),
    "part discriminator": lambda: watcher(
        discriminators.PartDiscriminator(part_size_px=SIZE_PX), images, 1
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_runs_and_every_parameter_gets_a_finite_gradient(name: str) -> None:
    torch.manual_seed(0)
    net, run = NETWORKS[name]()
    sum((each - 0.3).square().mean() for each in run()).backward()
    without = [key for key, each in net.named_parameters() if each.grad is None]
    assert not without
    for key, each in net.named_parameters():
        assert each.grad.isfinite().all(), key
    touched = sum(float(each.grad.abs().sum()) > 0 for each in net.parameters())
    assert touched > 0.9 * len(list(net.parameters()))


@torch.no_grad()
def test_a_flow_packed_for_sampling_gives_the_same_numbers() -> None:
    net = BehaviorFlow(BehaviorFlowConfig(num_flows=2, hidden_width=32), code_size=64)
    codes = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    residual, _ = net(codes)
    expected = net.inverse(residual)
    net.keep_packed()
    net.keep_packed()  # a second time changes nothing
    assert torch.allclose(net.inverse(residual), expected, atol=1e-5)
    assert torch.allclose(net(codes)[0], residual, atol=1e-5)
    assert torch.allclose(net.inverse(residual[:2]), expected[:2], atol=1e-5)
