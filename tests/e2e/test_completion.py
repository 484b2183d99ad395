"""Two frames, or an image and a video, to a video: every command of the completion families."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, TINY, Desk


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Generated robot arms, and a run of each family of the tiny preset trained on them."""
    desk = Desk(tmp_path_factory.mktemp("completion"))
    arms = ('data.include=["arm/*"]',)
    fomm = ("--fomm-run", "fomm-stage1-tiny")
    for words in (
        ("download", "synthetic", "--kinds", "arm", "--preset", "tiny", "--size", "32"),
        ("extract-frames", "synthetic", "--size", "32"),
        ("train", "fomm", *TINY),
        ("train", "motion", *TINY, *fomm, "--name", "adversarial", "num_frames=16"),
        ("train", "inbetween", *TINY, *arms),
    ):
        answer = desk.i2v(*words, "--json")
        assert answer.code == 0, f"{words}: {answer.err}{answer.out}"
    return desk


def real_video(studio: Desk) -> Path:
    """A held-out clip that the fomm's training left beside its reconstruction."""
    return sorted((studio.path / "runs/fomm-stage1-tiny/samples/real").glob("*.mp4"))[0]


def start_image(studio: Desk, number: int = 0) -> Path:
    """The first frame of a held-out clip."""
    folder = studio.path / "runs/fomm-stage1-tiny/samples/real/start"
    return sorted(folder.glob("*.png"))[number]


def test_an_image_is_moved_like_a_video(studio: Desk, tmp_path: Path) -> None:
    answer = studio.i2v(
        "transfer", "fomm", "--run", "fomm-stage1-tiny", "--source", start_image(studio),
        "--driving", real_video(studio), "--relative", "--adapt-scale", "--best-frame", "auto",
        "--out", tmp_path / "moved", "--json",
    )  # fmt: skip
    assert answer.result["videos"] == 1
    meta = json.loads((tmp_path / "moved" / "meta.json").read_text())
    assert meta["kind"] == "transfer" and meta["relative"] and not meta["has_sound"]


@pytest.mark.parametrize(
    ("family", "run", "num"), [("motion", "adversarial", 2), ("inbetween", None, 3)]
)
def test_videos_are_made_between_two_images(
    studio: Desk, tmp_path: Path, family: str, run: str | None, num: int
) -> None:
    answer = studio.i2v(
        "sample", family, "--run", run or "inbetween-stage1-tiny", "--num", num, "--seed", "2",
        "--start", start_image(studio), "--end", start_image(studio, 1),
        "--out", tmp_path / "between", "--json",
    )  # fmt: skip
    assert answer.result["videos"] == num
    meta = json.loads((tmp_path / "between" / "meta.json").read_text())
    assert meta["includes_start_frame"] and set(meta["images"]) == {"start", "end"}
    assert len({video["frames_sha256"] for video in meta["videos"]}) == num


def test_a_tensorflow_module_fills_in_place_of_a_run(studio: Desk, tmp_path: Path) -> None:
    python = studio.i2v("env", "python", "fvd", "--json").result["python"]
    module = tmp_path / "module"
    command = [python, "-m", "tests.pipelines.fvd.tweening_modules", str(module)]
    subprocess.run(command, cwd=ROOT, env=studio.variables(), check=True, timeout=600)
    answer = studio.i2v(
        "sample", "inbetween", "--backend", "tfhub", "--module", module, "--frames", "14",
        "--start", start_image(studio), "--end", start_image(studio, 1),
        "--out", tmp_path / "between", "--json",
    )  # fmt: skip
    assert answer.result["videos"] == 1
    meta = json.loads((tmp_path / "between" / "meta.json").read_text())
    assert meta["backend"] == "tfhub" and meta["versions"].keys() >= {"tensorflow"}
    assert meta["module"] == str(module) and set(meta["images"]) == {"start", "end"}


def test_both_families_fill_the_same_clips_in_one_table_on_one_page(
    studio: Desk, tmp_path: Path
) -> None:
    runs = ("inbetween-stage1-tiny", "adversarial")
    answer = studio.i2v(
        "compare", *runs, "--split", "val", "--clips", "2", "--metric", "psnr",
        "--out", tmp_path / "page", "--json",
    )  # fmt: skip
    result = answer.result
    assert result["folders"] == ["crossfade", *runs]
    rows = json.loads(Path(result["metrics"]).read_text())["evaluations"]
    assert [row["label"] for row in rows] == [row[0] for row in result["rows"]]
    assert [row[0] for row in result["rows"]] == ["crossfade", *runs]
    text = Path(result["page"]).read_text()
    assert all(run in text for run in runs)
