from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.fomm.best_frame import best_frame
from pipelines.fomm.keypoints import Keypoints, transfer_motion
from pipelines.fomm.sample import Animator, load, transfer
from pipelines.fomm.visualisation import keypoint_colours, with_keypoints
from pipelines.io.ffmpeg import program
from pipelines.io.sample_folders import read_sample_folder
from pipelines.io.video import probe, read_video, write_mp4
from tests.pipelines.fomm import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def animator(trained) -> Animator:
    return load(trained / "run", CPU, warn=print)


@pytest.fixture
def place(trained, tmp_path) -> Path:
    """A folder with run/, source.png of 40 x 36 and driving.mp4 of 8 frames."""
    (tmp_path / "run").symlink_to(trained / "run")
    source = Image.fromarray(tiny.moving_square(1)[0]).resize((40, 36))
    source.save(tmp_path / "source.png")
    write_mp4(tmp_path / "driving.mp4", tiny.moving_square(2), 12.5)
    return tmp_path


def test_frames_come_one_by_one_as_they_come_in_batches(animator):
    frames = animator.frames(tiny.moving_square(3))
    keypoints = animator.find(frames)
    source = animator.source(frames[:1])
    video = animator.video(source, keypoints, batch_size=8)
    assert (video.shape, video.dtype) == ((8, 32, 32, 3), np.uint8)
    streamed = np.stack(list(animator.stream(source, keypoints)))
    assert np.abs(streamed.astype(int) - video).max() <= 1
    alone = animator.find(frames[2:3])
    torch.testing.assert_close(alone.value, keypoints.value[2:3], rtol=1e-4, atol=1e-5)


def test_a_video_is_made_again_from_its_first_frame_and_its_own_keypoints(animator):
    pictures = tiny.moving_square(3)
    frames = animator.frames(pictures)
    video = animator.video(animator.source(frames[:1]), animator.find(frames))
    made = animator.reconstruct(pictures)
    assert np.abs(made.astype(int) - video[1:]).max() <= 1


def test_many_images_are_moved_in_one_batch_each_by_its_own_keypoints(animator):
    frames = animator.frames(np.concatenate([tiny.moving_square(3)[:2], tiny.moving_square(4)[:2]]))
    keypoints = animator.find(frames)
    sources = animator.source(frames[[0, 2]])
    targets = keypoints.map(lambda each: each[[1, 3]])
    together = animator.video(sources, targets, batch_size=1)
    for number, first in enumerate((0, 2)):
        alone = animator.source(frames[first : first + 1])
        target = keypoints.map(lambda each, n=first + 1: each[n : n + 1])
        video = animator.video(alone, target)
        assert np.abs(together[number].astype(int) - video[0]).max() <= 1


def test_a_model_works_at_twice_the_size_and_finds_the_same_keypoints(trained, animator):
    large = load(trained / "run", CPU, warn=print, size_px=64)
    smooth = np.array(Image.fromarray(tiny.moving_square(5)[0]).resize((64, 64), Image.BILINEAR))
    found = large.find(large.frames([smooth])).value
    expected = animator.find(animator.frames([smooth])).value
    assert large.video(large.source(large.frames([smooth])), large.find(large.frames([smooth])))[
        0
    ].shape == (64, 64, 3)
    assert (found - expected).abs().max() < 0.1
    with pytest.raises(UserError, match="cannot work at 50 px"):
        load(trained / "run", CPU, warn=print, size_px=50)


def test_a_grey_model_takes_the_luma_and_gives_three_equal_channels(tmp_path):
    from pipelines.fomm.train import train

    tiny.prepare_squares(tmp_path / "data", channels=1)
    config = tiny.changed(model={"num_channels": 1})
    train(tiny.request(tmp_path, config=config, max_steps=1), tiny.Heard())
    grey = load(tmp_path / "run", CPU, warn=print)
    pictures = np.array(tiny.moving_square(6)[:2])
    pictures[..., 0] //= 2
    frames = grey.frames(pictures)
    assert frames.shape == (2, 1, 32, 32)
    luma = pictures @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(frames[:, 0].numpy(), luma, atol=1e-6)
    video = grey.video(grey.source(frames[:1]), grey.find(frames))
    assert (video == video[..., :1]).all()


def test_transfer_writes_the_video_keypoints_and_what_they_were_made_from(place):
    result = transfer(tiny.transfer_request(place), tiny.Heard())
    folder = read_sample_folder(Path(result["samples"]))
    assert folder.kind == "transfer" and len(folder.videos) == 1
    assert folder.meta["fps"] == pytest.approx(12.5)
    assert read_video(folder.videos[0].path).shape == (8, 32, 32, 3)
    assert read_video(place / "out" / "keypoints.mp4").shape[0] == 8
    assert {"grid.mp4", "grid.png", "meta.json"} <= {each.name for each in folder.path.iterdir()}
    assert len(folder.meta["driving"]["sha256"]) == 64


