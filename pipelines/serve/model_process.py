"""The process that holds the models: answers one question after the other, frame by frame.

It hears questions on a pipe and says on it what it has. While it answers, the only thing it hears
is that the answer is no longer wanted; it looks for that before every frame.
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipelines.events import UserError
from pipelines.serve.uploads import to_png

MODELS = {
    "poke": "pipelines.serve.families.poke",
    "cinn": "pipelines.serve.families.cinn",
    "fomm": "pipelines.serve.families.fomm",
    "inbetween": "pipelines.serve.families.inbetween",
}
"""For each family the module whose `open_model(run_dir, device_name, warn)` gives a Model."""

KEPT_MODELS = 3


@dataclass(frozen=True)
class Answering:
    """An answer that begins. start, arrow: pictures, uint8 H W 3.  meta: goes into meta.json.

    frames: number of the video, number of the frame, and the frame, uint8 S S 3; lazily.
    box: left, top, width, height of the part of the picture that the model sees, in parts of it.
    """

    start: np.ndarray
    arrow: np.ndarray | None
    num_videos: int
    num_frames: int
    fps: float
    meta: dict[str, Any]
    frames: Iterator[tuple[int, int, np.ndarray]]
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


class Model(Protocol):
    """A trained model as the page asks it."""

    def warm_up(self) -> None:
        """Do once what makes a first answer slow."""
        ...

    def answer(self, question: dict[str, Any]) -> Answering:
        """Begin an answer; `question` is one of the classes in config.py, with paths for ids."""
        ...


class _Cancelled(Exception):
    """Nobody waits for this answer any more."""


def run(pipe: Connection, device: str) -> None:
    """Answer what comes through the pipe until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    models = _Models(device)
    while True:
        try:
            question = pipe.recv()
            if "cancel" not in question:  # one that came too late
                _answer(question, models, pipe)
        except (EOFError, OSError):
            return


def _answer(question: dict[str, Any], models: _Models, pipe: Connection) -> None:
    number = question["number"]

    def say(kind: str, **fields: Any) -> None:
        pipe.send({"number": number, "type": kind, **fields})

    try:
        model = models.get(Path(question["run"]), question["family"], lambda _: None)
        if question["kind"] == "warm":
            model.warm_up()
        else:
            _stream(model.answer(question), number, say, pipe)
        say("done")
    except _Cancelled:
        say("cancelled")
    except UserError as problem:
        say("error", message=problem.message, details=problem.details)
    except (EOFError, OSError) as problem:
        if pipe.closed:
            raise
        say("error", message="the model could not answer", details={"reason": str(problem)})
    except Exception as problem:
        traceback.print_exc()
        say("error", message="the model could not answer", details={"reason": _reason(problem)})
    finally:
        sys.stdout.flush()


def _stream(answering: Answering, number: int, say: Callable[..., None], pipe: Connection) -> None:
    height, width = answering.start.shape[:2]
    say(
        "start",
        start=to_png(answering.start),
        arrow=None if answering.arrow is None else to_png(answering.arrow),
        videos=answering.num_videos,
        frames=answering.num_frames,
        width=width,
        height=height,
        fps=answering.fps,
        box=answering.box,
        meta=answering.meta,
    )
    _heed(pipe, number)
    for video, index, frame in answering.frames:
        say("frame", video=video, index=index, png=to_png(frame))
        _heed(pipe, number)


def _heed(pipe: Connection, number: int) -> None:
    while pipe.poll():
        if pipe.recv().get("cancel") == number:
            raise _Cancelled


def _reason(problem: Exception) -> str:
    return traceback.format_exception_only(problem)[-1].strip().splitlines()[0]


class _Models:
    """The models that were asked last, kept in memory."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._open: OrderedDict[tuple[Path, str], Model] = OrderedDict()

    def get(self, run_dir: Path, family: str, warn: Callable[[str], None]) -> Model:
        """The model of a run, as its newest checkpoint has it."""
        newest = max(
            (each.parent.name for each in run_dir.glob("checkpoints/step-*/meta.json")), default=""
        )
        key = (run_dir, newest)
        if key not in self._open:
            while len(self._open) >= KEPT_MODELS:
                self._open.popitem(last=False)
            module = importlib.import_module(MODELS[family])
            self._open[key] = module.open_model(run_dir, self._device, warn)
        self._open.move_to_end(key)
        return self._open[key]
