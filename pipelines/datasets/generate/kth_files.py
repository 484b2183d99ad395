"""Walker clips in the form of the KTH download: grey 160 x 120 .avi at 25 frames per second."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from subprocess import PIPE

import ffmpeg
import numpy as np

from pipelines.datasets.generate import walker
from pipelines.datasets.generate.kinds import KINDS
from pipelines.datasets.generate.scene import Bytes, Scene, to_bytes
from pipelines.events import UserError
from pipelines.io.ffmpeg import Process, command

FPS = 25.0
WIDTH_PX, HEIGHT_PX = 160, 120
ACTIONS = {"walking": "walk", "handwaving": "wave", "boxing": "box"}
"""KTH's names of the actions that our people know."""

_FIRST_ROW = 28
"""First row of the square picture that is kept: head and feet of everyone stay inside."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def write_kth_files(
    raw: Path,
    *,
    seed: int = 0,
    persons: Iterable[int] = range(1, 26),
    actions: Iterable[str] = tuple(ACTIONS),
    scenarios: Iterable[int] = (1, 2, 3, 4),
    num_frames: int = 100,
) -> list[Path]:
    """Write person<PP>_<action>_d<S>_uncomp.avi and 00sequences.txt into `raw`; returns the videos.

    persons: 1 to 25, each with looks of its own.  Every video is listed as two sequences, halves.
    """
    paths, lines = [], []
    chosen, wanted = tuple(scenarios), tuple(actions)
    for person in persons:
        for action in wanted:
            for scenario in chosen:
                stem = f"person{person:02d}_{action}_d{scenario}"
                path = raw / f"{stem}_uncomp.avi"
                write_avi(path, kth_clip(person, action, scenario, num_frames, seed=seed))
                paths.append(path)
                half = num_frames // 2
                lines.append(f"{stem}\t\tframes\t1-{half}, {half + 1}-{num_frames}")
    header = "Sequences of generated videos: first and last frame, counted from 1\n\n"
    (raw / "00sequences.txt").write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    return paths


def kth_clip(person: int, action: str, scenario: int, num_frames: int, *, seed: int = 0) -> Bytes:
    """Frames of one video: grey, uint8 T 120 160 3 with three equal channels."""
    index = (person * 10 + scenario) * len(ACTIONS) + list(ACTIONS).index(action)
    scene = Scene(seed, KINDS["walker"].id, index, WIDTH_PX, num_frames)
    clip = walker.generate(scene, with_truth=False, action=ACTIONS[action], identity=person - 1)
    rows = clip.frames[:, _FIRST_ROW : _FIRST_ROW + HEIGHT_PX].astype(np.float32)
    return np.repeat(to_bytes(rows @ _LUMA)[..., None], 3, axis=-1)


def write_avi(path: Path, frames: Bytes) -> None:
    """Write frames as MPEG-4 with the DIVX mark, the way KTH's files are coded."""
    height, width = frames.shape[1:3]
    source = ffmpeg.input(
        "pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=FPS
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        made = Path(folder).absolute() / "clip.avi"
        coding = {"vcodec": "mpeg4", "vtag": "DIVX", "threads": 1, "fflags": "+bitexact"}
        stream = source.output(f"file:{made}", **coding, **{"qscale:v": 3})
        with Process(command(stream, loglevel="error"), stdin=PIPE) as process:
            process.write(frames)
            if process.finish() != 0:
                raise UserError(
                    f"cannot write the video '{path.name}'",
                    {"path": path, "ffmpeg says": " ".join(process.messages)},
                )
        os.replace(made, path)