def test_transfer_is_the_published_procedure_frame_by_frame(place, animator):
    request = tiny.transfer_request(place, relative=True, adapt_scale=True, best_frame=3)
    transfer(request, tiny.Heard())
    made = json.loads((place / "out" / "meta.json").read_text())["videos"][0]["frames_sha256"]
    source = animator.source(animator.frames([np.array(Image.open(place / "source.png"))]))
    found = animator.find(animator.frames(read_video(place / "driving.mp4")))
    moved = transfer_motion(
        source.keypoints, found, found.map(lambda each: each[3:4]), adapt_scale=True
    )
    import hashlib

    video = animator.video(source, moved)
    assert hashlib.sha256(video.tobytes()).hexdigest() == made


def test_a_folder_of_frames_drives_as_well_and_a_video_gives_its_first_frame(place):
    frames = place / "frames"
    frames.mkdir()
    for number, frame in enumerate(tiny.moving_square(2)[:3]):
        Image.fromarray(frame).save(frames / f"{number}.png")
    request = tiny.transfer_request(place, source=place / "driving.mp4", driving=frames)
    transfer(request, tiny.Heard())
    assert read_video(place / "out" / "driving.mp4").shape[0] == 3


def test_the_driving_videos_sound_comes_along_unless_the_speed_is_changed(place):
    silent, driving = place / "silent.mp4", place / "driving.mp4"
    driving.rename(silent)
    sine = ("-f", "lavfi", "-i", "sine=frequency=440:duration=1", "-c:v", "copy", "-shortest")
    words = (program(), "-v", "error", "-i", silent, *sine, driving)
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    found = {}
    for name, changes in (("a", {}), ("b", {"fps": 5.0}), ("c", {"sound": False})):
        transfer(tiny.transfer_request(place, out_dir=place / name, **changes), tiny.Heard())
        found[name] = probe(place / name / "source.mp4", count_frames=True)
    assert [each.has_audio for each in found.values()] == [True, False, False]
    assert {each.num_frames for each in found.values()} == {8}
    frames = [read_video(place / name / "source.mp4") for name in ("a", "c")]
    assert np.array_equal(*frames)
    assert json.loads((place / "a" / "meta.json").read_text())["has_sound"]


@pytest.mark.parametrize("kind", ["video", "image", "folder"])
def test_a_driving_video_of_one_frame_has_no_motion(place, kind):
    frame = tiny.moving_square(2)[:1]
    paths = {"video": "one.mp4", "image": "source.png", "folder": "one"}
    if kind == "video":
        write_mp4(place / "one.mp4", frame, 10)
    elif kind == "folder":
        (place / "one").mkdir()
        Image.fromarray(frame[0]).save(place / "one" / "0.png")
    with pytest.raises(UserError, match="no motion") as caught:
        transfer(tiny.transfer_request(place, driving=place / paths[kind]), tiny.Heard())
    assert caught.value.exit_code == EXIT_NO_DATA
    assert not (place / "out").exists()


def test_a_grey_image_for_a_colour_model_is_told(place):
    Image.open(place / "source.png").convert("L").save(place / "source.png")
    heard = tiny.Heard()
    transfer(tiny.transfer_request(place), heard)
    told = [each["message"] for each in heard.of("warning")]
    assert told == ["source.png is grey, the model was trained on colour"]


def test_a_best_frame_beyond_the_end_and_options_without_effect_are_told(place):
    with pytest.raises(UserError, match="has 8 frames") as caught:
        transfer(tiny.transfer_request(place, best_frame=8), tiny.Heard())
    assert caught.value.exit_code == EXIT_USAGE
    heard = tiny.Heard()
    transfer(tiny.transfer_request(place, best_frame="auto", adapt_scale=True), heard)
    assert [each["message"].split()[0] for each in heard.of("warning")] == [
        "--adapt-scale",
        "--best-frame",
    ]


def test_a_run_of_another_family_or_without_a_checkpoint_is_refused(place, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("run.json", "config.yaml"):
        (other / name).write_text((place / "run" / name).read_text())
    with pytest.raises(UserError, match="no checkpoint yet"):
        transfer(tiny.transfer_request(place, run_dir=other), tiny.Heard())
    record = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(record | {"family": "poke"}))
    with pytest.raises(UserError, match="of family 'poke'"):
        transfer(tiny.transfer_request(place, run_dir=other), tiny.Heard())


def test_the_best_frame_has_the_same_arrangement_wherever_and_however_large():
    shape = torch.rand((1, 5, 2), generator=torch.Generator().manual_seed(0)) * 2 - 1
    others = torch.rand((4, 5, 2), generator=torch.Generator().manual_seed(1)) * 2 - 1
    driving = torch.cat([others[:2], shape * 0.5 + 0.3, others[2:]])
    assert best_frame(shape, driving) == 2


def test_keypoints_are_drawn_where_they_are_each_in_its_colour():
    value = torch.tensor([[[-1.0, -1.0], [1.0, 0.0]]])
    (frame,) = with_keypoints(np.zeros((1, 33, 33, 3), np.uint8), value)
    first, second = keypoint_colours(2)
    assert tuple(frame[0, 0]) == first and tuple(frame[16, 32]) == second
    assert not frame[16, 16].any()


def test_keypoints_without_jacobians_stay_without():
    keypoints = Keypoints(torch.zeros(2, 3, 2), None)
    first = keypoints.map(lambda each: each[:1])
    assert transfer_motion(first, keypoints, first).jacobian is None
