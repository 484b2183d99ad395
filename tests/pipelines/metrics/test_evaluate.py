"""`i2v eval` on folders: what is found, paired, refused and written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.io.images import write_png
from pipelines.io.video import write_mp4
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.evaluate import evaluate
from tests.pipelines.metrics.test_measure import noisy, video


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def write_frames(folder: Path, frames: np.ndarray) -> None:
    """A video without compression: a folder with one image per frame."""
    for index, frame in enumerate(frames):
        write_png(folder / f"frame{index}.png", frame)


def make_videos(folder: Path, videos: dict[str, np.ndarray]) -> Path:
    for name, frames in videos.items():
        write_frames(folder / name, frames)
    return folder


@pytest.fixture
def real(tmp_path) -> Path:
    return make_videos(tmp_path / "real", {f"clip{i}": video(i) for i in range(3)})


def run(*metrics: str, source: Path, real: Path | None = None, **settings) -> dict:
    request = EvalRequest(metrics=metrics, source=source, real=real, device="cpu", **settings)
    return evaluate(request, Work())


def value(outcome: dict, metric: str) -> float:
    return next(each["value"] for each in outcome["results"] if each["metric"] == metric)


def details_of(error: pytest.ExceptionInfo[UserError]) -> str:
    return " ".join(f"{label} {text}" for label, text in error.value.details.items())


def test_videos_are_compared_with_the_real_ones_of_the_same_name(tmp_path, real):
    # written in another order than the real ones, so that pairing by place would be wrong
    fake = make_videos(tmp_path / "fake", {f"clip{i}": noisy(video(i), 0.05) for i in (2, 0, 1)})
    right = value(run("psnr", source=fake, real=real), "psnr")
    assert 24 < right < 30
    for name, other in (("clip0", 1), ("clip1", 2), ("clip2", 0)):
        write_frames(fake / name, noisy(video(other), 0.05))
    assert value(run("psnr", source=fake, real=real), "psnr") < 15


def test_several_samples_of_one_scene_share_its_real_video(tmp_path, real):
    fake = make_videos(
        tmp_path / "fake",
        {f"clip{i}-s{k}": noisy(video(i), 0.05, seed=k) for i in range(3) for k in range(2)},
    )
    outcome = run("psnr", "diversity", "frechet-embedded", source=fake, real=real)
    psnr = outcome["results"][0]
    assert psnr["protocol"]["num_videos"] == 6
    assert psnr["protocol"]["num_reference"] == 3
    assert value(outcome, "diversity (pixels)") == pytest.approx(2**0.5 * 0.05, rel=0.15)


def test_plain_numbers_after_a_real_video_s_name_are_samples_too(tmp_path, real):
    fake = make_videos(
        tmp_path / "fake", {f"clip{i}_{k}": noisy(video(i), 0.05) for i in range(3) for k in (1, 2)}
    )
    assert run("psnr", source=fake, real=real)["results"][0]["protocol"]["num_reference"] == 3


def test_meta_json_decides_what_belongs_together(tmp_path, real):
    fake = make_videos(tmp_path / "fake", {"x": video(0), "y": video(1), "ignored": video(2)})
    listed = [{"file": "x", "scene": "clip0"}, {"file": "y", "scene": "clip1"}]
    (fake / "meta.json").write_text(json.dumps({"videos": listed}))
    outcome = run("psnr", source=fake, real=real)
    assert value(outcome, "psnr") == 100.0
    assert outcome["results"][0]["protocol"]["num_videos"] == 2


def test_real_videos_without_a_counterpart_count_for_set_metrics_only(tmp_path, real):
    fake = make_videos(tmp_path / "fake", {f"clip{i}": video(i) for i in range(2)})
    psnr, frechet = run("psnr", "frechet-embedded", source=fake, real=real)["results"]
    assert psnr["protocol"]["num_reference"] == 2
    assert frechet["protocol"]["num_reference"] == 3


def test_metrics_json_holds_the_newest_evaluation_of_each_label(tmp_path, real):
    fake = make_videos(tmp_path / "fake", {f"clip{i}": noisy(video(i), 0.1) for i in range(3)})
    out = tmp_path / "metrics.json"
    run("psnr", source=fake, real=real, out_path=out, label="first")
    run("ssim", source=fake, real=real, out_path=out)
    outcome = run("psnr", "ssim", source=fake, real=real, out_path=out, label="first")
    evaluations = json.loads(out.read_text())["evaluations"]
    assert [each["label"] for each in evaluations] == ["fake", "first"]
    newest = evaluations[1]
    assert [each["metric"] for each in newest["results"]] == ["psnr", "ssim"]
    assert newest["results"][0]["protocol_text"].startswith("3 videos against 3 real videos")
    assert outcome["rows"][0][0] == "psnr"
    assert len(outcome["columns"]) == len(outcome["rows"][0])


def test_a_metrics_file_that_is_something_else_is_left_alone(tmp_path, real):
    out = tmp_path / "metrics.json"
    out.write_text('{"precious": 1}')
    with pytest.raises(UserError, match="metrics file"):
        run("psnr", source=real, real=real, out_path=out)
    assert out.read_text() == '{"precious": 1}'


def test_a_run_folder_stands_for_its_samples_and_finds_the_real_ones_beside(tmp_path):
    run_dir = tmp_path / "runs" / "x"
    make_videos(run_dir / "samples" / "real", {f"clip{i}": video(i) for i in range(2)})
    make_videos(run_dir / "samples" / "first", {f"clip{i}": video(i) for i in range(2)})
    (run_dir / "run.json").write_text("{}")
    outcome = run("psnr", source=run_dir)
    assert value(outcome, "psnr") == 100.0
    assert outcome["label"] == "first"


def test_a_run_with_several_sets_of_videos_asks_which(tmp_path):
    run_dir = tmp_path / "x"
    for name in ("first", "second"):
        make_videos(run_dir / "samples" / name, {"clip0": video(0)})
    (run_dir / "run.json").write_text("{}")
    with pytest.raises(UserError, match="2 sets of videos") as error:
        run("motion-energy", source=run_dir)
    assert error.value.exit_code == EXIT_USAGE
    assert "first, second" in details_of(error)


def test_mp4_files_are_read_and_a_gif_beside_one_is_not_counted(tmp_path):
    folder = tmp_path / "videos"
    for index in range(2):
        write_mp4(folder / f"a b-{index}.mp4", video(index), 8)
    (folder / "a b-0.gif").write_bytes(b"never opened")
    outcome = run("motion-energy", source=folder)
    assert outcome["results"][0]["protocol"]["num_videos"] == 2
    assert "decoded from mp4" in outcome["results"][0]["protocol_text"]


def test_unequal_compression_is_warned_about(tmp_path, real):
    for index in range(3):
        write_mp4(tmp_path / "fake" / f"clip{index}.mp4", video(index), 8)
    heard = []

    class Listening(Work):
        def warning(self, message: str) -> None:
            heard.append(message)

    request = EvalRequest(metrics=("psnr",), source=tmp_path / "fake", real=real, device="cpu")
    evaluate(request, Listening())
    assert any("compression" in each for each in heard)


def test_only_the_first_frames_are_measured_when_asked(tmp_path):
    frames = np.concatenate([video(0), 255 - video(0)])
    source = make_videos(tmp_path / "fake", {"clip0": frames})
    reference = make_videos(tmp_path / "real", {"clip0": video(0, num_frames=12)})
    assert value(run("psnr", source=source, real=reference, num_frames=6), "psnr") == 100.0
    assert value(run("psnr", source=source, real=reference), "psnr") < 90


def test_the_start_frame_is_left_out_where_meta_json_says_it_is_there(tmp_path):
    frames = video(0)
    listed = {"videos": [{"file": "clip0"}], "includes_start_frame": True}
    source = make_videos(tmp_path / "fake", {"clip0": np.concatenate([0 * frames[:1], frames])})
    (source / "meta.json").write_text(json.dumps(listed))
    reference = make_videos(tmp_path / "real", {"clip0": frames})
    outcome = run("psnr", source=source, real=reference)
    assert value(outcome, "psnr") == 100.0
    assert "start frame left out" in outcome["results"][0]["protocol_text"]


def test_all_videos_can_be_resized_to_one_size(tmp_path):
    videos = {"a": video(0, size_px=32), "b": video(1, size_px=48)}
    folder = make_videos(tmp_path / "mixed", videos)
    outcome = run("motion-energy", source=folder, size_px=24)
    assert outcome["results"][0]["protocol"]["size_px"] == (24, 24)
    assert "resized to 24 px" in outcome["results"][0]["protocol_text"]


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_folder_that_is_absent_or_empty_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name) as error:
        run("motion-energy", source=tmp_path / name)
    assert error.value.exit_code == EXIT_NO_DATA


def test_videos_of_mixed_size_name_both_files_and_the_remedy(tmp_path):
    folder = make_videos(tmp_path / "f", {"a": video(0), "b": video(1, size_px=48)})
    with pytest.raises(UserError, match="differ in size") as error:
        run("motion-energy", source=folder)
    assert "6 frames of 32 x 32 px" in details_of(error)
    assert "6 frames of 48 x 48 px" in details_of(error)
    assert "size_px=32" in details_of(error)


def test_videos_of_mixed_length_name_the_remedy(tmp_path):
    folder = make_videos(tmp_path / "f", {"a": video(0), "b": video(1, num_frames=4)})
    with pytest.raises(UserError, match="differ in length") as error:
        run("motion-energy", source=folder)
    assert "num_frames=4" in details_of(error)


def test_real_and_generated_videos_of_different_size_are_refused(tmp_path, real):
    fake = make_videos(tmp_path / "fake", {"clip0": video(0, size_px=48)})
    with pytest.raises(UserError, match="differ in size"):
        run("psnr", source=fake, real=real)


def test_a_missing_counterpart_is_named(tmp_path, real):
    fake = make_videos(tmp_path / "fake", {"clip0": video(0), "stray": video(1)})
    with pytest.raises(UserError, match="1 of 2 videos have no real video") as error:
        run("ssim", source=fake, real=real)
    assert "stray" in details_of(error)
    assert error.value.exit_code == EXIT_NO_DATA


def test_paired_metrics_ask_for_real_videos(tmp_path, real):
    with pytest.raises(UserError, match="compares with real videos") as error:
        run("psnr", source=real)
    assert error.value.exit_code == EXIT_USAGE


def test_diversity_asks_for_several_samples(real):
    with pytest.raises(UserError, match="only one") as error:
        run("diversity", source=real)
    assert "-s0" in details_of(error)


def test_one_video_is_too_few_for_a_frechet_distance(tmp_path, real):
    fake = make_videos(tmp_path / "fake", {"clip0": video(0)})
    with pytest.raises(UserError, match="at least two generated videos, got 1") as error:
        run("frechet-embedded", source=fake, real=real)
    assert str(fake) in details_of(error) and "clip0" in details_of(error)


def test_a_video_that_is_too_short_is_named(tmp_path):
    folder = make_videos(tmp_path / "f", {"short": video(0, num_frames=3)})
    with pytest.raises(UserError, match="'short' has too few frames"):
        run("motion-energy", source=folder, num_frames=5)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "broken.mp4").write_bytes(b"not a video")
    with pytest.raises(UserError) as error:
        run("motion-energy", source=tmp_path / "f")
    assert "broken.mp4" in error.value.message + details_of(error)


def test_an_unknown_metric_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match="no metric 'fvdd'"):
        run("fvdd", source=tmp_path / "nowhere")
