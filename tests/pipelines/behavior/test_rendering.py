"""A person to be shown: what is said where the picture does not do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.behavior.config import SampleRequest
from pipelines.behavior.rendering import open_painter
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.io.images import write_png
from pipelines.shape_pose import sample as shape_pose
from pipelines.shape_pose.config import FamilyConfig
from pipelines.shape_pose.networks import ShapePoseNet
from tests.pipelines.behavior import tiny

CPU = torch.device("cpu")
CONFIG = FamilyConfig.model_validate(
    {
        "people": {"joints": "joints_market"},
        "network": {
            "size_px": 32,
            "appearance_channels": 30,
            "width": 4,
            "max_width": 8,
            "box_factor": 1,
        },
    }
)


@pytest.fixture
def request_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleRequest:
    """A request to render by a net that is shown parts of a person, who is in a picture."""
    net = ShapePoseNet(CONFIG.network).eval()
    renderer = shape_pose.Renderer(net, CONFIG, CPU)
    monkeypatch.setattr(shape_pose, "load", lambda *_, **__: renderer)
    write_png(tmp_path / "person.png", np.full((48, 40, 3), 90, np.uint8))
    return SampleRequest(
        run_dir=tmp_path,
        data_root=tmp_path,
        out_dir=tmp_path / "out",
        target=("poses.npy",),
        appearance=str(tmp_path / "person.png"),
        render_run=tmp_path / "renderer",
    )


def test_a_net_of_parts_asks_for_the_joints_of_the_person(request_of_parts):
    with pytest.raises(UserError, match=r"there are no poses for 'person\.png'") as found:
        open_painter(request_of_parts, 18, CPU, tiny.Heard())
    assert found.value.exit_code == EXIT_NO_DATA
    assert "person.npz" in found.value.details["looked for"]


def test_a_picture_without_any_part_to_cut_out_is_refused(request_of_parts, tmp_path):
    np.save(tmp_path / "person.npy", np.full((1, 18, 2), -1.0))
    with pytest.raises(UserError, match=r"no part of a person can be cut out of 'person\.png'"):
        open_painter(request_of_parts, 18, CPU, tiny.Heard())


def test_a_person_with_some_joints_missing_is_shown(request_of_parts, tmp_path):
    joints = np.random.default_rng(0).uniform(0.2, 0.8, (1, 18, 2))
    joints[0, [0, 5]] = -1
    np.save(tmp_path / "person.npy", joints)
    painter = open_painter(request_of_parts, 18, CPU, tiny.Heard())
    assert painter.paint(joints).shape == (1, 32, 32, 3)


def test_a_renderer_of_another_skeleton_is_refused(request_of_parts):
    with pytest.raises(UserError, match="draws people of 18 joints, these poses have 17"):
        open_painter(request_of_parts, 17, CPU, tiny.Heard())
