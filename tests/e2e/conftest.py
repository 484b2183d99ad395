"""A folder in which the whole path has been walked once, with real workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--preset", "tiny")


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The envelope of --json."""
        envelope: dict[str, Any] = json.loads(self.out)
        return envelope

    @property
    def result(self) -> dict[str, Any]:
        """The result of a command that must have worked."""
        assert self.code == 0, self.err
        found: dict[str, Any] = self.json["result"]
        return found


@dataclass(frozen=True)
class Desk:
    """A working folder with data, runs and job records of its own; environments are the user's."""

    path: Path

    def variables(self) -> dict[str, str]:
        """Environment variables of a command."""
        own = {
            "I2V_DATA": str(self.path / "data"),
            "I2V_RUNS": str(self.path / "runs"),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }
        return os.environ | own

    def i2v(self, *words: str | Path) -> Answer:
        """Type a command and wait for its end."""
        command = [sys.executable, "-m", "i2v_cli", *map(str, words)]
        ended = subprocess.run(
            command,
            cwd=self.path,
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=600,
        )
        return Answer(ended.returncode, ended.stdout, ended.stderr)

    def run_dir(self, stage: str) -> Path:
        """The run folder of a stage of the tiny preset."""
        return self.path / "runs" / f"cinn-{'stage' if stage.isdigit() else ''}{stage}-tiny"


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Generated clips, prepared, and the three stages of the tiny preset trained on them."""
    desk = Desk(tmp_path_factory.mktemp("whole path"))
    for words in (
        ("download", "synthetic", "--kinds", "clouds", "--preset", "tiny", "--size", "32"),
        ("extract-frames", "synthetic", "--size", "32"),
        *(("train", "cinn", "--stage", stage, *TINY) for stage in ("1", "ae", "2")),
    ):
        answer = desk.i2v(*words, "--json")
        assert answer.code == 0, f"{words}: {answer.err}{answer.out}"
    return desk


@pytest.fixture
def start_images(desk: Desk, tmp_path: Path) -> list[Path]:
    """Two images to animate, with odd names: pictures of the generated data."""
    answer = desk.i2v("data", "preview", "synthetic", "--out", tmp_path / "sheet.png", "--json")
    assert answer.code == 0, answer.err
    images = [tmp_path / "a photo.png", tmp_path / "-größe.png"]
    for image in images:
        image.write_bytes((tmp_path / "sheet.png").read_bytes())
    return images


def walked(folder: Path, *steps: tuple[str | Path, ...]) -> Desk:
    """A desk at which these commands have been typed, one after the other."""
    desk = Desk(folder)
    for words in steps:
        answer = desk.i2v(*words, "--json")
        assert answer.code == 0, f"{words}: {answer.err}{answer.out}"
    return desk


@pytest.fixture(scope="session")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Generated plants, and two small models that were trained on them for seconds."""
    return walked(
        tmp_path_factory.mktemp("plants"),
        ("download", "synthetic", "--kinds", "plant", *TINY, "--size", "32"),
        ("extract-frames", "synthetic", "--size", "32"),
        ("train", "poke", *TINY, "--name", "plants"),
        ("train", "poke", *TINY, "--name", "untrained", "--max-steps", "1"),
    )
