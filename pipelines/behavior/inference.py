"""What a trained behavior net does with poses (spec: 4); poses here are scaled, B T P."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.behavior import losses
from pipelines.behavior.config import FamilyConfig, Stage1Config
from pipelines.behavior.data import data_scale
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.frozen import (
    FAMILY,
    Warn,
    frozen_checkpoint,
    run_config,
    stored_scale,
)
from pipelines.behavior.mtvae import MotionTransformationVae
from pipelines.behavior.networks import BehaviorNet
from pipelines.behavior.pose_files import Wanted
from pipelines.behavior.poses import PoseScale
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta, load_weights
from pipelines.training.run_folder import Run, load_run, require_checkpoint

_AXES = {"joints_world_m": 3, "joints_camera_m": 3}


@dataclass(frozen=True)
class BehaviorModel:
    """A trained model. flow: None of a stage 1.  fps: poses per second, None if unknown.

    checkpoints: for each part, where its weights come from and their SHA-256.
    """

    run: Run
    config: FamilyConfig
    net: BehaviorNet
    flow: BehaviorFlow | None
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

    @torch.no_grad()
    def encode(self, poses: Tensor, noise: Tensor | None = None) -> Tensor:
        """The behaviour of sequences B T P: the code's mean, B D; with noise B D a drawn one.

        As in training, the clip's last frame is not looked at.
        """
        found = self.net.encoder(poses[:, : self.config.poses.num_frames])
        return found.mean if noise is None else found.sample(noise)

    @torch.no_grad()
    def decode(self, code: Tensor, posture: Tensor, num_frames: int) -> Tensor:
        """code: B D.  posture: B P.  Returns B T P, without the posture."""
        return self.net.decoder(code, posture, num_frames)

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
        return self.flow.inverse(noise)


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
    """The model of a run of stage 1 or 2.

    data_root: where the scale of poses is computed from for a published model, which has none.
    warn: told about damaged checkpoints that are passed over. Raises UserError when the folder is
    no such run or has no checkpoint that can be used.
    """
    run = load_run(run_dir, family=FAMILY)
    config = run_config(run)
    if config.stage1.kind == "mt-vae":
        raise UserError(
            f"run '{run_dir.name}' is an MT-VAE, which is measured only: i2v eval pose",
            {"to fix": "give a run of a behavior net"},
            EXIT_USAGE,
        )
    newest = require_checkpoint(run, warn=warn)
    first = newest if run.stage == "1" else frozen_checkpoint(run_dir, warn=warn)
    net = load_net(config, first, device)
    flow = load_flow(config, newest, device) if run.stage == "2" else None
    found = stored_scale(newest, config) or stored_scale(first, config)
    sources = {"stage1": first} | ({"stage2": newest} if run.stage == "2" else {})
    return BehaviorModel(
        run,
        config,
        net,
        flow,
        found or _scale_of_data(data_root, config, run),
        checkpoint_meta(newest).get("fps"),
        device,
        {name: _described(path) for name, path in sources.items()},
    )


def load_net(config: FamilyConfig, checkpoint_dir: Path, device: torch.device) -> BehaviorNet:
    """The frozen behavior net of a stage 1."""
    with torch.device("meta"):
        net = BehaviorNet(config.stage1.net)
    net = _emptied(net, device)
    load_weights(checkpoint_dir, {"net": net})
    return net


def load_flow(config: FamilyConfig, checkpoint_dir: Path, device: torch.device) -> BehaviorFlow:
    """The frozen flow of a stage 2, read tensor by tensor: never twice in memory."""
    with torch.device("meta"):
        flow = BehaviorFlow(config.stage2.flow, code_size=config.stage1.net.code_size)
    flow = _emptied(flow, device)
    load_weights(checkpoint_dir, {"flow": flow})
    return flow


def build_mtvae(config: Stage1Config) -> MotionTransformationVae:
    """The baseline."""
    settings = config.mtvae
    return MotionTransformationVae(
        pose_size=config.net.pose_size, width=settings.width, code_size=settings.code_size
    )


def load_mtvae(
    config: FamilyConfig, checkpoint_dir: Path, device: torch.device
) -> MotionTransformationVae:
    """The frozen baseline."""
    with torch.device("meta"):
        model = build_mtvae(config.stage1)
    model = _emptied(model, device)
    load_weights(checkpoint_dir, {"net": model})
    return model


def _emptied(network: Any, device: torch.device) -> Any:
    """On a device, with weights still to be loaded."""
    made: nn.Module = network.to_empty(device=device)
    return made.eval().requires_grad_(False)


def _scale_of_data(data_root: Path, config: FamilyConfig, run: Run) -> PoseScale:
    """Published weights come without the scale they need: it is that of their data."""
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


def _described(checkpoint_dir: Path) -> dict[str, Any]:
    meta = checkpoint_meta(checkpoint_dir)
    digest = meta["files"][WEIGHTS_NAME]["sha256"]
    return {"path": str(checkpoint_dir), "step": meta["step"], "sha256": digest}
