"""Videos of a folder that drive each other's first frames."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.fomm.animation import animate
from pipelines.fomm.config import AnimateRequest
from pipelines.fomm.pairs import drawn_pairs, listed_pairs
from pipelines.fomm.sample import load
from pipelines.io.sample_folders import read_sample_folder
from pipelines.io.video import read_video, write_mp4
from tests.pipelines.fomm import tiny


def test_pairs_are_drawn_as_published():
    """Seed 0 of numpy's first generator, over a square as large as there are videos or pairs."""
    assert drawn_pairs(3, 4) == [(2, 1), (0, 2), (0, 1), (1, 1)]
    assert sorted(drawn_pairs(2, 50)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(max(pair) < 5 for pair in drawn_pairs(100, 5))


def test_pairs_of_a_list_are_those_whose_videos_are_there(tmp_path):
    lines = ["distance,source,driving,frame", "0.1,a.mp4,b.mp4,3", "0.2,a,gone.mp4,0", "0.3,b,b,0"]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    names = ["a.mp4", "b.mp4"]
    assert listed_pairs(tmp_path / "pairs.csv", names, 50) == [(1, 0), (1, 1)]
    assert listed_pairs(tmp_path / "pairs.csv", names, 1) == [(1, 0)]


@pytest.mark.parametrize(
    ("text", "message", "exit_code"),
    [
        ("a,b\n1,2\n", "no column 'driving'", EXIT_USAGE),
        ("source,driving\nx,y\n", "no pair of 'pairs.csv'", EXIT_NO_DATA),
        (None, "cannot read the pairs", EXIT_NO_DATA),
    ],
)
def test_a_list_that_says_nothing_is_refused(tmp_path, text, message, exit_code):
    if text is not None:
        (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        listed_pairs(tmp_path / "pairs.csv", ["a.mp4"], 50)
    assert caught.value.exit_code == exit_code


def test_every_pair_is_animated_by_the_published_procedure(trained, tmp_path):
    folder = tmp_path / "videos"
    (folder / "frames").mkdir(parents=True)
    write_mp4(folder / "clip.mp4", tiny.moving_square(2), 12.5)
    for number, frame in enumerate(tiny.moving_square(3)[:4]):
        Image.fromarray(frame).save(folder / "frames" / f"{number}.png")
    (tmp_path / "pairs.csv").write_text("source,driving\nclip.mp4,frames\nframes,clip.mp4\n")
    fields = {"run_dir": trained / "run", "videos": folder, "out_dir": tmp_path / "out"}
    fields |= {"pairs": tmp_path / "pairs.csv", "device": "cpu", "frames": 3}
    assert animate(AnimateRequest.model_validate(fields), tiny.Heard())["videos"] == 2
    made = read_sample_folder(tmp_path / "out")
    assert [video.scene for video in made.videos] == ["frames-clip", "clip-frames"]
    assert {len(read_video(video.path)) for video in made.videos} == {3}
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["videos"][0]["driving"] == "frames" and meta["relative"]
    animator = load(trained / "run", torch.device("cpu"), warn=pytest.fail)
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "out" / "start" / "frames-clip.png")),
        animator.picture(read_video(folder / "clip.mp4", max_frames=1)[0]),
    )
