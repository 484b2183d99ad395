"""`i2v sample poke` as typed, of a run trained here and of one with published weights."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Desk

WIDTH, HEIGHT = 80, 60
TRAINED_FRAMES, IMPORTED_FRAMES = 5, 4


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that is no square, with a square in its middle, and the flow of that square.

    Written byte by byte: a .bmp and, beside it, a .flo, in which the square moves to the right.
    """
    path = tmp_path_factory.mktemp("photo") / "my photo.bmp"
    inside = [
        [30 <= x < 50 and 20 <= y < 40 for x in range(WIDTH)] for y in reversed(range(HEIGHT))
    ]
    pixels = bytes(
        level
        for row in inside
        for is_inside in row
        for level in ((40, 200, 250) if is_inside else (120, 90, 60))
    )
    head = b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54)
    sizes = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(head + sizes + pixels)
    flow = [value for row in inside for is_inside in row for value in (6.0 * is_inside, 0.0)]
    head = b"PIEH" + struct.pack("<ii", WIDTH, HEIGHT)
    path.with_suffix(".flo").write_bytes(head + struct.pack(f"<{len(flow)}f", *flow))
    return path


@pytest.fixture(scope="module")
def imported(plants: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that `i2v import poke` makes of a folder in the published layout."""
    folder = tmp_path_factory.mktemp("published") / "plants_32x32"
    python = plants.i2v("env", "python", "main", "--json").result["python"]
    command = [python, "-m", "tests.pipelines.poke.published_layout", folder]
    subprocess.run(command, cwd=ROOT, env=plants.variables(), check=True, timeout=600)
    return Path(plants.i2v("import", "poke", folder, "--name", "published", "--json").result["run"])


class Asker:
    """Asks one run for samples and looks at what is written."""

    def __init__(self, desk: Desk, run: str | Path, photo: Path, out: Path) -> None:
        self._desk, self._run, self._photo, self._out = desk, run, photo, out

    def __call__(self, name: str, *words: str | Path, frames: int) -> list[dict[str, Any]]:
        """Type the command; the videos that it tells of, all of them there and of this length."""
        out = self._out / name
        common = ("--run", self._run, "--image", self._photo, "--out", out, "--json")
        assert self._desk.i2v("sample", "poke", *common, *words).result["samples"] == str(out)
        meta = json.loads((out / "meta.json").read_text())
        assert meta["frames"] == frames
        for video in meta["videos"]:
            assert (out / video["file"]).read_bytes()[4:8] == b"ftyp"
            assert (out / video["gif"]).read_bytes()[:4] == b"GIF8"
        assert (out / "grid.png").read_bytes()[:4] == b"\x89PNG"
        videos: list[dict[str, Any]] = meta["videos"]
        return videos


def pokes_of(videos: Iterable[dict[str, Any]]) -> list[tuple[float, ...]]:
    """Column, row, dx and dy of the first poke of each video, in pixels of the model."""
    first = [video["pokes"][0] for video in videos]
    return [tuple(poke[name] for name in ("column", "row", "dx", "dy")) for poke in first]


def test_a_trained_run_answers_pokes_in_pixels_and_in_fractions_alike(
    plants: Desk, photo: Path, tmp_path: Path
) -> None:
    ask = Asker(plants, "plants", photo, tmp_path)
    pixels = ask("pixels", "--poke", "40,30,8,-6", "--poke", "20,15,0,6", frames=TRAINED_FRAMES)
    both = ("--poke", "0.5,0.5,0.1,-0.1", "--poke", "0.25,0.25,0.0,0.1")
    parts = ask("fractions", *both, frames=TRAINED_FRAMES)
    assert len(pixels) == 1 and len(pixels[0]["pokes"]) == 2
    assert pokes_of(pixels) == [pytest.approx((16, 16, 3.2, -3.2))]
    assert pixels[0]["frames_sha256"] == parts[0]["frames_sha256"]


def test_a_trained_run_draws_pokes_from_a_flow_file_and_from_nothing(
    plants: Desk, photo: Path, tmp_path: Path
) -> None:
    ask = Asker(plants, "plants", photo, tmp_path)
    flow = ("--flow", photo.with_suffix(".flo"), "--num", "4", "--frames", "7")
    for column, row, *move in pokes_of(ask("flow", *flow, frames=7)):
        assert 12 <= column < 20 and 10 <= row < 22
        assert move == pytest.approx((6 * 32 / WIDTH, 0), abs=0.1)
    drawn = ask("drawn", "--num", "2", "--seed", "3", frames=TRAINED_FRAMES)
    assert len(drawn) == 2 and len({video["frames_sha256"] for video in drawn}) == 2


@pytest.fixture(scope="module")
def swept(plants: Desk, imported: Path, photo: Path) -> list[dict[str, Any]]:
    """Answers of the published model to eight directions, in the samples `eight` of its run."""
    ask = Asker(plants, imported, photo, imported / "samples")
    return ask("eight", "--poke", "40,30,10,0", "--sweep", "8", frames=IMPORTED_FRAMES)


def test_a_published_model_answers_eight_directions_and_a_number_of_frames(
    plants: Desk, imported: Path, swept: list[dict[str, Any]], photo: Path, tmp_path: Path
) -> None:
    ask = Asker(plants, imported, photo, tmp_path)
    assert len({video["frames_sha256"] for video in swept}) == 8
    moves = [poke[2:] for poke in pokes_of(swept)]
    # 10 of the 64 pixels of width that these models look at, which become 32
    assert moves[0] == pytest.approx((5, 0)) and moves[2] == pytest.approx((0, 5), abs=1e-6)
    longer = ask("longer", "--poke", "0.5,0.5,0.1,0.1", "--frames", "9", frames=9)
    assert len(longer) == 1


def test_what_pokes_are_worth_is_measured_and_shown_in_the_report(
    plants: Desk, imported: Path, swept: list[dict[str, Any]]
) -> None:
    """The published model, whose samples and answers to simulated plants its page shows."""
    samples = ("poke", "--source", imported / "samples" / "eight", "--out", imported / "more.json")
    found = plants.i2v("eval", *samples, "--json").result["results"]
    assert [each["metric"] for each in found] == ["poke-error", "poke-direction", "poke-control"]
    words = ("poke-simulator", "--source", "published", "num_images=2")
    measured = plants.i2v("eval", *words, "--json").result["results"]
    assert {"poke: direction at the poked leaf", "poke: end-point error"} <= {
        each["metric"] for each in measured
    }
    page = Path(plants.i2v("report", "published", "--json").result["report"])
    text = page.read_text()
    assert "direction at the poked leaf" in text
    assert "poke stage 1: simulator" in text and "poke stage 1: control" in text
    shown = re.findall(r'(?:src|data-src)="([^"#]+\.png)"', text)
    assert sum(name.endswith("-marked.png") for name in shown) == len(swept)  # one for each arrow
    assert sum(name.endswith("-grid.png") for name in shown) == 2
    assert all((page.parent / name).stat().st_size > 0 for name in shown)
