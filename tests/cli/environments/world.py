"""A small world for environments: locks, wheels and a home of a test's own."""

from __future__ import annotations

import hashlib
import re
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipelines.events import EXIT_ENVIRONMENT, UserError

# Tiny stand-ins take the names of real environments: one without torch, and two with it.
PLAIN, TORCH, OTHER_TORCH = "data", "main", "flow"


@dataclass
class Recorder:
    """A reporter that remembers."""

    lines: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)

    def log(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, task: str, done: float, total: float | None = None, unit: str = "") -> None:
        self.tasks.append(task)


@dataclass
class World:
    """A small world for environments: locks, wheels and a home of a test's own."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def envs_home(self) -> Path:
        return self.home / "envs"

    def wheel(self, name: str, version: str = "1.0", code: str = "") -> str:
        """A wheel with one module; returns its line for a lock."""
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": code or f"version = '{version}'\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        path = self.root / "wheels" / f"{name}-{version}-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for inner, text in files.items():
                # A fixed time: the same wheel made twice has the same hash.
                archive.writestr(zipfile.ZipInfo(inner), text)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"

    def lock(self, name: str, *lines: str, asked: tuple[str, ...] = ()) -> None:
        """Write the lock of an environment, and what is asked for: if not said, all in it."""
        asked = asked or tuple(re.findall(r"^([\w-]+)==", "".join(lines), re.MULTILINE))
        (self.root / "locks").mkdir(exist_ok=True)
        (self.root / "locks" / f"{name}.in").write_text("\n".join(asked), encoding="utf-8")
        (self.root / "locks" / f"{name}.lock").write_text("".join(lines), encoding="utf-8")

    def leftovers(self) -> list[str]:
        """What is in the folder of environments and is neither one of them nor a lock."""
        names = [path.name for path in self.envs_home.iterdir()]
        return [name for name in names if not re.fullmatch(r"\.\w+\.lock|\w+-[0-9a-f]{12}", name)]

    def imports(self, python: Path, module: str) -> bool:
        command = [python, "-I", "-c", f"import {module}"]
        return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def fails(function: Callable[[], object], *, exit_code: int = EXIT_ENVIRONMENT) -> UserError:
    """The error of a call that must fail in our form, with a remedy."""
    with pytest.raises(UserError) as caught:
        function()
    assert caught.value.exit_code == exit_code
    assert caught.value.details
    return caught.value


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path
