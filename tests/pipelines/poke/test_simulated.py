"""A run against the simulator of generated plants, up to the page that shows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipelines.events import EXIT_USAGE, UserError
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.evaluate import evaluate
from pipelines.poke import simulated
from pipelines.report.config import ReportRequest
from pipelines.report.page import report
from tests.pipelines.poke import tiny


def test_numbers_and_pictures_of_a_run_are_on_its_page(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(simulated, "LENGTHS_PX", (4.0, 16.0))
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    request = EvalRequest(
        metrics=("poke-simulator",), source=run, num_images=2, device="cpu",
        out_path=run / "metrics.json",
    )  # fmt: skip
    result = evaluate(request, tiny.Heard())
    assert result["columns"][0] == "metric"
    (found,) = json.loads((run / "metrics.json").read_text())["evaluations"]
    names = [each["metric"] for each in found["results"]]
    assert {
        "poke: direction at the poked leaf",
        "poke: end-point error",
        "poke: end-point error, pokes of 2 px",
        "poke: end-point error, pokes of 8 px",
        "poke: control, answers apart over the simulator's",
    } <= set(names)
    for name in ("simulator", "control"):
        picture = Image.open(run / "samples" / name / "grid.png")
        assert picture.width > 3 * tiny.SIZE_PX

    page = Path(report(ReportRequest(run_dir=run), tiny.Heard())["report"])
    text = page.read_text()
    assert "end-point error, pokes of 8 px" in text
    assert "asked of sample" in text  # the arrow beside each answer
    assert "poke stage 1: simulator" in text and "poke stage 1: control" in text


def test_videos_are_no_run(tmp_path):
    tmp_path.joinpath("x.mp4").write_bytes(b"")
    request = EvalRequest(metrics=("poke-simulator",), source=tmp_path, device="cpu")
    with pytest.raises(UserError, match="measures a poke run by itself") as caught:
        evaluate(request, tiny.Heard())
    assert caught.value.exit_code == EXIT_USAGE
