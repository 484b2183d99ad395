"""Postures shown as a person: the renderer of a shape-pose run, and whose appearance it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.behavior.config import SampleRequest, TransferRequest
from pipelines.behavior.pose_files import Wanted, read_poses
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.io.images import fit_image, read_image
from pipelines.shape_pose import sample as shape_pose
from pipelines.shape_pose.data import part_matrices


@dataclass(frozen=True)
class Painter:
    """A renderer that has seen a person. person: uint8 S S 3.  appearance: as it was named."""

    renderer: shape_pose.Renderer
    codes: list[Tensor]
    person: np.ndarray
    appearance: str
    run_dir: Path

    @property
    def size_px(self) -> int:
        """Height and width of its videos."""
        return self.renderer.size_px

    def paint(self, places: np.ndarray) -> np.ndarray:
        """places: T J 2, fractions of the picture.  Returns uint8 T S S 3."""
        return self.renderer.render(self.codes, places)


def open_painter(
    request: SampleRequest | TransferRequest, num_joints: int, device: torch.device, work: Work
) -> Painter | None:
    """The painter that a request asks for, if it does.

    Raises UserError where the renderer draws another skeleton, or needs joints of the person that
    are not there.
    """
    if request.render_run is None or request.appearance is None:
        return None
    renderer = shape_pose.load(request.render_run, device, warn=work.warning)
    if renderer.skeleton.num_joints != num_joints:
        raise UserError(
            f"the renderer draws people of {renderer.skeleton.num_joints} joints, these poses have "
            f"{num_joints}",
            {
                "renderer": request.render_run,
                "to fix": "give a shape-pose run that was trained with the same joints",
            },
            EXIT_USAGE,
        )
    image = read_image(Path(request.appearance).expanduser())
    joints: Any = None
    if renderer.needs_joints:
        wanted = Wanted(num_joints, 2, renderer.config.people.joints)
        joints = read_poses(request.appearance, wanted, request.data_root).joints[0]
        _require_parts(renderer, joints, request.appearance)
    person = np.asarray(fit_image(Image.fromarray(image), renderer.size_px, fit="squash"))
    codes = renderer.appearance(person, joints)
    return Painter(renderer, codes, person, request.appearance, request.render_run)


def _require_parts(renderer: shape_pose.Renderer, joints: np.ndarray, appearance: str) -> None:
    """Raise UserError unless something of the person can be cut out of the picture."""
    pixels = joints[None] * renderer.size_px
    if part_matrices(pixels, renderer.skeleton, renderer.config).any():
        return
    raise UserError(
        f"no part of a person can be cut out of '{Path(appearance).name}'",
        {
            "reason": "its joints are all missing, or outside of the picture",
            "to fix": "give a picture that shows a person, with its joints as fractions of it",
        },
        EXIT_NO_DATA,
    )
