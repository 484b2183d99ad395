"""From a trained renderer, an appearance and postures to pictures; what other families use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.events import EXIT_USAGE, UserError
from pipelines.nn.norm_conv import fold_for_inference
from pipelines.shape_pose.appearance import appearance_input, as_images
from pipelines.shape_pose.config import FamilyConfig
from pipelines.shape_pose.data import part_matrices
from pipelines.shape_pose.networks import ShapePoseNet
from pipelines.shape_pose.preview import to_bytes
from pipelines.shape_pose.skeletons import BY_JOINTS, SKELETONS, Skeleton
from pipelines.shape_pose.stick_figure import stick_figure
from pipelines.training.beginning import settings_of
from pipelines.training.checkpoint import load_weights
from pipelines.training.run_folder import load_run, require_checkpoint

FAMILY = "shape-pose"
_BATCH = 8
"""Pictures at once on a GPU; on a CPU one: its maps then stay near the core."""


@dataclass(frozen=True)
class Renderer:
    """A trained net, ready to render."""

    net: ShapePoseNet
    config: FamilyConfig
    device: torch.device

    @property
    def size_px(self) -> int:
        """Height and width of its pictures."""
        return self.config.network.size_px

    @property
    def skeleton(self) -> Skeleton:
        """The joints it takes."""
        return SKELETONS[BY_JOINTS[self.config.people.joints]]

    @property
    def needs_joints(self) -> bool:
        """Whether it must know where the joints of the appearance's picture are."""
        return self.config.network.part_px is not None

    @torch.no_grad()
    def appearance(self, image: np.ndarray, joints: np.ndarray | None) -> list[Tensor]:
        """The codes of a person, without chance.

        image: uint8 S S 3.  joints: J 2, fractions of it, where they are needed.
        """
        stored = torch.from_numpy(np.array(image))[None].to(self.device)
        matrices = None
        if self.needs_joints:
            assert joints is not None
            found = part_matrices(joints[None] * self.size_px, self.skeleton, self.config)
            matrices = torch.from_numpy(found).to(self.device)
        seen = appearance_input(as_images(stored), matrices, self.config.network.part_px)
        # the published transfer draws a coarse code; here it is its mean
        return self.net.encode(seen, [seen.new_zeros(())] * 2).codes

    @torch.no_grad()
    def render(self, codes: list[Tensor], places: np.ndarray) -> np.ndarray:
        """A video of a person. places: T J 2, fractions of the picture.  Returns uint8 T S S 3."""
        made, batch = [], 1 if self.device.type == "cpu" else _BATCH
        for first in range(0, len(places), batch):
            figures = [
                stick_figure(each * self.size_px, self.size_px, skeleton=self.skeleton)
                for each in places[first : first + batch]
            ]
            figure = as_images(torch.from_numpy(np.stack(figures)).to(self.device))
            expanded = [code.expand(len(figures), -1, -1, -1) for code in codes]
            made.append(to_bytes(self.net.render(figure, expanded)))
        return np.concatenate(made)


def load(run_dir: Path, device: torch.device, *, warn: Callable[[str], None]) -> Renderer:
    """The renderer of a run. warn: told about damaged checkpoints that are passed over."""
    run = load_run(run_dir, family=FAMILY)
    config = settings_of(run, FamilyConfig)
    if config.kind != "shape-pose":
        raise UserError(
            f"run '{run_dir.name}' is the baseline VUNet, which is measured only",
            {"to fix": "give a run of another preset of shape-pose"},
            EXIT_USAGE,
        )
    checkpoint = require_checkpoint(run, warn=warn)
    with torch.device("meta"):
        net = ShapePoseNet(config.network)
    net = net.to_empty(device=device).eval().requires_grad_(False)
    load_weights(checkpoint, {"net": net})
    fold_for_inference(net)
    return Renderer(net, config, device)
