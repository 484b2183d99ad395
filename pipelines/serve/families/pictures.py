"""Pictures as files, kept while they are asked about again and again."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.io.images import read_image


@functools.lru_cache(maxsize=2)
def picture_at(path: Path) -> np.ndarray:
    """The picture in a file that never changes, uint8 H W 3."""
    return read_image(path)


def command_line(verb: str, family: str, options: Sequence[tuple[str, object]]) -> str:
    """What to type to get the same from the command line.

    options: name and value; those of None or False are left out, True is a switch.
    """
    words = ["i2v", verb, family]
    for name, value in options:
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", str(value)]
    return shlex.join(words)
