from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from pipelines.events import EXIT_USAGE, UserError
from pipelines.fomm.train import train as train_fomm
from pipelines.inbetween.train import train as train_between
from pipelines.io.images import write_png
from pipelines.io.sample_folders import read_sample_folder, sample_folders
from pipelines.io.video import read_video
from pipelines.motion.compare import compare, crossfade
from pipelines.motion.config import CompareRequest
from pipelines.motion.train import train
from pipelines.report.config import ReportRequest
from pipelines.report.page import report
from tests.pipelines.inbetween import tiny as between
from tests.pipelines.motion import tiny


def request(trained, out_dir, *kinds: str) -> CompareRequest:
    fields = {
        "runs": [trained / kind for kind in kinds],
        "data_root": trained / "data",
        "out_dir": out_dir,
        "split": "val",
        "device": "cpu",
    }
    return CompareRequest.model_validate(fields)


def test_the_same_clips_are_filled_by_every_run_and_stand_on_one_page(trained, tmp_path):
    out = tmp_path / "side-by-side"
    result = compare(request(trained, out, *tiny.KINDS), tiny.Heard())
    assert result["folders"] == ["crossfade", *tiny.KINDS]
    folders = {folder.path.name: folder for folder in sample_folders(out)}
    scenes = {name: {video.scene for video in each.videos} for name, each in folders.items()}
    assert len(set(map(frozenset, scenes.values()))) == 1 and len(scenes) == 5
    assert len(folders["wgan"].videos) == 4 and len(folders["linear"].videos) == 2

    page = report(ReportRequest(run_dir=out, out_dir=tmp_path / "page"), tiny.Heard())
    assert page["num_videos"] == 2 * (1 + 1 + 1 + 2 + 1 + 1), "start, real and all that was made"
    text = (tmp_path / "page" / "index.html").read_text()
    assert all(name in text for name in ("crossfade", "wgan 1", "autoregressive", "linear"))


@pytest.mark.parametrize("layout", ["mp4", "folders of frames"])
def test_published_folders_of_samples_stand_on_the_page_beside_ours(trained, tmp_path, layout):
    """As the class project left them: a folder per set of samples, a video or folder per clip."""
    out = tmp_path / "out"
    compare(request(trained, out, "linear"), tiny.Heard())
    ours = read_sample_folder(out / "samples" / "linear")
    for draw in (1, 2):
        folder = out / "samples" / f"GANgenerated{draw}"
        folder.mkdir()
        for video in ours.videos:
            if layout == "mp4":
                shutil.copy(video.path, folder / f"{video.scene}.mp4")
                continue
            (folder / video.scene).mkdir()
            for number, frame in enumerate(read_video(video.path)):
                write_png(folder / video.scene / f"{number}.png", frame)
    found = {each.path.name: each for each in sample_folders(out)}
    scenes = {video.scene for video in ours.videos}
    assert {video.scene for video in found["GANgenerated2"].videos} == scenes
    page = report(ReportRequest(run_dir=out, out_dir=tmp_path / "page"), tiny.Heard())
    assert page["num_videos"] == 2 * (1 + 1 + 1 + 1 + 2), "two sets more than ours"


def test_an_inbetween_model_fills_the_same_clips_beside_a_motion_model(tmp_path):
    """Clips of 16 frames, the only length that it knows."""
    between.prepare_squares(tmp_path / "data")
    train_between(between.request(tmp_path, run_dir=tmp_path / "between"), tiny.Heard())
    train_fomm(tiny.fomm_request(tmp_path), tiny.Heard())
    config = tiny.changed(kind="linear", num_frames=16)
    train(tiny.request(tmp_path, run_dir=tmp_path / "linear", config=config), tiny.Heard())
    out = tmp_path / "out"
    result = compare(request(tmp_path, out, "between", "linear"), tiny.Heard())
    assert result["folders"] == ["crossfade", "between", "linear"]
    folders = {folder.path.name: folder for folder in sample_folders(out)}
    assert {video.sample for video in folders["between"].videos} == {0, 1}
    scenes = [{video.scene for video in each.videos} for each in folders.values()]
    assert all(each == scenes[0] for each in scenes)
    assert {len(read_video(each.videos[0].path)) for each in folders.values()} == {14}


def test_straight_motion_is_not_the_same_as_a_cross_fade(trained, tmp_path):
    compare(request(trained, tmp_path / "out", "linear"), tiny.Heard())
    metas = [
        json.loads((tmp_path / "out" / "samples" / name / "meta.json").read_text())
        for name in ("crossfade", "linear")
    ]
    digests = [[video["frames_sha256"] for video in meta["videos"]] for meta in metas]
    assert not set(digests[0]) & set(digests[1])


def test_a_cross_fade_goes_evenly_from_one_end_to_the_other():
    clip = np.zeros((5, 2, 2, 3), np.uint8)
    clip[-1] = 200
    assert crossfade(clip)[:, 0, 0, 0].tolist() == [0, 50, 100, 150, 200]


def test_runs_that_fill_other_clips_are_not_compared(trained, tmp_path):
    config = tiny.changed(num_frames=5)
    train(tiny.request(trained, run_dir=tmp_path / "short", config=config), tiny.Heard())
    fields = request(trained, tmp_path / "out", "wgan").model_dump()
    runs = (*fields["runs"], tmp_path / "short")
    with pytest.raises(UserError, match="do not fill the same clips") as caught:
        compare(CompareRequest.model_validate(fields | {"runs": runs}), tiny.Heard())
    assert caught.value.exit_code == EXIT_USAGE
