"""From nothing to an animated image, through the commands a user types."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.e2e.conftest import TINY, Desk


def test_every_stage_leaves_a_run_with_a_checkpoint_and_held_out_numbers(desk: Desk) -> None:
    for stage in ("1", "ae", "2"):
        run = desk.run_dir(stage)
        assert {"config.yaml", "events.jsonl", "log.txt", "run.json"} <= {
            path.name for path in run.iterdir()
        }
        newest = sorted((run / "checkpoints").iterdir())[-1]
        assert json.loads((newest / "meta.json").read_text())["validation"]


def test_a_finished_stage_is_not_trained_again(desk: Desk) -> None:
    before = (desk.run_dir("1") / "events.jsonl").read_bytes()
    answer = desk.i2v("train", "cinn", "--stage", "1", *TINY, "--json")
    assert answer.result["already_done"]
    assert (desk.run_dir("1") / "events.jsonl").read_bytes() == before


def test_preparing_the_same_data_again_does_nothing_and_says_so(desk: Desk) -> None:
    index = desk.path / "data" / "synthetic" / "prepared" / "32px" / "index.json"
    before = index.stat().st_mtime_ns
    answer = desk.i2v("extract-frames", "synthetic", "--size", "32", "--json")
    assert answer.code == 0, answer.err
    assert index.stat().st_mtime_ns == before


def test_the_same_seed_gives_the_same_frames_and_another_seed_other_ones(
    desk: Desk, start_images: list[Path], tmp_path: Path
) -> None:
    hashes = {}
    for name, seed in (("first", "3"), ("again", "3"), ("other", "4")):
        answer = desk.i2v(
            "sample", "cinn", "--run", desk.run_dir("2"), "--image", start_images[0],
            "--image", start_images[1], "--num", "2", "--frames", "20", "--seed", seed,
            "--out", tmp_path / name, "--json",
        )  # fmt: skip
        assert answer.code == 0, answer.err
        meta = json.loads((tmp_path / name / "meta.json").read_text())
        assert meta["seed"] == int(seed)
        videos = meta["videos"]
        assert len(videos) == 4
        for video in videos:
            assert (tmp_path / name / video["file"]).stat().st_size > 0
            assert (tmp_path / name / video["gif"]).stat().st_size > 0
        hashes[name] = [video["frames_sha256"] for video in videos]
    assert hashes["first"] == hashes["again"]
    assert not set(hashes["first"]) & set(hashes["other"])


def test_motion_of_a_sampled_video_is_transferred_to_another_image(
    desk: Desk, start_images: list[Path], tmp_path: Path
) -> None:
    sampled = desk.i2v(
        "sample", "cinn", "--run", desk.run_dir("2"), "--image", start_images[0], "--num", "1",
        "--frames", "16", "--out", tmp_path / "sample", "--json",
    )  # fmt: skip
    assert sampled.code == 0, sampled.err
    (video,) = [path for path in (tmp_path / "sample").glob("*.mp4") if path.stem != "grid"]
    answer = desk.i2v(
        "transfer", "cinn", "--run", desk.run_dir("2"), "--source", video,
        "--image", start_images[1], "--out", tmp_path / "transfer", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    meta = json.loads((tmp_path / "transfer" / "meta.json").read_text())
    assert meta["kind"] == "transfer" and len(meta["videos"]) == 1


def test_metrics_of_samples_come_as_a_table_and_as_a_file(desk: Desk) -> None:
    answer = desk.i2v(
        "eval", "psnr", "ssim", "motion-energy", "--source", desk.run_dir("2"), "--json"
    )
    rows = answer.result["rows"]
    assert {row[0] for row in rows} >= {"psnr", "ssim", "motion-energy"}
    assert all("frames of 32 x 32 px" in row[-1] for row in rows)


def test_the_report_is_one_folder_that_needs_nothing_else(desk: Desk) -> None:
    answer = desk.i2v("report", desk.run_dir("2"), "--json")
    assert answer.code == 0, answer.err
    page = desk.run_dir("2") / "report" / "index.html"
    text = page.read_text()
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text)
    sources = re.findall(r"(?:src|data-src)=\"([^\"#]+\.(?:mp4|gif|png))\"", text)
    assert sources, "the page shows no video"
    for source in sources:
        assert (page.parent / source).is_file()


def test_dry_run_says_what_would_happen_and_does_nothing(desk: Desk, tmp_path: Path) -> None:
    answer = desk.i2v(
        "train", "cinn", "--stage", "1", *TINY, "--name", "planned", "--dry-run", "--json"
    )
    assert answer.code == 0, answer.err
    assert answer.result["dry_run"]
    assert not (desk.path / "runs" / "planned").exists()


def test_runs_are_listed_and_shown(desk: Desk) -> None:
    listed = desk.i2v("runs", "list")
    assert listed.code == 0, listed.err
    for stage in ("1", "ae", "2"):
        assert desk.run_dir(stage).name in listed.out
    shown = desk.i2v("runs", "show", desk.run_dir("2").name, "--json")
    assert shown.code == 0, shown.err


def test_flow_is_estimated_measured_against_the_truth_and_shown(desk: Desk, tmp_path: Path) -> None:
    first = desk.i2v("estimate-flow", "synthetic", "--variant", "32px", "--lags", "1", "--json")
    assert first.code == 0, first.err
    error = first.result["lags"]["1"]["errors"]["clouds"]
    assert error["endpoint_px"] < 0.5 * error["zero_flow_px"]
    again = desk.i2v("estimate-flow", "synthetic", "--variant", "32px", "--lags", "1", "--json")
    assert again.result["new_lags"] == []
    sheet = tmp_path / "flow.png"
    shown = desk.i2v("data", "preview", "synthetic", "--flow", "--out", sheet)
    assert shown.code == 0, shown.err
    assert sheet.stat().st_size > 0
