from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from pipelines.events import EXIT_USAGE, UserError
from pipelines.io.images import read_image, write_png
from pipelines.io.sample_folders import read_sample_folder
from pipelines.io.video import read_video
from pipelines.motion.autoregressive import AutoregressiveMotion, complete
from pipelines.motion.config import AutoregressiveConfig
from pipelines.motion.sample import load, sample
from tests.pipelines.engines.sharing import check_shards
from tests.pipelines.motion import tiny


def digests(out) -> list[str]:
    meta = json.loads((out / "meta.json").read_text())
    return [video["frames_sha256"] for video in meta["videos"]]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_videos_go_from_the_start_to_the_end_image(trained, tmp_path, kind):
    ends, out = tiny.write_ends(tmp_path), tmp_path / "out"
    sample(tiny.sample_request(trained / kind, ends, out, num=1), tiny.Heard())
    folder = read_sample_folder(out)
    assert folder.includes_start_frame
    video = read_video(folder.videos[0].path)
    assert len(video) == tiny.CONFIG["num_frames"]
    for frame, path in ((video[0], ends[0]), (video[-1], ends[1])):
        assert np.abs(frame.astype(float) - read_image(path)).mean() < 8
    assert {"motion", "fomm"} == set(folder.meta["checkpoints"])


def test_several_draws_differ_and_the_same_seed_gives_the_same_frames(trained, tmp_path):
    ends = tiny.write_ends(tmp_path)
    found = {}
    for name, changes in (("a", {}), ("b", {"num": 1}), ("c", {"num": 1, "seed": 1})):
        request = tiny.sample_request(trained / "wgan", ends, tmp_path / name, **changes)
        sample(request, tiny.Heard())
        found[name] = digests(tmp_path / name)
    assert len(set(found["a"])) == 2
    assert found["b"] == found["a"][:1] != found["c"]


def test_a_model_without_noise_makes_one_video_and_says_so(trained, tmp_path):
    heard = tiny.Heard()
    ends, out = tiny.write_ends(tmp_path), tmp_path / "out"
    result = sample(tiny.sample_request(trained / "linear", ends, out, num=3), heard)
    assert result["videos"] == 1
    assert "one video, not 3" in heard.of("warning")[-1]["message"]


def test_any_number_of_frames_can_be_asked_for(trained, tmp_path):
    ends = tiny.write_ends(tmp_path)
    for kind in tiny.KINDS:
        request = tiny.sample_request(trained / kind, ends, tmp_path / kind, num=1, frames=11)
        sample(request, tiny.Heard())
        assert len(read_video(read_sample_folder(tmp_path / kind).videos[0].path)) == 13


def test_start_and_end_of_different_sizes_are_refused(trained, tmp_path):
    first, last = tiny.write_ends(tmp_path)
    write_png(last, np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(UserError, match="different sizes") as caught:
        sample(tiny.sample_request(trained / "wgan", (first, last), tmp_path / "o"), tiny.Heard())
    assert caught.value.exit_code == EXIT_USAGE


def test_a_motion_run_needs_neither_its_fomm_run_nor_its_data(trained, tmp_path):
    shutil.copytree(trained / "wgan", tmp_path / "moved")
    sampler = load(tmp_path / "moved", torch.device("cpu"), warn=pytest.fail)
    start, end = (read_image(path) for path in tiny.write_ends(tmp_path))
    video = sampler.between(start, end, sampler.noise(0, 0, 5))
    assert video.shape == (5, 32, 32, 3) and video.dtype == np.uint8


def test_two_runs_are_joined_where_they_agree_and_mixed_around_it():
    torch.manual_seed(0)
    config = AutoregressiveConfig(hidden_size=8)
    forward, backward = (AutoregressiveMotion(config, vector_size=12) for _ in range(2))
    first, last = torch.rand(2, 3, 12)
    with torch.no_grad():
        hard = complete(forward, first, last, 9, backward_model=backward)
        soft = complete(forward, first, last, 9, backward_model=backward, fade_frames=4)
        ahead, back = forward.free_run(first, 9), backward.free_run(last, 9).flip(1)
    for b, index in enumerate(hard.index.tolist()):
        assert torch.equal(hard.sequence[b, 1:index], ahead[b, 1:index])
        assert torch.equal(hard.sequence[b, max(index, 1) : 8], back[b, max(index, 1) : 8])
        low, high = torch.minimum(ahead[b], back[b]), torch.maximum(ahead[b], back[b])
        inner = soft.sequence[b, 1:-1]
        assert ((inner >= low[1:-1] - 1e-6) & (inner <= high[1:-1] + 1e-6)).all()
    assert torch.equal(soft.sequence[:, 0], first) and torch.equal(soft.sequence[:, -1], last)


def test_shards_in_any_order_and_a_last_call_give_the_files_of_one_call(trained, tmp_path):
    ends = tiny.write_ends(tmp_path)
    request = tiny.sample_request(trained / "wgan", ends, tmp_path / "out", num=3)
    check_shards(sample, request, total=3)
