"""Answers to a run's test data, in the arrays of the published evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.io.packed import PackedVideos
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.evaluate import evaluate
from pipelines.poke.config import SampleRequest
from pipelines.poke.sample import sample
from tests.pipelines.poke import tiny

BATCH = 16


@pytest.fixture(scope="module")
def tested(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run beside data with 36 test clips, and the answers to those in out/."""
    root = tmp_path_factory.mktemp("tested")
    shutil.copytree(trained / "run", root / "run")
    tiny.prepare_squares(root / "data", counts=(4, 2, 3))
    heard = tiny.Heard()
    sample(request(root, test_clips=976), heard)
    assert "32 test clips in place of 976" in [each["message"] for each in heard.of("warning")]
    return root


def request(root: Path, **changes: object) -> SampleRequest:
    fields = {"run_dir": root / "run", "out_dir": root / "out", "device": "cpu"}
    return SampleRequest.model_validate(fields | {"data_root": root / "data"} | changes)


def test_the_arrays_have_the_published_layout_and_hold_stored_frames(tested):
    real, fake = (np.load(tested / "out" / f"{kind}_samples.npy") for kind in ("real", "fake"))
    shape = (2, BATCH, tiny.NUM_FRAMES, tiny.SIZE_PX, tiny.SIZE_PX, 3)
    assert real.shape == fake.shape == shape
    assert real.dtype == fake.dtype == np.uint8
    videos = PackedVideos(tested / "data" / "squares" / "prepared" / "32px")
    clips = [
        videos.frames(row, start, tiny.NUM_FRAMES)
        for row in videos.select("test", ("*",), 1)
        for start in range(1, 13 - tiny.NUM_FRAMES)
    ]
    for clip in real.reshape(-1, *shape[2:]):
        assert any(np.array_equal(clip, each) for each in clips)
    assert (tested / "out" / "grid.png").is_file()
    assert len(list((tested / "out" / "examples").glob("*.mp4"))) == 21


def test_the_same_seed_stores_the_same_answers(tested, tmp_path):
    sample(request(tested, test_clips=16, out_dir=tmp_path / "again"), tiny.Heard())
    again = np.load(tmp_path / "again" / "fake_samples.npy")
    assert np.array_equal(again[0], np.load(tested / "out" / "fake_samples.npy")[0])


def test_what_was_stored_is_measured_pair_by_pair(tested, tmp_path):
    out = tmp_path / "metrics.json"
    source = tested / "out"
    names = ("psnr", "ssim", "frechet-embedded")
    evaluate(EvalRequest(metrics=names, source=source, device="cpu", out_path=out), tiny.Heard())
    (found,) = json.loads(out.read_text())["evaluations"]
    assert [each["metric"] for each in found["results"]] == list(names)
    assert found["results"][0]["protocol"]["num_videos"] == 32


def test_too_little_test_data_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match="the test data has 12 clips, a batch has 16") as caught:
        sample(request(trained, test_clips=16, out_dir=tmp_path / "out"), tiny.Heard())
    assert caught.value.exit_code == EXIT_NO_DATA


def test_images_and_test_clips_exclude_each_other(trained):
    with pytest.raises(ValidationError, match="give --image FILE, or test_clips"):
        request(trained)
    with pytest.raises(ValidationError, match="poked by their own flow"):
        request(trained, test_clips=16, pokes=["1,2,3,4"])
