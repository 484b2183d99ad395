"""Texts that are compared as a whole with a file; I2V_WRITE_GOLDEN=1 writes the files anew."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def check(name: str, text: str) -> None:
    """Compare a text with the file of that name."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("I2V_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    wanted = path.read_text(encoding="utf-8")
    difference = difflib.unified_diff(wanted.splitlines(), text.splitlines(), "wanted", "printed")
    assert text == wanted, "\n".join(difference)


def transcript(commands: Sequence[str], call: Callable[[list[str]], tuple[int, str, str]]) -> str:
    """What a user sees who types these commands: what comes out, and the exit code."""
    blocks = []
    for command in commands:
        code, out, err = call(shlex.split(command)[1:])
        blocks.append(f"$ {command}\n{out}{err}exit code {code}\n")
    return "\n".join(blocks)


def without_places(text: str, *folders: Path) -> str:
    """The text with folders of this machine and times replaced."""
    for folder in folders:
        text = text.replace(str(folder), "<here>")
    return re.sub(r"\d{8}-\d{6}", "<time>", text)
