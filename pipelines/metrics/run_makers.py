"""How a run's own model makes videos of held-out clips, family by family.

A clip is uint8 T S S 3 at the model's size; its first frame, or first and last, are what the model
is given. Models that animate one image are measured on what follows it, those that fill in on what
lies between, and fomm on the clip made again from its first frame and its keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pipelines.inbetween.config import NUM_FRAMES as INBETWEEN_FRAMES
from pipelines.io.images import fit_image
from pipelines.training.generators import torch_generator

MOST_SAMPLES = 100
"""Of one clip: each has noise of its own number."""


class Draw(NamedTuple):
    """Which video is made: of which clip of the list, which of its samples, with what seed."""

    seed: int
    number: int
    sample: int

    @property
    def place(self) -> int:
        """A number that no other sample of the list has."""
        return self.number * MOST_SAMPLES + self.sample


@dataclass(frozen=True)
class Maker:
    """What a family does.

    about: in words, for protocols.  length: of a clip, from the config and the frames asked for.
    step: stored frames from one of its frames to the next.  picture: a stored frame, uint8 H W 3,
    as the model sees it.  make: the video of a clip, without what is given.  facts: what was poked.
    is_given_end: the last frame is given too.  draws: whether another draw is another video.
    """

    about: str
    length: Callable[[Any, int | None], int]
    step: Callable[[Any], int]
    picture: Callable[[Any, np.ndarray], np.ndarray]
    make: Callable[[Any, np.ndarray, Draw], np.ndarray]
    facts: Callable[[Any, np.ndarray, Draw], Mapping[str, Any]] = lambda *_: {}
    is_given_end: bool = False
    draws: Callable[[Any], bool] = lambda _: True

    def compared(self, clip: np.ndarray) -> np.ndarray:
        """The part of a real clip that a made one is measured against."""
        return clip[1:-1] if self.is_given_end else clip[1:]


def _cinn(sampler: Any, clip: np.ndarray, draw: Draw) -> np.ndarray:
    residual = sampler.residual(draw.seed, draw.number, draw.sample)
    return np.asarray(sampler.animate(sampler.start(clip[0]), residual, len(clip) - 1))


def _cinn_picture(sampler: Any, frame: np.ndarray) -> np.ndarray:
    from pipelines.cinn.preview import to_bytes

    return np.asarray(to_bytes(sampler.start(frame)[0]))


def _poke(sampler: Any, clip: np.ndarray, draw: Draw) -> np.ndarray:
    return np.asarray(sampler.answer(clip[0], _aims(sampler, clip[0], draw), len(clip) - 1))


def _poke_facts(sampler: Any, clip: np.ndarray, draw: Draw) -> dict[str, Any]:
    arrives = sampler.config.flow_lag // sampler.config.clips.frame_step
    return {
        "pokes": [aim.facts() for aim in _aims(sampler, clip[0], draw)],
        "arrives": arrives,
    }


def _aims(sampler: Any, start: np.ndarray, draw: Draw) -> Sequence[Any]:
    """Poked where something stands out; the direction is drawn."""
    import torch

    from pipelines.poke.aim import guessed_aims

    generator = torch_generator(draw.seed, "poke", draw.number, draw.sample)
    return guessed_aims(
        start,
        count=1,
        margin_px=sampler.config.poke.patch_px,
        length_px=sampler.size_px / 8,
        uniform=torch.rand((1, 2), generator=generator),
    )


def _between(sampler: Any, clip: np.ndarray, draw: Draw) -> np.ndarray:
    noise = sampler.noise(draw.seed, draw.place)
    return np.asarray(sampler.between(clip[0], clip[-1], noise)[1:-1])


def _moved(sampler: Any, clip: np.ndarray, draw: Draw) -> np.ndarray:
    noise = sampler.noise(draw.seed, draw.place, len(clip))
    return np.asarray(sampler.between(clip[0], clip[-1], noise)[1:-1])


def _squashed(sampler: Any, frame: np.ndarray) -> np.ndarray:
    size_px = sampler.config.size_px
    return np.asarray(fit_image(Image.fromarray(frame), size_px, fit="squash"))


def _with_start(num_frames: int, asked: int | None) -> int:
    return (asked or num_frames) + 1


MAKERS: Mapping[str, Maker] = {
    "cinn": Maker(
        "continued from its first frame",
        lambda config, asked: _with_start(config.stage1.num_frames, asked),
        lambda _: 1,
        _cinn_picture,
        _cinn,
    ),
    "poke": Maker(
        "continued from its first frame and a drawn poke",
        lambda config, asked: _with_start(config.clips.num_frames, asked),
        lambda config: config.clips.frame_step,
        lambda sampler, frame: np.asarray(sampler.picture(frame, "squash")),
        _poke,
        _poke_facts,
    ),
    "fomm": Maker(
        "made again from its first frame and each frame's keypoints",
        lambda config, asked: _with_start(config.validation_frames - 1, asked),
        lambda _: 1,
        lambda sampler, frame: np.asarray(sampler.picture(frame)),
        lambda sampler, clip, _: np.asarray(sampler.reconstruct(clip)),
        draws=lambda _: False,
    ),
    "inbetween": Maker(
        "filled in between its first and last frame",
        lambda *_: INBETWEEN_FRAMES,
        lambda config: config.frame_step,
        _squashed,
        _between,
        is_given_end=True,
    ),
    "motion": Maker(
        "filled in between its first and last frame",
        lambda config, asked: config.num_frames if asked is None else asked + 2,
        lambda config: config.frame_step,
        lambda sampler, frame: np.asarray(sampler.animator.picture(frame)),
        _moved,
        is_given_end=True,
        draws=lambda sampler: bool(sampler.model.draws_noise),
    ),
}
"""The families whose runs are measured without samples."""
