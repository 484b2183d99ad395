"""The published behaviour system as a benchmark runs it, from a checkout: its networks, and what it
computes in a step, in sampling and in rendering.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_POSE, _CODE, _WIDTH_FACTOR = 51, 1024, 2
_ADAM: Mapping[str, Mapping[str, float]] = {
    "net": {"lr": 1e-4},
    "regressor": {"lr": 1e-4},
    "action": {"lr": 1e-4, "weight_decay": 1e-4},
    "velocity": {"lr": 1e-4, "weight_decay": 1e-5},
    "latent": {"lr": 1e-3},
}


class PublishedBehavior:
    """Its networks on a device."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """folder: a checkout. Puts it on the import path of this process."""
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        utilities = types.ModuleType("lib.utils")  # the rest of it wants OpenCV, kornia, ignite
        vars(utilities).update(dict.fromkeys(("bounding_box_batch", "toggle_grad", "scale_img")))
        vars(utilities)["get_member"] = getattr
        sys.modules.setdefault("lib.utils", utilities)
        self.device = device
        self._optimizers: dict[str, torch.optim.Adam] = {}

    def networks(self, num_frames: int, num_actions: int) -> dict[str, nn.Module]:
        """The behavior net and what is trained beside it."""
        poses = importlib.import_module("models.pose_behavior_rnn")
        sequences = importlib.import_module("models.pose_discriminator")
        torch.manual_seed(0)
        found: dict[str, nn.Module] = {
            "net": poses.ResidualBehaviorNet(
                n_kps=_POSE, information_bottleneck=True, dim_hidden_b=_CODE
            ),
            "regressor": poses.Regressor_fly(_CODE, _POSE),
            "action": poses.Classifier_action(_POSE, num_actions, dropout=0, dim=512),
            "velocity": sequences.Sequence_disc_michael([2, 1, 1, 1], _POSE, out_dim=num_actions),
            "latent": poses.Classifier_action_beta(_CODE, num_actions),
        }
        encoder: Any = found["net"].b_enc
        # as published a first state on the CPU asks for the device number -1
        encoder.init_hidden = partial(_zero_state, encoder)
        for name, network in found.items():
            network.to(self.device)
            self._optimizers[name] = torch.optim.Adam(network.parameters(), **_ADAM[name])
        return found

    def flow(self, num_flows: int) -> Any:
        """The flow, of as many blocks."""
        module = importlib.import_module("models.flow.simple_flow")
        torch.manual_seed(0)
        return module.UnsupervisedTransformer2(
            flow_in_channels=_CODE,
            flow_mid_channels=_WIDTH_FACTOR * _CODE,
            flow_hidden_depth=2,
            n_flows=num_flows,
        ).to(self.device)

    def reconstructed(self, net: Any, poses: Tensor) -> Tensor:
        """Poses B T P of a pass; random numbers as torch draws them."""
        found: Tensor = net(poses, poses, poses.shape[1])[0]
        return found

    def sampled(self, net: Any, flow: Any, noise: Tensor, start: Tensor, num_frames: int) -> Tensor:
        """Poses B T P from random numbers, through the flow."""
        with torch.no_grad():
            code = flow.reverse(noise).squeeze(-1).squeeze(-1)
            found: Tensor = net.generate_seq(code, start[:, None], num_frames, start_frame=0)[0]
        return found

    def stage1_step(
        self, networks: Mapping[str, Any], clip: Tensor, action: Tensor, frames: Sequence[int]
    ) -> None:
        """Its update: three passes of the net, five steps of the regressor through the encoder."""
        net, regressor = networks["net"], networks["regressor"]
        poses, target = clip[:, :-1], clip[:, 1:]
        made, _, _, _, mean, log_std, _ = net(poses, poses, poses.shape[1])
        kl = (-log_std + 0.5 * (log_std.exp() ** 2 + mean**2)).sum(-1) - 0.5 * mean.shape[1]
        loss = 2.5 * F.mse_loss(made, target) + 0.01 * kl.mean()
        net(clip[:, 1:], poses, poses.shape[1])
        for frame in frames:
            error = self._leak(regressor, mean, poses, frame)
            self._optimizers["regressor"].zero_grad()
            error.backward(retain_graph=True)
            self._optimizers["regressor"].step()
        error = self._leak(regressor, mean, poses, frames[-1])
        loss = loss - 0.01 * (error.clamp(max=0.45) + error.clamp(max=0.7))
        self._descend("net", loss)
        self._descend("action", F.cross_entropy(networks["action"](poses)[0], action))
        velocities = poses.diff(dim=1).transpose(1, 2)
        self._descend("velocity", F.cross_entropy(networks["velocity"](velocities)[0], action))
        mean = net(poses, poses, poses.shape[1])[4]
        self._descend("latent", F.cross_entropy(networks["latent"](mean), action))

    def _leak(self, regressor: Any, mean: Tensor, poses: Tensor, frame: int) -> Tensor:
        asked = torch.full((len(poses),), frame, device=poses.device)
        guess = regressor(mean, F.one_hot(asked, poses.shape[1]).float())
        return F.mse_loss(guess, poses[:, frame])

    def _descend(self, name: str, loss: Tensor) -> None:
        self._optimizers[name].zero_grad()
        loss.backward()
        self._optimizers[name].step()


def renderer(folder: Path, device: torch.device, settings: Mapping[str, Any]) -> Any:
    """The published renderer. settings: of its architecture and data sections."""
    PublishedBehavior(folder, device)
    module = importlib.import_module("models.vunets")
    torch.manual_seed(0)
    return module.VunetAlter(n_channels_x=3, **settings).to(device)


def keypoint_regressor(num_outputs: int, widths: Sequence[int]) -> Any:
    """The regressor beside it. widths: of the codes in pixels, fine first."""
    module = importlib.import_module("models.vunets")
    return module.Regressor(
        num_outputs,
        n_latent_scales=len(widths),
        nf_max=128,
        latent_widths=list(widths),
        linear_width_factor=1,
    )


def likelihood(features: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Its perceptual loss with a VGG-19 of given layers, whose weights are not frozen."""
    losses = importlib.import_module("lib.losses")
    networks = importlib.import_module("models.imagenet_pretrained")
    vgg = types.SimpleNamespace(features=features)
    network = networks.PerceptualVGG(vgg, [1.0] * 6).eval()

    def compute(target: Tensor, made: Tensor) -> Tensor:
        terms = losses.vgg_loss(network, target, made)
        return torch.stack(list(terms.values())).sum()

    return compute


def _zero_state(encoder: Any, bs: int, **_: object) -> None:
    place = next(encoder.parameters())
    encoder.hidden = place.new_zeros(1, bs, _CODE), place.new_zeros(1, bs, _CODE)
