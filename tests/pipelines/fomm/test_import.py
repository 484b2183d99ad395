"""Models in the published layout, written by the test with weights of its own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.fomm.blocks import antialias_kernel
from pipelines.fomm.checkpoint import import_published
from pipelines.fomm.inference import to_bytes
from pipelines.fomm.networks import Networks, build
from pipelines.fomm.sample import load
from pipelines.training.config import ImportRequest
from tests.pipelines.fomm import tiny

MODEL = {
    **tiny.CONFIG["model"],
    "size_px": 128,
    "num_channels": 1,
    "grid_align_corners": False,
    "discriminator": {
        "block_expansion": 4,
        "max_features": 8,
        "num_blocks": 3,
        "sees_keypoints": True,
        "has_spectral_norm": True,
    },
}
_HOURGLASS = ((r"encoder\.", "encoder.down_blocks."), (r"decoder\.", "decoder.up_blocks."))
_RULES = {
    "kp_detector": (("^hourglass", "predictor"), ("^heatmap", "kp"), *_HOURGLASS),
    "generator": (
        ("^dense_motion", "dense_motion_network"),
        ("^down", "down_blocks"),
        ("^up", "up_blocks"),
        (r"^bottleneck\.", "bottleneck.r"),
        *_HOURGLASS,
    ),
    "discriminator": (
        (r"by_scale\.0\.", "discs.1."),
        (r"convs\.(\d)\.", r"down_blocks.\1.conv."),
        (r"norms\.(\d)\.", r"down_blocks.\1.norm."),
        (r"final\.", "conv."),
        (r"\.weight$", ".weight_orig"),
        (r"norm\.weight_orig", "norm.weight"),
        (r"\.left$", ".weight_u"),
        (r"\.right$", ".weight_v"),
        (r"conv\.norm\.weight_", "conv.weight_"),
    ),
}


def published_names(part: str, network: nn.Module) -> dict[str, torch.Tensor]:
    """A published state dict from ours."""
    found = {}
    for key, value in network.state_dict().items():
        for pattern, replacement in _RULES[part]:
            key = re.sub(pattern, replacement, key)
        found[key] = value
    return found


@pytest.fixture
def networks() -> Networks:
    torch.manual_seed(0)
    return build(tiny.config(model=MODEL, losses={"scales": [1, 0.5]}).model)


@pytest.fixture
def content(networks) -> dict:
    kernel = antialias_kernel(0.5).expand(1, 1, -1, -1)
    return {
        "generator": published_names("generator", networks.generator)
        | {"dense_motion_network.down.weight": kernel},
        "kp_detector": published_names("kp_detector", networks.keypoint_detector)
        | {"down.weight": kernel},
        "discriminator": published_names("discriminator", networks.discriminator),
        "optimizer_generator": {"state": {}, "param_groups": []},
        "epoch": 99,
    }


def imported(path: Path, run_dir: Path) -> tiny.Heard:
    heard = tiny.Heard()
    import_published(ImportRequest(path=path, run_dir=run_dir), heard)
    return heard


def test_an_imported_model_gives_the_numbers_of_its_published_weights(content, networks, tmp_path):
    torch.save(content, tmp_path / "kth-cpk.pth.tar")
    imported(tmp_path, tmp_path / "run")
    animator = load(tmp_path / "run", torch.device("cpu"), warn=print)
    found = animator.config.model
    assert found.model_dump(exclude={"generator", "keypoints", "discriminator"}) == {
        "size_px": 128,
        "num_keypoints": 3,
        "num_channels": 1,
        "grid_align_corners": False,
    }
    wanted = tiny.config(model=MODEL, losses={"scales": [1, 0.5]}).model
    assert (found.generator, found.keypoints, found.discriminator) == (
        wanted.generator,
        wanted.keypoints,
        wanted.discriminator,
    )
    frames = animator.frames(tiny.moving_square(1, 128, 2))
    for network in (networks.generator, networks.keypoint_detector):
        network.eval()
    with torch.no_grad():
        source, driving = (networks.keypoint_detector(each[None]) for each in frames)
        made = networks.generator(frames[:1], source, driving)
    video = animator.video(animator.source(frames[:1]), animator.find(frames[1:]))
    assert np.abs(video.astype(int) - to_bytes(made.frames)).max() <= 1


def test_a_file_without_a_discriminator_and_with_a_wrapper_is_read(content, tmp_path):
    del content["discriminator"]
    for part in ("generator", "kp_detector"):
        content[part] = {f"module.{key}": value for key, value in content[part].items()}
    torch.save(content, tmp_path / "x.pth.tar")
    heard = imported(tmp_path / "x.pth.tar", tmp_path / "run")
    assert "no discriminator" in heard.of("log")[0]["text"]
    load(tmp_path / "run", torch.device("cpu"), warn=print)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"generator": {}}, "no published fomm checkpoint"),
        ({"generator": {"a": torch.ones(1)}, "kp_detector": {"b": torch.ones(1)}}, "none that"),
        ([1, 2], "no published fomm checkpoint"),
    ],
    ids=["empty", "foreign", "list"],
)
def test_a_file_of_something_else_is_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=message) as caught:
        imported(tmp_path / "x.pth", tmp_path / "run")
    assert caught.value.exit_code == EXIT_NO_DATA
    assert not (tmp_path / "run").exists()


def test_weights_that_lack_a_part_are_named(content, tmp_path):
    del content["generator"]["final.bias"]
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match="do not fit") as caught:
        imported(tmp_path / "x.pth", tmp_path / "run")
    assert "final.bias" in caught.value.details["reason"]


def test_a_folder_without_a_model_or_with_several_says_so(tmp_path):
    with pytest.raises(UserError, match="no published fomm model"):
        imported(tmp_path, tmp_path / "run")
    for name in ("a.pth.tar", "b.pth.tar"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="2 published models") as caught:
        imported(tmp_path, tmp_path / "run")
    assert caught.value.exit_code == EXIT_USAGE
