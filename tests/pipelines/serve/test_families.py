"""What the families that transfer motion and fill in between answer over HTTP."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.fomm.sample import transfer
from pipelines.fomm.train import train as train_fomm
from pipelines.inbetween.sample import sample as sample_inbetween
from pipelines.inbetween.train import train as train_inbetween
from pipelines.io.sample_writer import SampleWriter
from pipelines.io.video import write_gif
from tests.pipelines.fomm import tiny as fomm
from tests.pipelines.inbetween import tiny as inbetween
from tests.pipelines.serve.asking import Served, frames_of, png_of, served_runs

NUM_BETWEEN = 16


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a tiny fomm and a tiny inbetween model."""
    root = tmp_path_factory.mktemp("families")
    for name, tiny, train in (
        ("moved", fomm, train_fomm),
        ("between", inbetween, train_inbetween),
    ):
        tiny.prepare_squares(root / name / "data")
        where = {"data_root": root / name / "data", "run_dir": root / "runs" / name}
        train(tiny.request(root, **where, max_steps=2), tiny.Heard())
    with served_runs(root / "runs", root / "session") as found:
        yield found


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The videos that a command writes below tmp_path; the server writes its own meanwhile."""
    kept: list[np.ndarray] = []
    add = SampleWriter.add

    def heard(self: SampleWriter, scene: str, frames: np.ndarray, **more: object) -> None:
        if self.folder.is_relative_to(tmp_path):
            kept.append(frames)
        add(self, scene, frames, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(SampleWriter, "add", heard)
    return kept


def options_of(command: str) -> tuple[list[str], dict[str, str], set[str]]:
    """The verb, the options with values, and the switches of a command line."""
    words = shlex.split(command)
    found: dict[str, str] = {}
    switches: set[str] = set()
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--") and following.startswith("--"):
            switches.add(word)
        elif word.startswith("--"):
            found[word] = following
    return words[:3], found, switches


def differ(ours: np.ndarray, theirs: np.ndarray) -> int:
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


def test_what_each_run_can_do_is_read_from_its_settings(families: Served) -> None:
    found = {run["name"]: run for run in families.send("GET", "/api/runs").json}
    assert found["moved"]["can"] == ["transfer"] and found["moved"]["has_keypoints"]
    assert found["between"]["can"] == ["between"] and found["between"]["frames"] == NUM_BETWEEN


@pytest.mark.parametrize("relative", [False, True])
def test_a_picture_moves_by_a_clips_keypoints_as_the_command_says(
    relative: bool, families: Served, written: list[np.ndarray], tmp_path: Path
) -> None:
    write_gif(tmp_path / "clip.gif", fomm.moving_square(3, num_frames=7), 10)
    body = (tmp_path / "clip.gif").read_bytes()
    clip = families.upload(body, "/api/clips", "clip.gif").json
    picture = families.upload(png_of(90, 60)).json
    question = {"run": "moved", "image": picture["id"], "clip": clip["id"], "frames": 64}
    how = {"relative": relative, "adapt_scale": True}
    lines = families.send("POST", "/api/transfer", question | how).lines
    assert lines[0]["frames"] == 7 and lines[-1] == {"type": "done"}
    verb, options, switches = options_of(lines[0]["command"])
    assert verb == ["i2v", "transfer", "fomm"]
    assert switches == ({"--relative", "--adapt-scale"} if relative else set())
    request = fomm.transfer_request(
        tmp_path,
        run_dir=options["--run"],
        source=options["--source"],
        driving=options["--driving"],
        frames=int(options["--frames"]),
        **(how if relative else {}),
    )
    transfer(request, fomm.Heard())
    assert (
        differ(written[0], frames_of(lines)) <= 1
    )  # several frames at once there, one by one here


def test_generated_clips_are_offered_and_move_a_picture(families: Served) -> None:
    clips = families.send("GET", "/api/clips?run=moved").json
    assert len(clips) == 4 and all(clip["is_generated"] for clip in clips)
    film = families.send("GET", f"/api/clips/{clips[0]['id']}/film")
    assert film.body[:4] == b"GIF8"
    question = {"run": "moved", "image": "plant-0-32px", "clip": clips[0]["id"], "frames": 5}
    lines = families.send("POST", "/api/transfer", question).lines
    assert frames_of(lines).shape == (5, 32, 32, 3)


def test_several_ways_lead_from_one_picture_to_another_as_the_command_says(
    families: Served, written: list[np.ndarray], tmp_path: Path
) -> None:
    found = families.send("GET", "/api/examples?run=between").json
    start = found[0]
    assert start["end"] == found[1]["id"] and found[1]["end"] is None
    ends = {"start": start["id"], "end": start["end"]}
    question = {"run": "between", **ends, "num": 3, "seed": 5}
    lines = families.send("POST", "/api/between", question).lines
    assert lines[0]["videos"] == 3 and lines[0]["frames"] == NUM_BETWEEN
    videos = [frames_of(lines, video) for video in range(3)]
    assert len({video.tobytes() for video in videos}) == 3
    _, options, _ = options_of(lines[0]["command"])
    paths = Path(options["--start"]), Path(options["--end"])
    assert (paths[0].stem, paths[1].stem) == (start["id"], start["end"])
    request = inbetween.sample_request(
        tmp_path,
        paths,
        tmp_path / "out",
        run_dir=Path(options["--run"]),
        num=int(options["--num"]),
        seed=int(options["--seed"]),
    )
    sample_inbetween(request, inbetween.Heard())
    assert max(map(differ, written, videos)) == 0


def test_ends_of_different_sizes_and_a_clip_that_stands_still_are_refused_in_words(
    families: Served, tmp_path: Path
) -> None:
    small, large = (families.upload(png_of(size, size)).json["id"] for size in (32, 48))
    reply = families.send("POST", "/api/between", {"run": "between", "start": small, "end": large})
    assert reply.status == 422 and "32 x 32 and 48 x 48" in reply.json["error"]["message"]
    write_gif(tmp_path / "still.gif", fomm.moving_square(3)[:1], 10)
    clip = families.upload((tmp_path / "still.gif").read_bytes(), "/api/clips").json["id"]
    question = {"run": "moved", "image": small, "clip": clip}
    lines = families.send("POST", "/api/transfer", question).lines
    assert lines[-1]["type"] == "error" and "no motion" in lines[-1]["message"]


def test_a_single_picture_is_asked_about_what_its_model_can_do_only(families: Served) -> None:
    picture = families.upload(png_of()).json["id"]
    for path in ("/api/poke", "/api/sample"):
        question = {"run": "moved", "image": picture}
        arrows = {"arrows": [{"x": 0.5, "y": 0.5, "dx": 0.1, "dy": 0}]} if "poke" in path else {}
        assert families.send("POST", path, question | arrows).status == 422
