"""What people do, taken over by somebody else: every command of behavior and shape-pose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import TINY, Desk, walked

RUN, RENDERER = "behavior-stage2-tiny", "shape-pose-stage1-tiny"


@pytest.fixture(scope="module")
def gym(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Generated people in space, and the smallest models of both families trained on them."""
    return walked(
        tmp_path_factory.mktemp("behavior"),
        ("download", "synthetic", "--kinds", "walker_3d", *TINY, "--size", "32"),
        ("extract-frames", "synthetic", "--size", "32"),
        ("train", "behavior", "--stage", "1", *TINY),
        ("train", "behavior", "--stage", "2", *TINY),
        ("train", "shape-pose", *TINY),
    )


def take(number: int) -> str:
    """A held-out take of the prepared data, as one names it."""
    return f"synthetic:walker_3d/test/{number:05d}"


def read(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((path / "meta.json").read_text())
    return found


def test_several_futures_are_drawn_for_a_posture(gym: Desk, tmp_path: Path) -> None:
    answer = gym.i2v(
        "sample", "behavior", "--run", RUN, "--target", f"{take(1)}@3", "--num", "3",
        "--out", tmp_path / "futures", "--json",
    )  # fmt: skip
    assert answer.result["videos"] == 3
    videos = read(tmp_path / "futures")["videos"]
    assert isinstance(videos, list)
    assert len({video["frames_sha256"] for video in videos}) == 3
    assert all((tmp_path / "futures" / video["poses"]).is_file() for video in videos)


def test_what_one_does_another_does_as_a_skeleton_and_as_a_person(
    gym: Desk, tmp_path: Path
) -> None:
    person = tmp_path / "person.png"
    assert gym.i2v("data", "preview", "synthetic", "--out", person).code == 0
    answer = gym.i2v(
        "transfer", "behavior", "--run", RUN, "--source", take(1), "--target", take(2),
        "--appearance", person, "--render-run", RENDERER, "--out", tmp_path / "moved",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    folders = [Path(line) for line in answer.out.splitlines()]
    assert folders == [tmp_path / "moved", tmp_path / "moved-rendered"]
    assert [len(list(folder.glob("*-test-*.mp4"))) for folder in folders] == [1, 1]
    assert "next: i2v report" in answer.err


def test_a_behaviour_of_a_file_of_poses_goes_over_into_another(gym: Desk, tmp_path: Path) -> None:
    file = gym.path / "data" / "synthetic" / "raw" / "walker_3d" / "test" / "00001.npz"
    answer = gym.i2v(
        "transfer", "behavior", "--run", RUN, "--source", file, "--source", take(3),
        "--target", take(2), "--out", tmp_path / "between", "--json",
    )  # fmt: skip
    assert answer.result["videos"] > 2
    assert read(tmp_path / "between")["source"] == [str(file), take(3)]


def test_a_transfer_stands_in_the_report_of_its_run(gym: Desk) -> None:
    moved = gym.i2v("transfer", "behavior", "--run", RUN, "--source", take(1), "--target", take(2))
    assert moved.code == 0, moved.err
    page = Path(gym.i2v("report", RUN, "--json").result["report"])
    assert "walker_3d-test-00002" in page.read_text()
