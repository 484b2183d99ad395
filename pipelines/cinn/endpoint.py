"""Endpoint control: where an arm is to end up, in the data, in a request and in a picture.

A model is told an end position as three numbers in 0..1 (flow.endpoint_code). They come from a
per-frame array of the prepared data; a user gives them in the image, where the model knows how.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pipelines.cinn.config import FlowConfig, SampleRequest
from pipelines.clips.batches import ClipBatch, Reading, clip_batches, load_batch
from pipelines.clips.rules import Clip
from pipelines.clips.sampler import Plan
from pipelines.clips.training_data import TrainingData
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.io.images import contact_sheet
from pipelines.io.packed import PackedVideos

SIZE = 3
_MARK = np.array([255, 40, 200], np.uint8)
_SHEET_COLUMNS = 10
_CELL_PX = 128


# In the data


def require_endpoints(videos: PackedVideos, rows: Sequence[int], config: FlowConfig) -> None:
    """Raise UserError unless all these videos say where their arm is."""
    name = config.endpoint_array
    lacking = [row for row in rows if name not in videos.rows[row].extra]
    if lacking:
        raise UserError(
            f"{len(lacking)} of {len(rows)} videos have no array '{name}' that says where they end",
            {
                "data": videos.dir,
                "such as": videos.ids[lacking[0]],
                "to fix": "choose videos that have it with data.include, name another "
                "stage2.endpoint_array, or leave out stage2.is_controlled",
            },
            EXIT_NO_DATA,
        )


def clips_with_endpoints(
    data: TrainingData, config: FlowConfig, *, batch_size: int, first_batch: int
) -> Generator[dict[str, np.ndarray]]:
    """Endless batches: `frames`, uint8 B T H W C, and `endpoint`, float32 B 3 in 0..1."""
    batches = clip_batches(
        data.videos,
        data.sampler,
        batch_size=batch_size,
        first_batch=first_batch,
        reading=Reading(extras=(config.endpoint_array,)),
    )
    return _named(batches, config)


def endpoints_of(
    videos: PackedVideos, clips: Sequence[Clip], num_frames: int, config: FlowConfig
) -> Tensor:
    """Where clips end: float32 B 3."""
    reading = Reading(has_frames=False, extras=(config.endpoint_array,))
    batch = load_batch(videos, Plan(list(clips), num_frames), reading=reading)
    return torch.from_numpy(_last(batch, config))


def _named(batches: Generator[ClipBatch], config: FlowConfig) -> Generator[dict[str, np.ndarray]]:
    try:
        for batch in batches:
            assert batch.frames is not None
            yield {"frames": batch.frames, "endpoint": _last(batch, config)}
    finally:
        batches.close()


def _last(batch: ClipBatch, config: FlowConfig) -> np.ndarray:
    """The position at the clips' last frames; an axis that the data lacks is 0."""
    found = batch.extras[config.endpoint_array][:, -1].astype(np.float32)
    found = found.reshape(len(found), -1)[:, :SIZE]
    return np.pad(found, ((0, 0), (0, SIZE - found.shape[1])))


# In a request


def asked_endpoint(
    request: SampleRequest, config: FlowConfig, *, image_size: tuple[int, int]
) -> Tensor | None:
    """The endpoint of a request for one image, 1 3; None for a model without control.

    image_size: width and height of the image as it was given, in pixels.
    Raises UserError (exit code 2) when it is missing, superfluous, or lies outside the image.
    """
    if not config.is_controlled:
        if request.endpoint is not None:
            raise UserError(
                "this model cannot be told where to end",
                {
                    "run": request.run_dir,
                    "to fix": "leave out --endpoint, or train with stage2.is_controlled=true",
                },
                EXIT_USAGE,
            )
        return None
    if request.endpoint is None:
        raise UserError(
            "this model must be told where the arm shall end",
            {"run": request.run_dir, "to fix": f"add --endpoint {_form(config)}"},
            EXIT_USAGE,
        )
    values = request.endpoint
    if len(values) != (2 if config.endpoint_in_image else SIZE):
        raise UserError(
            f"an endpoint of {len(values)} numbers, this model takes {_form(config)}",
            {"run": request.run_dir, "to fix": f"give --endpoint {_form(config)}"},
            EXIT_USAGE,
        )
    if request.endpoint_unit == "px":
        values = _fractions(values, config, image_size)
    if not all(0 <= value <= 1 for value in values):
        raise _outside(request, "fractions go from 0 to 1")
    return torch.tensor([[*values, *[0.0] * (SIZE - len(values))]])


def _fractions(
    values: Sequence[float], config: FlowConfig, image_size: tuple[int, int]
) -> tuple[float, ...]:
    if not config.endpoint_in_image:
        raise UserError(
            "this model's endpoints are not places in the image",
            {"to fix": f"give fractions of the arm's reach: --endpoint {_form(config)}"},
            EXIT_USAGE,
        )
    for value, size, axis in zip(values, image_size, ("column", "row"), strict=True):
        if not 0 <= value < size:
            raise UserError(
                f"the endpoint's {axis} {value:g} lies outside the image",
                {
                    "image": f"{image_size[0]} x {image_size[1]} px",
                    "to fix": f"give a {axis} from 0 to {size - 1}, or a fraction such as 0.5",
                },
                EXIT_USAGE,
            )
    # a pixel is meant at its centre
    return tuple((value + 0.5) / size for value, size in zip(values, image_size, strict=True))


def _form(config: FlowConfig) -> str:
    return "x,y" if config.endpoint_in_image else "x,y,z"


def _outside(request: SampleRequest, reason: str) -> UserError:
    text = ",".join(f"{value:g}" for value in request.endpoint or ())
    return UserError(
        f"the endpoint {text} lies outside the image",
        {"to fix": f"{reason}; whole numbers are pixels of the image"},
        EXIT_USAGE,
    )


# In a picture


def last_frames_sheet(
    scenes: Sequence[tuple[str, np.ndarray, Sequence[np.ndarray], Tensor]],
    config: FlowConfig,
) -> np.ndarray:
    """Start frames and last frames of samples, the endpoint marked: uint8 H W 3.

    scenes: label, start frame and last frames (uint8 S S 3), endpoint 1 3.
    """
    rows: list[list[np.ndarray]] = []
    labels: list[str] = []
    for label, start, frames, endpoint in scenes:
        place = endpoint[0, :2].tolist() if config.endpoint_in_image else None
        pictures = [_marked(each, place) for each in (start, *frames)]
        for row in _rows_of(pictures):
            rows.append(row)
            labels.append(label)
    return contact_sheet(rows, labels)


def _rows_of(pictures: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    for first in range(0, len(pictures), _SHEET_COLUMNS):
        yield list(pictures[first : first + _SHEET_COLUMNS])


def _marked(frame: np.ndarray, place: Sequence[float] | None) -> np.ndarray:
    """A frame, enlarged, with a cross at a place (column and row as fractions)."""
    factor = max(1, _CELL_PX // len(frame))
    picture = frame.repeat(factor, 0).repeat(factor, 1)
    if place is None:
        return picture
    size, arm = len(picture), max(3, len(picture) // 16)
    column, row = (min(int(value * size), size - 1) for value in place)
    for shift in (-1, 0):
        across, down = np.clip(column + shift, 0, size - 1), np.clip(row + shift, 0, size - 1)
        picture[down, max(0, column - arm) : column + arm] = _MARK
        picture[max(0, row - arm) : row + arm, across] = _MARK
    return picture
