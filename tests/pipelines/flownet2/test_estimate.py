"""The estimator: any size, shared features, precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.events import UserError
from pipelines.files import sha256
from pipelines.flownet2.cascade import build, normalise
from pipelines.flownet2.checkpoint import flownet2_state
from pipelines.flownet2.estimate import FlowNet2Estimator
from tests.pipelines.flownet2.weights import published_state


def clip(num_frames: int, height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    """uint8 T H W 3."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_it_knows_its_name_and_its_weights(
    estimator: FlowNet2Estimator, flownet2_c_path: Path
) -> None:
    assert estimator.name == "flownet2-c"
    assert estimator.weights_hash == sha256(flownet2_c_path)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 130), (40, 65), (128, 63)])
def test_flow_has_the_size_of_the_frames(
    estimator: FlowNet2Estimator, height: int, width: int
) -> None:
    frames = clip(2, height, width)
    flow = estimator.flow(frames[:1], frames[1:])
    assert flow.shape == (1, 2, height, width)
    assert flow.dtype == np.float32
    assert np.isfinite(flow).all()
    assert np.abs(flow).max() > 0


def test_a_side_that_64_does_not_divide_is_padded_with_the_border(
    estimator: FlowNet2Estimator,
) -> None:
    frames = clip(2, 64, 60)
    padded = np.pad(frames, ((0, 0), (0, 0), (2, 2), (0, 0)), mode="edge")
    wanted = estimator.flow(padded[:1], padded[1:])[..., 2:-2]
    assert np.array_equal(estimator.flow(frames[:1], frames[1:]), wanted)


def test_both_ways_are_the_same_as_two_estimates(estimator: FlowNet2Estimator) -> None:
    first, second = clip(2, 64, 128), clip(2, 64, 128, seed=1)
    forward, backward = estimator.flow_both_ways(first, second)
    assert relative(forward, estimator.flow(first, second)) < 1e-5
    assert relative(backward, estimator.flow(second, first)) < 1e-5


@pytest.mark.parametrize("lag", [1, 3])
def test_along_a_clip_is_the_same_as_pair_by_pair(estimator: FlowNet2Estimator, lag: int) -> None:
    frames = clip(6)
    along = estimator.flow_along(frames, lag, batch_size=2)
    assert relative(along, estimator.flow(frames[:-lag], frames[lag:])) < 1e-5


def test_a_lag_as_long_as_the_clip_leaves_no_pair(estimator: FlowNet2Estimator) -> None:
    assert estimator.flow_along(clip(3), 3).shape == (0, 2, 64, 64)


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_shared_features_give_what_the_clips_means_give_pair_by_pair(
    flownet2_c_path: Path, lag: int
) -> None:
    sharing = FlowNet2Estimator(flownet2_c_path, shares_means=True)
    frames = clip(6)
    images = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    pairs = torch.stack((images[:-lag], images[lag:]), dim=2)
    pair = normalise(pairs, mean=images.mean(dim=(0, 2, 3))[None])
    with torch.inference_mode():
        wanted = sharing._network(pair).numpy()
    assert relative(sharing.flow_along(frames, lag, batch_size=2), wanted) < 1e-4


def test_shared_means_change_nothing_where_all_frames_have_the_same(
    flownet2_c_path: Path, estimator: FlowNet2Estimator
) -> None:
    sharing = FlowNet2Estimator(flownet2_c_path, shares_means=True)
    frames = np.stack([np.roll(clip(1)[0], shift, axis=1) for shift in range(4)])
    assert relative(sharing.flow_along(frames, 1), estimator.flow_along(frames, 1)) < 1e-4


def test_a_brighter_pair_has_the_same_flow(estimator: FlowNet2Estimator) -> None:
    frames = clip(2) // 2
    flow = estimator.flow(frames[:1], frames[1:])
    assert relative(estimator.flow(frames[:1] + 100, frames[1:] + 100), flow) < 1e-4


def test_bgr_is_rgb_reversed(flownet2_c_path: Path, estimator: FlowNet2Estimator) -> None:
    frames = clip(2)
    reversed_colours = FlowNet2Estimator(flownet2_c_path, is_bgr=True)
    found = reversed_colours.flow(frames[:1, ..., ::-1], frames[1:, ..., ::-1])
    assert np.array_equal(found, estimator.flow(frames[:1], frames[1:]))


def test_bfloat16_is_close_and_leaves_float32(
    flownet2_c_path: Path, estimator: FlowNet2Estimator
) -> None:
    frames = clip(2)
    half = FlowNet2Estimator(flownet2_c_path, precision="bfloat16")
    found = half.flow(frames[:1], frames[1:])
    assert found.dtype == np.float32
    wanted = estimator.flow(frames[:1], frames[1:])
    assert 0 < relative(found, wanted) < 0.1


def test_float16_on_a_cpu_is_refused(flownet2_c_path: Path) -> None:
    with pytest.raises(UserError, match="float16 needs a graphics card"):
        FlowNet2Estimator(flownet2_c_path, precision="float16")


def test_a_cascade_goes_on_from_what_its_first_network_matched() -> None:
    state = flownet2_state(published_state("flownet2-cs"), network="flownet2-cs")
    with torch.device("meta"):
        network = build("flownet2-cs")
    network.load_state_dict(state, assign=True)
    pair = torch.rand(1, 6, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.inference_mode():
        assert torch.equal(network(pair, network.matcher(pair)), network(pair))
