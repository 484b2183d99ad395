from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.inbetween.config import SampleRequest
from pipelines.inbetween.sample import load, sample
from pipelines.io.images import read_image, write_png
from pipelines.io.sample_folders import read_sample_folder
from pipelines.io.two_images import read_ends
from pipelines.io.video import read_video
from tests.pipelines.engines.sharing import check_shards
from tests.pipelines.inbetween import tiny


def test_sampling_writes_videos_from_start_to_end_that_differ(trained, tmp_path):
    ends = tiny.write_ends(tmp_path)
    out = tmp_path / "out"
    result = sample(tiny.sample_request(trained, ends, out), tiny.Heard())
    assert result["videos"] == 2
    folder = read_sample_folder(out)
    assert folder.includes_start_frame
    videos = [read_video(video.path) for video in folder.videos]
    assert [len(video) for video in videos] == [16, 16]
    meta = json.loads((out / "meta.json").read_text())
    assert len({video["frames_sha256"] for video in meta["videos"]}) == 2
    first, last = (read_image(path).astype(float) for path in ends)
    for video in videos:
        assert np.abs(video[0] - first).mean() < 8 and np.abs(video[-1] - last).mean() < 8
    assert meta["images"]["end"]["path"] == str(ends[1])
    assert {"grid.png", "grid.mp4"} <= {path.name for path in out.iterdir()}


def test_the_same_seed_gives_the_same_frames_and_fewer_videos_do_not_change_them(trained, tmp_path):
    ends = tiny.write_ends(tmp_path)

    def digests(name: str, **changes: int) -> list[str]:
        sample(tiny.sample_request(trained, ends, tmp_path / name, **changes), tiny.Heard())
        meta = json.loads((tmp_path / name / "meta.json").read_text())
        return [video["frames_sha256"] for video in meta["videos"]]

    both = digests("a")
    assert digests("b", num=1) == both[:1]
    assert digests("c", num=1, seed=1) != both[:1]


def test_given_frames_are_kept_as_they_are(trained, tmp_path):
    sampler = load(trained / "run", torch.device("cpu"), warn=pytest.fail)
    video = tiny.moving_square(3)
    made = sampler.between(video[0], video[-1], sampler.noise(0, 0))
    assert np.array_equal(made[0], video[0]) and np.array_equal(made[-1], video[-1])


def test_start_and_end_of_different_sizes_are_refused(trained, tmp_path):
    first, last = tiny.write_ends(tmp_path)
    write_png(last, np.zeros((48, 40, 3), np.uint8))
    with pytest.raises(UserError, match="different sizes: 32 x 32 and 40 x 48 px") as caught:
        sample(tiny.sample_request(trained, (first, last), tmp_path / "out"), tiny.Heard())
    assert caught.value.exit_code == EXIT_USAGE
    assert not (tmp_path / "out").exists()


def test_a_missing_image_is_named(trained, tmp_path):
    first, last = tiny.write_ends(tmp_path)
    last.unlink()
    with pytest.raises(UserError, match=r"last\.png"):
        sample(tiny.sample_request(trained, (first, last), tmp_path / "out"), tiny.Heard())


def test_grey_and_coloured_images_are_told_from_what_the_model_was_trained_on(tmp_path):
    coloured, grey = tmp_path / "coloured", tmp_path / "grey"
    for folder, channels in ((coloured, 3), (grey, 1)):
        folder.mkdir()
        tiny.write_ends(folder, channels=channels)

    def heard(folder, *, is_grey: bool) -> tuple[str, np.ndarray]:
        work = tiny.Heard()
        paths = folder / "first.png", folder / "last.png"
        ends = read_ends(*paths, size_px=32, is_grey=is_grey, work=work)
        return " ".join(each["message"] for each in work.of("warning")), ends.start

    assert "first.png is grey, the model was trained in colour" in heard(grey, is_grey=False)[0]
    assert heard(coloured, is_grey=False)[0] == "" == heard(grey, is_grey=True)[0]
    warning, start = heard(coloured, is_grey=True)
    assert "its colours are left out" in warning
    assert (start[..., :1] == start).all()


def test_no_other_number_of_frames_is_promised(trained, tmp_path):
    with pytest.raises(ValueError, match="frames"):
        tiny.sample_request(trained, tiny.write_ends(tmp_path), tmp_path / "out", frames=20)
    assert SampleRequest.model_fields["frames"].default == 14


def test_a_run_without_a_checkpoint_says_what_to_run(trained, tmp_path):
    with pytest.raises(UserError, match="no run folder") as caught:
        request = tiny.sample_request(tmp_path, tiny.write_ends(tmp_path), tmp_path / "out")
        sample(request, tiny.Heard())
    assert caught.value.exit_code == EXIT_NO_DATA


def test_shards_in_any_order_and_a_last_call_give_the_files_of_one_call(trained, tmp_path):
    request = tiny.sample_request(trained, tiny.write_ends(tmp_path), tmp_path / "out", num=3)
    check_shards(sample, request, total=3)
