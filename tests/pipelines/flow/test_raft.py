"""RAFT gives what torchvision's own forward gives, and looks at each frame once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.models import optical_flow

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import sha256
from pipelines.flow.raft import RaftEstimator

_UPDATES = 3


def estimator(size: str = "small") -> RaftEstimator:
    return RaftEstimator(size, None, num_updates=_UPDATES, random_seed=0)


def clip(num_frames: int, height: int = 128, width: int = 128, seed: int = 0) -> np.ndarray:
    """uint8 T H W 3."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def images(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.mark.parametrize("size", ["small", "large"])
def test_flow_is_that_of_torchvision(size: str) -> None:
    first, second = clip(2, 128, 136), clip(2, 128, 136, seed=1)
    network = {"small": optical_flow.raft_small, "large": optical_flow.raft_large}[size]
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        flows = network(weights=None).eval()(
            images(first), images(second), num_flow_updates=_UPDATES
        )
    found = estimator(size).flow(first, second)
    assert found.dtype == np.float32
    assert relative(found, flows[-1].numpy()) < 1e-4


def test_both_ways_are_the_same_as_two_estimates() -> None:
    first, second = clip(1), clip(1, seed=1)
    raft = estimator()
    forward, backward = raft.flow_both_ways(first, second)
    assert relative(forward, raft.flow(first, second)) < 1e-4
    assert relative(backward, raft.flow(second, first)) < 1e-4


@pytest.mark.parametrize("lag", [1, 2])
def test_along_a_clip_is_the_same_as_pair_by_pair(lag: int) -> None:
    frames = clip(4)
    raft = estimator()
    along = raft.flow_along(frames, lag, batch_size=2)
    assert relative(along, raft.flow(frames[:-lag], frames[lag:])) < 1e-4
    assert raft.flow_along(frames, 4).shape == (0, 2, 128, 128)


def test_small_and_odd_sizes_are_padded_with_the_border() -> None:
    frames = clip(2, 61, 130)
    padded = F.pad(images(frames), (3, 3, 33, 34), mode="replicate")
    wide = ((padded + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    raft = estimator()
    flow = raft.flow(frames[:1], frames[1:])
    assert flow.shape == (1, 2, 61, 130)
    assert relative(flow, raft.flow(wide[:1], wide[1:])[..., 33:-34, 3:-3]) < 1e-4


def test_weights_are_read_from_torchvisions_file(tmp_path: Path) -> None:
    network = optical_flow.raft_small(weights=None)
    path = tmp_path / "raft_small_C_T_V2-01064c6d.pth"
    torch.save(network.state_dict(), path)
    raft = RaftEstimator("small", path)
    assert (raft.name, raft.weights_hash) == ("raft-small", sha256(path))
    with pytest.raises(UserError, match="are of raft-small, not of raft-large") as caught:
        RaftEstimator("large", path)
    assert "raft-small" in caught.value.details["to fix"]


def test_weights_of_another_network_and_no_weights_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="not of RAFT"):
        RaftEstimator("small", path)
    with pytest.raises(UserError, match="no weights for 'raft-large'") as caught:
        RaftEstimator("large", None)
    assert caught.value.exit_code == EXIT_NO_DATA
    assert caught.value.details["run first"] == "i2v download weights/raft-large"
