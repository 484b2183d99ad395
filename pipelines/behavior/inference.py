"""What a trained behavior net does with poses (spec: 4); poses here are scaled, B T P."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.behavior import losses
from pipelines.behavior.config import FamilyConfig
from pipelines.behavior.data import data_scale
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.frozen import (
    FAMILY,
    Warn,
    frozen_checkpoint,
    run_config,
    stored_scale,
)
from pipelines.behavior.networks import BehaviorNet
from pipelines.behavior.pose_files import Wanted
from pipelines.behavior.poses import PoseScale
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta, load_weights
from pipelines.training.run_folder import Run, load_run, require_checkpoint

_AXES = {"joints_world_m": 3, "joints_camera_m": 3}


@dataclass(frozen=True)
class PoseModel:
    """What every trained model has. fps: poses per second, None if unknown.

    checkpoints: for each part, where its weights come from and their SHA-256.
    """

    run: Run
    config: FamilyConfig
    scale: PoseScale
    fps: float | None
    device: torch.device
    checkpoints: dict[str, dict[str, Any]]

    @property
    def wanted(self) -> Wanted:
        """The poses that it takes."""
        return wanted_poses(self.config)

    def scaled(self, joints: np.ndarray) -> Tensor:
        """Poses as they are read, ... J A, as the model takes them: ... P."""
        flat = joints.reshape(*joints.shape[:-2], -1)
        return torch.from_numpy(self.scale.normalize(flat)).float().to(self.device)

    def joints(self, poses: Tensor) -> np.ndarray:
        """The other direction: ... P to ... J A, float64."""
        restored = self.scale.restore(poses.detach().double().cpu().numpy())
        wanted = self.wanted
        return restored.reshape(*restored.shape[:-1], wanted.num_joints, wanted.num_axes)

    def between(self, first: Tensor, last: Tensor, share: float, *, path: str) -> Tensor:
        """A behaviour on the way from one to another, codes D each. path: arc or line."""
        return between(first, last, share, path=path)


@dataclass(frozen=True)
class BehaviorModel(PoseModel):
    """The behavior net and its flow. flow: None of a stage 1."""

    net: BehaviorNet
    flow: BehaviorFlow | None
    num_given = 1
    """Poses that a future goes on from."""

    @property
    def noise_size(self) -> int:
        """Random numbers that make a future."""
        return self.config.stage1.net.code_size

    @property
    def num_read(self) -> int:
        """Poses that a behaviour is read from: in training the last one is not looked at."""
        return self.config.poses.num_frames

    @torch.no_grad()
    def encode(self, poses: Tensor, noise: Tensor | None = None) -> Tensor:
        """The behaviour of sequences B T P: the code's mean, B D; with noise B D a drawn one."""
        found = self.net.encoder(poses[:, : self.num_read])
        return found.mean if noise is None else found.sample(noise)

    @torch.no_grad()
    def decode(self, code: Tensor, posture: Tensor, num_frames: int) -> Tensor:
        """code: B D.  posture: B P.  Returns B T P, without the posture."""
        return self.net.decoder(code, posture, num_frames)

    def continued(self, code: Tensor, given: Tensor, num_frames: int) -> Tensor:
        """The future of given poses B G P, of which the first counts. Returns B T P."""
        return self.decode(code, given[:, 0], num_frames)

    @torch.no_grad()
    def draw(self, noise: Tensor, *, prior: str = "flow") -> Tensor:
        """Codes of random behaviours from standard normal numbers, B D."""
        if prior == "normal":
            return noise
        if self.flow is None:
            raise UserError(
                f"run '{self.run.path.name}' is a stage 1, it has no flow to sample from",
                {
                    "to fix": "give a run of stage 2, or add prior=normal",
                    "run first": f"i2v train behavior --stage 2 --stage1-run {self.run.path.name}",
                },
                EXIT_USAGE,
            )
        self.flow.keep_packed()
        return self.flow.inverse(noise)

    def found_again(self, made: Tensor, partners: Tensor) -> Tensor:
        """The behaviour of what was made, B T P, in the place of the partners' own."""
        return self.encode(made)


