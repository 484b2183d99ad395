"""Curves, pictures and videos of a training in TensorBoard or Weights & Biases.

Everything is drawn from the run's record, events.jsonl: what is shown there can be shown again from
the record alone, and nothing is shown that the record does not have.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from pipelines.events import EXIT_ENVIRONMENT, UserError
from pipelines.files import read_json, write_json
from pipelines.io.images import read_image
from pipelines.io.video import read_video, write_gif
from pipelines.schema import LogConfig
from pipelines.training import processes

RECORD_NAME, FOLDER_NAME = "events.jsonl", "tracking"
_POSITION_NAME = "position.json"
_VIDEO_FPS = 8.0

Event = Mapping[str, Any]


class Board(Protocol):
    """Somewhere to show things."""

    def scalars(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """Numbers of one step, by name."""
        ...

    def picture(self, name: str, path: Path, *, step: int, time: float) -> None:
        """A PNG."""
        ...

    def video(self, name: str, path: Path, *, step: int, time: float) -> None:
        """An mp4."""
        ...

    def close(self) -> None:
        """Write out what is still held back."""
        ...


class Tracker:
    """Follows a run's record and shows what is new on the boards that the settings name.

    How far it has come is kept in the run folder, so that a continued training repeats nothing.
    """

    def __init__(self, run_dir: Path, config: LogConfig) -> None:
        """Raises UserError when a board that is asked for cannot be had."""
        self._run_dir = run_dir
        self._position_path = run_dir / FOLDER_NAME / _POSITION_NAME
        self._boards: list[Board] = []
        self._offset, self._step = self._stored_position()
        if not processes.is_first():
            return
        if config.tensorboard:
            self._boards.append(TensorBoard(run_dir / FOLDER_NAME))
        if config.wandb:
            self._boards.append(WeightsAndBiases(run_dir, config.wandb_project))

    def draw(self) -> None:
        """Show what the record has gained since the last time."""
        if not self._boards:
            return
        for event in self._new_events():
            if event.get("event") == "metric":
                self._draw_metric(event)
            elif event.get("event") == "artifact":
                self._draw_artifact(event)
        position = {"bytes": self._offset, "step": self._step}
        self._position_path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._position_path, position)

    def close(self) -> None:
        """Show the rest and let the boards go."""
        self.draw()
        for board in self._boards:
            board.close()
        self._boards = []

    def _draw_metric(self, event: Event) -> None:
        self._step = int(event["step"])
        values = {
            _grouped(name): float(value)
            for name, value in event["values"].items()
            if value is not None
        }
        for board in self._boards:
            board.scalars(values, step=self._step, time=event["time"])

    def _draw_artifact(self, event: Event) -> None:
        path = Path(event["path"])
        if event.get("kind") != "grid" or not path.is_file():
            return
        name, place = path.parent.name, {"step": self._step, "time": event["time"]}
        for board in self._boards:
            if path.suffix == ".png":
                board.picture(name, path, **place)
            elif path.suffix == ".mp4":
                board.video(name, path, **place)

    def _new_events(self) -> Iterator[Event]:
        """Whole lines after the position; a line that is still being written waits."""
        path = self._run_dir / RECORD_NAME
        if not path.is_file():
            return
        if path.stat().st_size < self._offset:  # another record: the run was made anew
            self._offset = 0
        with path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                try:
                    yield json.loads(line)
                except json.JSONDecodeError:
                    continue

    def _stored_position(self) -> tuple[int, int]:
        try:
            stored = read_json(self._position_path)
            return int(stored["bytes"]), int(stored["step"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0


class TensorBoard:
    """Writes event files that `tensorboard --logdir RUNS` shows."""

    def __init__(self, folder: Path) -> None:
        writer = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._proto = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summary = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._writer = writer.EventFileWriter(str(folder))

    def scalars(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """See Board."""
        kind = self._summary.Summary.Value
        self._add(
            [kind(tag=name, simple_value=value) for name, value in values.items()], step, time
        )

    def picture(self, name: str, path: Path, *, step: int, time: float) -> None:
        """See Board."""
        height, width, _ = read_image(path).shape
        self._add_image(name, path.read_bytes(), (height, width), step, time)

    def video(self, name: str, path: Path, *, step: int, time: float) -> None:
        """See Board. Shown as a moving image: GIF is the one kind of video that it plays."""
        frames = read_video(path)
        with tempfile.TemporaryDirectory() as folder:
            write_gif(Path(folder) / "video.gif", frames, _VIDEO_FPS)
            data = (Path(folder) / "video.gif").read_bytes()
        self._add_image(f"{name} video", data, frames.shape[1:3], step, time)

    def close(self) -> None:
        """See Board."""
        self._writer.close()

    def _add_image(
        self, name: str, data: bytes, size: tuple[int, ...], step: int, time: float
    ) -> None:
        image = self._summary.Summary.Image(
            height=size[0], width=size[1], colorspace=3, encoded_image_string=data
        )
        self._add([self._summary.Summary.Value(tag=name, image=image)], step, time)

    def _add(self, values: list[Any], step: int, time: float) -> None:
        summary = self._summary.Summary(value=values)
        self._writer.add_event(self._proto.Event(wall_time=time, step=step, summary=summary))
        self._writer.flush()


class WeightsAndBiases:
    """Sends to Weights & Biases, under the account that its own settings name."""

    def __init__(self, run_dir: Path, project: str) -> None:
        try:
            self._wandb: Any = importlib.import_module("wandb")
        except ImportError as error:
            raise UserError(
                "log.wandb: the package 'wandb' is not in this environment",
                {
                    "environment": sys.prefix,
                    "to fix": f"install it there: {sys.executable} -m pip install wandb",
                    "or": "leave out log.wandb; TensorBoard's files are written anyway",
                },
                EXIT_ENVIRONMENT,
            ) from error
        self._run = self._wandb.init(
            project=project,
            name=run_dir.name,
            id=run_dir.name,
            resume="allow",
            dir=str(run_dir / FOLDER_NAME),
        )

    def scalars(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """See Board."""
        self._run.log(dict(values), step=step)

    def picture(self, name: str, path: Path, *, step: int, time: float) -> None:
        """See Board."""
        self._run.log({name: self._wandb.Image(str(path))}, step=step)

    def video(self, name: str, path: Path, *, step: int, time: float) -> None:
        """See Board."""
        self._run.log({f"{name} video": self._wandb.Video(str(path))}, step=step)

    def close(self) -> None:
        """See Board."""
        self._run.finish()


def _grouped(name: str) -> str:
    """Validation terms under 'validation', all others under 'training'."""
    if name.startswith("val_"):
        return f"validation/{name.removeprefix('val_')}"
    return f"training/{name}"
