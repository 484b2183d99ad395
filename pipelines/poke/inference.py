"""From an image and a poke to a video: the arithmetic (spec: poke, 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pipelines.clips.frames import from_bytes as frames_from_bytes
from pipelines.clips.frames import normalise
from pipelines.io.fitting import Placement
from pipelines.poke.networks import PokeModel, Schedule, States, poke_strengths

_CROP_MULTIPLE_PX = 64
_FIXED_POINT = 2048  # of the weights in the published resize
_PICTURES_AT_ONCE = 5
"""Of a video, or of several: more gain nothing and take memory."""


def to_bytes(frames: Tensor) -> np.ndarray:
    """Frames as they are saved, not rounded: ... 3 H W in [-1, 1] to uint8 ... H W 3."""
    levels = ((frames.detach().float() + 1) * 127.5).clamp(0, 255)
    return levels.to(torch.uint8).movedim(-3, -1).contiguous().cpu().numpy()


def from_bytes(image: np.ndarray) -> Tensor:
    """A picture as the network takes it. uint8 ... H W 3 -> float32 ... 3 H W in [-1, 1]."""
    return normalise(frames_from_bytes(torch.from_numpy(np.array(image))))


@torch.inference_mode()
def answer(
    model: PokeModel, image: Tensor, poke: Tensor, num_frames: int, *, schedule: Schedule
) -> Iterator[Tensor]:
    """The frames of the video, B 3 S S each, as soon as each is made.

    image: B 3 S S in [-1, 1].  poke: B 2 S S, pixels.
    """
    code = model.encode_poke(poke, image)
    strengths = poke_strengths(schedule, num_frames)
    for states in model.moved(code, model.initial_states(image), strengths):
        yield model.draw(states)


@torch.inference_mode()
def answer_video(
    model: PokeModel, image: Tensor, poke: Tensor, num_frames: int, *, schedule: Schedule
) -> Tensor:
    """The whole video, B T 3 S S."""
    first = model.cells[0]
    drive = first.drive(model.encode_poke(poke, image))
    states = model.initial_states(image)
    strengths = poke_strengths(schedule, num_frames)
    num_steps = max(1, _PICTURES_AT_ONCE // len(image))
    parts = []
    for begin in range(0, num_frames, num_steps):
        levels = _moved_together(model, drive, states, strengths[begin : begin + num_steps])
        states = [level[-1] for level in levels]
        parts.append(model.draw([torch.cat(level) for level in levels]))
    return torch.cat(parts).unflatten(0, (num_frames, len(image))).transpose(0, 1).contiguous()


def _moved_together(
    model: PokeModel, drive: Tensor, states: States, strengths: Sequence[float]
) -> list[list[Tensor]]:
    """The states that `moved` gives, for each level those of all steps.

    drive: of the first cell.  A cell waits for its own state only: what goes into it is convolved
    for all steps at once.
    """
    drives = [drive if strength == 1 else strength * drive for strength in strengths]
    levels: list[list[Tensor]] = []
    for cell, state in zip(model.cells, states, strict=True):
        if levels:
            drives = list(cell.drive(torch.cat(levels[-1])).split(len(state)))
        level = []
        for each in drives:
            state = cell(each, state)
            level.append(state)
        levels.append(level)
    return levels


def published_placement(width: int, height: int, size_px: int) -> Placement:
    """As the published models were trained: cut to multiples of 64 px, top left, then squashed.

    A side shorter than that is left as it is.
    """
    kept_width, kept_height = (
        length // _CROP_MULTIPLE_PX * _CROP_MULTIPLE_PX or length for length in (width, height)
    )
    return Placement((0, 0, kept_width, kept_height), (size_px, size_px), (0, 0), size_px)


def prepare_published(image: np.ndarray, size_px: int) -> np.ndarray:
    """An image, uint8 H W 3, as the published models see it: uint8 S S 3."""
    _, _, width, height = published_placement(image.shape[1], image.shape[0], size_px).crop
    return bilinear_bytes(image[:height, :width], size_px)


def bilinear_bytes(image: np.ndarray, size_px: int) -> np.ndarray:
    """Bilinear resize of grey levels without antialiasing, in OpenCV's whole numbers.

    image: uint8 H W 3.  Returns uint8 S S 3.
    """
    top, bottom, up, down = _neighbours(image.shape[0], size_px)
    left, right, near, far = _neighbours(image.shape[1], size_px)
    levels = image.astype(np.int64)
    near, far = near[:, None], far[:, None]
    rows = levels[:, left] * near + levels[:, right] * far  # 11 bits of fraction
    rows >>= 4
    up, down = up[:, None, None], down[:, None, None]
    mixed = ((up * rows[top]) >> 16) + ((down * rows[bottom]) >> 16)
    return ((mixed + 2) >> 2).astype(np.uint8)


def _neighbours(length: int, size_px: int) -> tuple[np.ndarray, ...]:
    """For each new pixel the two old ones around it and their weights."""
    place = (np.arange(size_px) + 0.5) * (length / size_px) - 0.5
    first = np.floor(place)
    share = np.clip(place - first, 0, 1)
    share[first < 0] = 0
    low = np.clip(first, 0, length - 1).astype(np.int64)
    high = np.minimum(low + 1, length - 1)
    weight = np.rint(share * _FIXED_POINT).astype(np.int64)
    return low, high, _FIXED_POINT - weight, weight