def between(first: Tensor, last: Tensor, share: float, *, path: str) -> Tensor:
    """A behaviour on the way from one to another, codes D each. path: arc or line."""
    if path == "line":
        return torch.lerp(first, last, share)
    return losses.interpolate(first, last, share)


def wanted_poses(config: FamilyConfig) -> Wanted:
    """The poses that a model of these settings takes."""
    axes = _AXES.get(config.poses.array, 2)
    return Wanted(config.stage1.net.pose_size // axes, axes, config.poses.array)


def load(run_dir: Path, device: torch.device, *, data_root: Path, warn: Warn) -> BehaviorModel:
    """The behavior net of a run of stage 1 or 2.

    data_root: where the scale of poses is computed from for a published model, which has none.
    warn: told about damaged checkpoints that are passed over. Raises UserError when the folder is
    no such run or has no checkpoint that can be used.
    """
    run = load_run(run_dir, family=FAMILY)
    config = run_config(run)
    if config.stage1.kind == "mt-vae":
        raise UserError(
            f"run '{run_dir.name}' is an MT-VAE, a behavior net is asked for",
            {"to fix": "give a run of another preset"},
            EXIT_USAGE,
        )
    newest = require_checkpoint(run, warn=warn)
    first = newest if run.stage == "1" else frozen_checkpoint(run_dir, warn=warn)
    sources = {"stage1": first} | ({"stage2": newest} if run.stage == "2" else {})
    return BehaviorModel(
        run=run,
        config=config,
        net=load_net(config, first, device),
        flow=load_flow(config, newest, device) if run.stage == "2" else None,
        scale=model_scale(run, config, [newest, first], data_root),
        fps=checkpoint_meta(newest).get("fps"),
        device=device,
        checkpoints={name: described(path) for name, path in sources.items()},
    )


def load_net(config: FamilyConfig, checkpoint_dir: Path, device: torch.device) -> BehaviorNet:
    """The frozen behavior net of a stage 1."""
    with torch.device("meta"):
        net = BehaviorNet(config.stage1.net)
    net = emptied(net, device)
    load_weights(checkpoint_dir, {"net": net})
    return net


def load_flow(config: FamilyConfig, checkpoint_dir: Path, device: torch.device) -> BehaviorFlow:
    """The frozen flow of a stage 2, read tensor by tensor: never twice in memory."""
    with torch.device("meta"):
        flow = BehaviorFlow(config.stage2.flow, code_size=config.stage1.net.code_size)
    flow = emptied(flow, device)
    load_weights(checkpoint_dir, {"flow": flow})
    return flow


def emptied(network: Any, device: torch.device) -> Any:
    """A frozen network on a device, with weights still to be loaded."""
    made: nn.Module = network.to_empty(device=device)
    return made.eval().requires_grad_(False)


def model_scale(
    run: Run, config: FamilyConfig, checkpoint_dirs: Sequence[Path], data_root: Path
) -> PoseScale:
    """The scale of a model's poses; of a published one, which has none, that of its data."""
    for each in checkpoint_dirs:
        found = stored_scale(each, config)
        if found is not None:
            return found
    try:
        return data_scale(data_root, config)
    except UserError as error:
        raise UserError(
            f"run '{run.path.name}' was published without the scale of its poses",
            {
                "it is that of": f"all poses of {config.data.dataset}",
                "looked for them in": data_root / config.data.dataset / "prepared",
                "run first": f"i2v extract-frames {config.data.dataset} --preset h36m_poses",
            },
            EXIT_NO_DATA,
        ) from error


def described(checkpoint_dir: Path) -> dict[str, Any]:
    """A checkpoint as the meta.json of what is made with it names it."""
    meta = checkpoint_meta(checkpoint_dir)
    digest = meta["files"][WEIGHTS_NAME]["sha256"]
    return {"path": str(checkpoint_dir), "step": meta["step"], "sha256": digest}
