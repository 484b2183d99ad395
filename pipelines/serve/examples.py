"""Pictures and clips that nobody has to send: generated ones that no model was trained on.

The simulator of a picture, where it has one, knows the true answer to an arrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.datasets.generate.kinds import KINDS
from pipelines.datasets.synthetic import FIRST_INDEX, generate, simulate
from pipelines.serve.config import Arrow
from pipelines.serve.runs import Facts
from pipelines.serve.uploads import Refused

NUM_EXAMPLES = 8
NUM_CLIPS = 4
CLIP_FRAMES = 24
CLIP_FPS = 10.0
_FIRST_CLIP = 8  # pictures are of other scenes than clips
_SMALLEST_PX, _LARGEST_PX, _MOST_FRAMES = 16, 512, 256
_PICTURE_ID = re.compile(r"([a-z_0-9]+)-(\d{1,3})-(\d{2,3})px(?:-after(\d{1,3}))?")
_CLIP_ID = re.compile(r"clip-([a-z_0-9]+)-(\d{1,3})-(\d{2,3})px")


@dataclass(frozen=True)
class Example:
    """A frame of clip `number` of the test split of a kind, size_px wide and high; 0: its first."""

    kind: str
    number: int
    size_px: int
    frame: int = 0

    @property
    def id(self) -> str:
        """Names it everywhere."""
        first = f"{self.kind}-{self.number}-{self.size_px}px"
        return f"{first}-after{self.frame}" if self.frame else first

    @property
    def name(self) -> str:
        """Names it for people."""
        later = f", {self.frame} frames later" if self.frame else ""
        return f"generated {_plain(self.kind)} {self.number + 1}{later}"

    @property
    def has_truth(self) -> bool:
        """Whether its simulator answers arrows."""
        return KINDS[self.kind].simulate is not None and self.frame == 0

    @property
    def index(self) -> int:
        """Of the clip in its kind."""
        return FIRST_INDEX["test"] + self.number


@dataclass(frozen=True)
class ExampleClip:
    """Clip `number` of the test split of a kind, size_px wide and high."""

    kind: str
    number: int
    size_px: int

    @property
    def id(self) -> str:
        """Names it everywhere."""
        return f"clip-{self.kind}-{self.number}-{self.size_px}px"

    @property
    def name(self) -> str:
        """Names it for people."""
        return f"generated {_plain(self.kind)} {self.number + 1}"


def offered(facts: Facts) -> list[Example]:
    """The generated pictures that fit a run: of the kinds it knows, at its size.

    A model that fills in between is offered pairs: a picture, then what it has become.
    """
    kinds = _kinds(facts)
    after = () if facts.end_after is None else (facts.end_after,)
    each = max(2, NUM_EXAMPLES // len(kinds) // (1 + len(after)))
    return [
        Example(kind, number, facts.size_px, frame)
        for kind in kinds
        for number in range(each)
        for frame in (0, *after)
    ]


def offered_clips(facts: Facts) -> list[ExampleClip]:
    """The generated clips whose motion a run can take."""
    kinds = _kinds(facts)
    each = max(1, NUM_CLIPS // len(kinds))
    numbers = range(_FIRST_CLIP, _FIRST_CLIP + each)
    return [ExampleClip(kind, number, facts.size_px) for kind in kinds for number in numbers]


def named(id_: str) -> Example | None:
    """The example of an id, None when no example has it."""
    parts = _PICTURE_ID.fullmatch(id_)
    if parts is None or not _can_be(parts[1], int(parts[3])) or int(parts[4] or 0) >= _MOST_FRAMES:
        return None
    example = Example(parts[1], int(parts[2]), int(parts[3]), int(parts[4] or 0))
    return example if example.id == id_ else None


def clip_named(id_: str) -> ExampleClip | None:
    """The generated clip of an id, None when none has it."""
    parts = _CLIP_ID.fullmatch(id_)
    if parts is None or not _can_be(parts[1], int(parts[3])):
        return None
    clip = ExampleClip(parts[1], int(parts[2]), int(parts[3]))
    return clip if clip.id == id_ else None


def draw(example: Example) -> np.ndarray:
    """The picture: uint8 S S 3."""
    clip = generate(
        example.kind,
        example.index,
        size_px=example.size_px,
        num_frames=example.frame + 2,
        with_truth=False,
    )
    return clip.frames[example.frame]


def film(clip: ExampleClip) -> np.ndarray:
    """The clip: uint8 T S S 3."""
    return generate(
        clip.kind,
        FIRST_INDEX["test"] + clip.number,
        size_px=clip.size_px,
        num_frames=CLIP_FRAMES,
        with_truth=False,
    ).frames


def true_answer(
    example: Example, arrow: Arrow, facts: Facts, num_frames: int
) -> Iterator[np.ndarray]:
    """What really happens, at the pace of a model's answer: frames uint8 S S 3.

    Raises Refused (422) where the kind has no simulator.
    """
    if not example.has_truth:
        raise Refused(422, f"a generated {example.kind} answers no arrows")
    size = example.size_px
    last = num_frames * facts.pace
    clip = simulate(
        example.kind,
        example.index,
        poke=tuple(size * each for each in (arrow.x, arrow.y, arrow.dx, arrow.dy)),  # type: ignore[arg-type]
        lag=facts.lag,
        size_px=size,
        num_frames=max(last, facts.lag) + 1,
        with_truth=False,
    )
    yield from clip.frames[facts.pace : last + 1 : facts.pace]


def _kinds(facts: Facts) -> list[str]:
    return [kind for kind in facts.kinds if kind in KINDS] or ["plant"]


def _can_be(kind: str, size_px: int) -> bool:
    return kind in KINDS and _SMALLEST_PX <= size_px <= _LARGEST_PX


def _plain(kind: str) -> str:
    return kind.replace("_", " ")
