"""Pictures that nobody has to send: first frames of generated clips no model was trained on.

Their simulator knows the true answer to an arrow.
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
_ID = re.compile(r"([a-z_0-9]+)-(\d{1,3})-(\d{2,3})px")


@dataclass(frozen=True)
class Example:
    """Clip `number` of the test split of a kind, size_px wide and high."""

    kind: str
    number: int
    size_px: int

    @property
    def id(self) -> str:
        """Names it everywhere."""
        return f"{self.kind}-{self.number}-{self.size_px}px"

    @property
    def name(self) -> str:
        """Names it for people."""
        return f"generated {self.kind.replace('_', ' ')} {self.number + 1}"

    @property
    def has_truth(self) -> bool:
        """Whether its simulator answers arrows."""
        return KINDS[self.kind].simulate is not None

    @property
    def index(self) -> int:
        """Of the clip in its kind."""
        return FIRST_INDEX["test"] + self.number


def offered(facts: Facts) -> list[Example]:
    """The generated pictures that fit a run: of the kinds it knows, at its size."""
    kinds = [kind for kind in facts.kinds if kind in KINDS] or ["plant"]
    each = max(2, NUM_EXAMPLES // len(kinds))
    return [Example(kind, number, facts.size_px) for kind in kinds for number in range(each)]


def named(id_: str) -> Example | None:
    """The example of an id, None when no example has it."""
    parts = _ID.fullmatch(id_)
    if parts is None or parts[1] not in KINDS or not 16 <= int(parts[3]) <= 512:
        return None
    example = Example(parts[1], int(parts[2]), int(parts[3]))
    return example if example.id == id_ else None


def draw(example: Example) -> np.ndarray:
    """The picture: uint8 S S 3."""
    clip = generate(
        example.kind,
        example.index,
        size_px=example.size_px,
        num_frames=2,
        with_truth=False,
    )
    return clip.frames[0]


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
