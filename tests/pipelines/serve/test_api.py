"""Another program asks the server: pictures, pokes, the truth, files of answers."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.datasets.synthetic import FIRST_INDEX, generate, simulate
from pipelines.io.images import read_image
from pipelines.io.sample_writer import SampleWriter
from pipelines.io.video import probe, write_gif
from pipelines.poke.config import read_poke
from pipelines.poke.sample import sample
from tests.pipelines.poke import tiny
from tests.pipelines.serve.asking import ARROW, Served, frames_of, picture_in, png_of


def test_runs_are_listed_with_what_they_can_do(served: Served) -> None:
    found = served.send("GET", "/api/runs").json
    assert [(run["name"], run["family"], run["can"]) for run in found] == [
        ("first", "poke", ["poke"]),
        ("second", "poke", ["poke"]),
    ]
    assert found[0]["size_px"] == 32 and found[0]["frames"] == tiny.NUM_FRAMES


def test_the_description_names_every_question_and_loads_nothing_from_elsewhere(
    served: Served,
) -> None:
    reply = served.send("GET", "/api/openapi.json", headers={"authorization": None})
    paths = reply.json["paths"]
    for name in ("poke", "truth", "sample", "transfer", "between", "pictures", "clips"):
        assert "post" in paths[f"/api/{name}"]
    for name in ("runs", "examples", "pictures/{id}", "answers/{id}/{name}"):
        assert "get" in paths[f"/api/{name}"]


def test_the_page_needs_nothing_from_elsewhere(served: Served) -> None:
    page = served.send("GET", "/", headers={"authorization": None})
    assert page.status == 200 and "script-src 'self'" in page.headers["content-security-policy"]
    static = Path(__file__).parents[3] / "pipelines" / "serve" / "static"
    for path in static.iterdir():
        reply = served.send("GET", f"/{path.name}", headers={"authorization": None})
        assert reply.body == path.read_bytes()
        rest = reply.body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"://" not in rest and b"@import" not in rest, f"{path.name} has an address"


def test_a_poke_is_answered_frame_by_frame(served: Served) -> None:
    lines = served.poke().lines
    start = lines[0]
    assert [each["type"] for each in lines] == ["start", *["frame"] * 4, "done"]
    assert (start["videos"], start["frames"], start["width"]) == (1, 4, 32)
    scene = generate("plant", FIRST_INDEX["test"], size_px=32, num_frames=2, with_truth=False)
    assert np.array_equal(picture_in(base64.b64decode(start["start"])), scene.frames[0])
    assert frames_of(lines).shape == (4, 32, 32, 3)


def test_the_command_of_an_answer_makes_the_same_video(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = served.upload(png_of(90, 60)).json
    lines = served.poke(image=picture["id"], arrows=[ARROW, ARROW | {"x": 0.2}], frames=6).lines
    words = lines[0]["command"].split()
    assert words[:3] == ["i2v", "sample", "poke"]
    typed = list(zip(words[3::2], words[4::2], strict=True))
    options = dict(typed)
    request = tiny.sample_request(
        tmp_path,
        Path(options["--image"]),
        run_dir=options["--run"],
        pokes=[read_poke(text) for name, text in typed if name == "--poke"],
        frames=int(options["--frames"]),
    )
    sampled: list[np.ndarray] = []
    add = SampleWriter.add

    def heard(self: SampleWriter, scene: str, frames: np.ndarray, **more: Any) -> None:
        if self.folder.is_relative_to(tmp_path):  # the server writes answers at the same time
            sampled.append(frames)
        add(self, scene, frames, **more)

    monkeypatch.setattr(SampleWriter, "add", heard)
    sample(request, tiny.Heard())
    difference = np.abs(sampled[0].astype(int) - frames_of(lines).astype(int))
    assert difference.max() <= 1  # decoded all at once there, and one by one here


def test_directions_answer_one_video_each(served: Served) -> None:
    lines = served.poke(directions=8).lines
    assert lines[0]["videos"] == 8
    videos = [frames_of(lines, video) for video in range(8)]
    assert np.array_equal(videos[0], frames_of(served.poke().lines))
    assert len({video.tobytes() for video in videos}) > 1


def test_the_truth_is_what_the_simulator_says(served: Served) -> None:
    arrow = {"x": 17 / 32, "y": 12 / 32, "dx": 4 / 32, "dy": 0}
    question = {"run": "first", "image": "plant-0-32px", "arrow": arrow}
    lines = served.send("POST", "/api/truth", question).lines
    clip = simulate(
        "plant",
        FIRST_INDEX["test"],
        poke=(17, 12, 4, 0),
        lag=tiny.NUM_FRAMES,
        size_px=32,
        num_frames=tiny.NUM_FRAMES + 1,
        with_truth=False,
    )
    assert np.array_equal(frames_of(lines), clip.frames[1:])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_a_picture_of_every_kind_is_taken_and_shown(kind: str, served: Served) -> None:
    picture = served.upload(png_of(50, 40, kind), name="Mein%20Bild.x").json
    assert (picture["name"], picture["width"], picture["height"]) == ("Mein Bild.x", 50, 40)
    shown = served.send("GET", f"/api/pictures/{picture['id']}")
    assert shown.headers["content-type"] == "image/png"
    assert picture_in(shown.body).shape == (40, 50, 3)
    assert served.poke(image=picture["id"]).lines[-1] == {"type": "done"}


def test_what_was_sent_and_answered_lies_in_the_session(served: Served) -> None:
    picture = served.upload(png_of(64, 64), name="leaf.png").json
    start = served.poke(image=picture["id"]).lines[0]
    reply = served.send("GET", f"/api/answers/{start['answer']}/answer.mp4")
    assert reply.status == 200 and reply.headers["content-type"] == "video/mp4"
    folder = max((served.session_dir / "answers").iterdir())
    assert (folder / "answer.mp4").read_bytes() == reply.body
    assert probe(folder / "answer.mp4", count_frames=True).num_frames == 4
    assert served.send("GET", f"/api/answers/{start['answer']}/answer.gif").body[:4] == b"GIF8"
    arrow = served.send("GET", f"/api/answers/{start['answer']}/arrow.png")
    assert picture_in(arrow.body).shape == (512, 512, 3)
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["command"] == start["command"]
    kept = [path for path in (served.session_dir / "pictures").iterdir() if "leaf" in path.name]
    assert len(kept) == 1 and read_image(kept[0]).shape == (64, 64, 3)


def test_a_clip_is_taken(served: Served, tmp_path: Path) -> None:
    write_gif(tmp_path / "clip.gif", tiny.moving_square(1, 9)[0], 8)
    clip = served.upload((tmp_path / "clip.gif").read_bytes(), "/api/clips", "c.gif").json
    assert clip["frames"] == 9
    assert picture_in(served.send("GET", f"/api/clips/{clip['id']}").body).shape == (32, 32, 3)


def test_the_last_of_ten_quick_pokes_is_answered_and_the_others_are_given_up(
    served: Served,
) -> None:
    replies: dict[int, list[dict[str, Any]]] = {}

    def ask(number: int) -> None:
        replies[number] = served.poke(slot="mine", frames=200).lines

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
        thread.join(0.05)
    for thread in threads:
        thread.join(60)
    ends = [lines[-1]["type"] for lines in replies.values()]
    assert ends.count("done") == 1 and ends.count("cancelled") == 9
    assert replies[9][-1]["type"] == "done"


def test_a_model_process_that_dies_is_told_of_and_started_anew(served: Served) -> None:
    assert served.poke().lines[-1] == {"type": "done"}
    lines: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: lines.extend(served.poke(frames=256).lines))
    asking.start()
    while served.desk.engine.is_idle:
        asking.join(0.001)
    process_id = served.desk.engine.process_id
    assert process_id
    os.kill(process_id, signal.SIGKILL)
    asking.join(30)
    assert lines[-1]["type"] == "error" and "ended" in lines[-1]["message"]
    assert served.poke().lines[-1] == {"type": "done"}
    assert served.desk.engine.process_id != process_id


def test_a_run_whose_weights_are_gone_is_an_error_of_its_own(
    served: Served, runs_root: Path
) -> None:
    weights = next((runs_root / "second").glob("checkpoints/*/weights.safetensors"))
    aside = weights.rename(runs_root / "aside")
    try:
        lines = served.poke(run="second").lines
    finally:
        aside.rename(weights)
    assert lines[-1]["type"] == "error" and lines[-1]["details"]
    assert served.poke(run="second").lines[-1] == {"type": "done"}
