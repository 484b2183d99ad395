from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.events import EXIT_USAGE, UserError
from pipelines.io.sample_folders import sample_folders
from pipelines.motion.compare import compare, crossfade
from pipelines.motion.config import CompareRequest
from pipelines.motion.train import train
from pipelines.report.config import ReportRequest
from pipelines.report.page import report
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
