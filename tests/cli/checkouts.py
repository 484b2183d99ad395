"""A checkout of the program whose heavy modules are stand-ins, and a way to type commands in it.

The command line, the worker and every light module are the real ones; each command runs in a
process of its own, with the interpreter of the tests adopted as every environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = {
    "synthetic.py": "datasets/synthetic.py",
    "prepare.py": "datasets/prepare.py",
    "inspect.py": "datasets/inspect.py",
    "data_config.py": "datasets/config.py",
    "train.py": "cinn/train.py",
    "sample.py": "cinn/sample.py",
    "evaluate_run.py": "cinn/evaluate.py",
    "evaluate.py": "metrics/evaluate.py",
    "page.py": "report/page.py",
    "report_config.py": "report/config.py",
}
REAL = (
    "engines/__init__.py",
    "engines/config.py",
    "engines/others.py",
    "engines/siblings.py",
    "__init__.py",
    "worker.py",
    "schema.py",
    "events.py",
    "files.py",
    "cinn/__init__.py",
    "cinn/config.py",
    "metrics/__init__.py",
    "metrics/config.py",
    "datasets/__init__.py",
    "report/__init__.py",
)
PATIENCE_S = 120.0
"""How long a test waits for something that takes a moment, on however busy a machine."""


@dataclass(frozen=True)
class Workplace:
    """A checkout, and folders for the user's home, data and runs."""

    checkout: Path
    place: Path

    @property
    def home(self) -> Path:
        """$I2V_HOME."""
        return self.place / "home"

    @property
    def data(self) -> Path:
        """$I2V_DATA."""
        return self.place / "data"

    @property
    def runs(self) -> Path:
        """$I2V_RUNS."""
        return self.place / "runs"

    def i2v(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Type a command and wait for its end."""
        return subprocess.run(
            self.command(*words),
            cwd=self.place,
            env=self.variables(),
            input=stdin,
            capture_output=True,
            text=True,
        )

    def json(self, *words: str) -> dict[str, Any]:
        """The envelope that a command with --json prints."""
        envelope: dict[str, Any] = json.loads(self.i2v(*words, "--json").stdout)
        return envelope

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Type a command and go on, as in a terminal of its own."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.place,
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def command(self, *words: str) -> list[str]:
        """The command as arguments."""
        return [sys.executable, "-m", "i2v_cli", *words]

    def variables(self) -> dict[str, str]:
        """The environment variables of every command."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return kept | {
            "PYTHONPATH": str(self.checkout),
            "PYTHONPYCACHEPREFIX": str(self.checkout / "pycache"),
            "I2V_HOME": str(self.home),
            "I2V_DATA": str(self.data),
            "I2V_RUNS": str(self.runs),
            "COLUMNS": "100",
        }

    def job_folders(self) -> list[Path]:
        """The records of the jobs that were run, oldest first."""
        return sorted((self.home / "jobs").glob("*"))

    def prepare(self, dataset: str = "synthetic") -> None:
        """Put prepared frames where a training looks for them."""
        index = self.data / dataset / "prepared" / "64px" / "index.json"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_text("{}")


def make_checkout(folder: Path) -> Path:
    """Copy the program and the light modules; put stand-ins in the places of the others."""
    for name in ("i2v_cli", "conf", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", folder)
    pairs = [(ROOT / "pipelines" / name, name) for name in REAL]
    pairs += [(Path(__file__).parent / "stand_ins" / name, to) for name, to in STAND_INS.items()]
    for source, name in pairs:
        target = folder / "pipelines" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    return folder


def make_workplace(checkout: Path, place: Path) -> Workplace:
    """An empty place to work in, with this interpreter as every environment."""
    workplace = Workplace(checkout, place)
    workplace.home.mkdir(parents=True)
    adopted = {name: sys.executable for name in ("data", "main")}
    (workplace.home / "envs.json").write_text(json.dumps({"adopted": adopted}))
    return workplace


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something that takes a moment; fail when it does not come."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not stat.parent.parent.joinpath("self").exists()


def pid_in(path: Path) -> int:
    """The process id that a stand-in wrote down, once it is there."""
    wait_until(lambda: path.exists() and path.read_text().strip() != "", f"{path.name} is written")
    return int(path.read_text())
