"""What a trained MT-VAE, the baseline, does with poses (spec: 2.7, 6.1); poses are scaled, B T P.

It goes on from several given poses, not from one. The encoder begins in a random state, as
published; a code here is the behaviour's and that state's numbers together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipelines.behavior import inference
from pipelines.behavior.config import FamilyConfig, Stage1Config
from pipelines.behavior.frozen import FAMILY, Warn, run_config
from pipelines.behavior.inference import BehaviorModel, PoseModel
from pipelines.behavior.mtvae import MotionTransformationVae
from pipelines.training.checkpoint import checkpoint_meta, load_weights
from pipelines.training.generators import torch_generator
from pipelines.training.run_folder import load_run, require_checkpoint


@dataclass(frozen=True)
class BaselineModel(PoseModel):
    """A trained MT-VAE."""

    net: MotionTransformationVae

    @property
    def num_given(self) -> int:
        """Poses that a future goes on from."""
        return self.config.stage1.mtvae.num_condition

    @property
    def code_size(self) -> int:
        """Numbers of a change."""
        return self.config.stage1.mtvae.code_size

    @property
    def noise_size(self) -> int:
        """Random numbers that make a future: the code, hidden and cell state of the encoder."""
        return self.code_size + 2 * self.config.stage1.mtvae.width

    @property
    def num_read(self) -> int:
        """Poses that a behaviour is read from: the given ones and their future."""
        return self.config.poses.num_frames + 1

    @torch.no_grad()
    def encode(self, poses: Tensor, noise: Tensor | None = None) -> Tensor:
        """The change from the given poses to their future, B D; with noise B D a drawn one."""
        drawn = self._fixed_noise(len(poses)) if noise is None else noise
        code, state = self._parted(drawn)
        start, _ = self.net.encode(poses[:, : self.num_given], state)
        end, _ = self.net.encode(poses[:, self.num_given : self.num_read], state)
        mean, log_std = self.net.change(start, end)
        found = mean if noise is None else mean + log_std.exp() * code
        return torch.cat([found, drawn[:, found.shape[1] :]], dim=1)

    @torch.no_grad()
    def continued(self, code: Tensor, given: Tensor, num_frames: int) -> Tensor:
        """The future of given poses B G P. Returns B T P.

        A transfer is given a whole sequence of the target, as published.
        """
        change, state = self._parted(code)
        base, hidden = self.net.encode(given[:, : self.num_read], state)
        return self.net.decode(self.net.changed(base, change), hidden, num_frames)

    def draw(self, noise: Tensor, *, prior: str = "normal") -> Tensor:
        """Codes of random changes: the model has no prior but the normal one."""
        return noise

    def found_again(self, made: Tensor, partners: Tensor) -> Tensor:
        """The change that was made, B T P, seen from the partners' given poses."""
        return self.encode(torch.cat([partners[:, : self.num_given], made], dim=1))

    def between(self, first: Tensor, last: Tensor, share: float, *, path: str) -> Tensor:
        """A change on the way from one to another, from the first one's state."""
        size = self.code_size
        code = inference.between(first[:size], last[:size], share, path=path)
        return torch.cat([code, first[size:]])

    def _parted(self, noise: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The numbers of a code, B Z, and of the encoder's first state, 1 B W each."""
        settings = self.config.stage1.mtvae
        sizes = [settings.code_size, settings.width, settings.width]
        code, hidden, cell = noise.split(sizes, dim=1)
        return code, (hidden[None].contiguous(), cell[None].contiguous())

    def _fixed_noise(self, count: int) -> Tensor:
        noise = torch.randn((1, self.noise_size), generator=torch_generator(0, "first state"))
        return noise.to(self.device).expand(count, -1)


def load_model(
    run_dir: Path, device: torch.device, *, data_root: Path, warn: Warn
) -> BehaviorModel | BaselineModel:
    """The model of any run of the family; see inference.load."""
    run = load_run(run_dir, family=FAMILY)
    config = run_config(run)
    if config.stage1.kind != "mt-vae":
        return inference.load(run_dir, device, data_root=data_root, warn=warn)
    newest = require_checkpoint(run, warn=warn)
    return BaselineModel(
        run=run,
        config=config,
        net=load_mtvae(config, newest, device),
        scale=inference.model_scale(run, config, [newest], data_root),
        fps=checkpoint_meta(newest).get("fps"),
        device=device,
        checkpoints={"stage1": inference.described(newest)},
    )


def build_mtvae(config: Stage1Config) -> MotionTransformationVae:
    """The network."""
    settings = config.mtvae
    return MotionTransformationVae(
        pose_size=config.net.pose_size, width=settings.width, code_size=settings.code_size
    )


def load_mtvae(
    config: FamilyConfig, checkpoint_dir: Path, device: torch.device
) -> MotionTransformationVae:
    """The frozen network of a checkpoint."""
    with torch.device("meta"):
        empty = build_mtvae(config.stage1)
    network: MotionTransformationVae = inference.emptied(empty, device)
    load_weights(checkpoint_dir, {"net": network})
    return network
