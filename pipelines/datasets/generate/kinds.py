"""The kinds of generated clips, by name, and the one way to get a clip of any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pipelines.datasets.generate import (
    arm,
    clouds,
    fire,
    moving_digits,
    plant,
    vegetation,
    walker,
    walker_3d,
    waterfall,
)
from pipelines.datasets.generate.scene import Clip, Scene
from pipelines.events import EXIT_USAGE, UserError

Poke = tuple[float, float, float, float]
"""Column and row of a pixel in frame 0, and how far what it shows shall move, pixels, x and y."""


class Simulator(Protocol):
    """Answers a poke: the clip in which it was tried to move a pixel's content as asked."""

    def __call__(self, scene: Scene, poke: Poke, *, lag: int, with_truth: bool = True) -> Clip:
        """The answer. lag: frames after which the poke's motion shall be reached."""
        ...


@dataclass(frozen=True)
class Kind:
    """A kind of clips. simulate: for those that answer pokes.

    id: part of every seed, never changes.  bytes_per_pixel: of a clip's file, per pixel and frame,
    measured at 64 and 128 px and rounded up.
    """

    id: int
    generate: Callable[..., Clip]
    about: str
    bytes_per_pixel: float
    simulate: Simulator | None = None


KINDS = {
    "fire": Kind(0, fire.generate, "flames", 0.9),
    "clouds": Kind(1, clouds.generate, "clouds over hills; wind direction and speed, flow", 2.3),
    "waterfall": Kind(2, waterfall.generate, "falling water; flow", 1.9),
    "vegetation": Kind(3, vegetation.generate, "grass in the wind; flow", 6),
    "plant": Kind(4, plant.generate, "a poked plant; pokes, flow", 5, plant.simulate),
    "arm": Kind(5, arm.generate, "a robot arm pushing discs; endpoint, flow", 2.5, arm.simulate),
    "walker": Kind(6, walker.generate, "a person walks, waves, boxes; joints, flow", 2.1),
    "moving_digits": Kind(7, moving_digits.generate, "two bouncing digits; flow", 1.1),
    "walker_3d": Kind(
        8, walker_3d.generate, "the person in space from two cameras; joints, flow", 2
    ),
}


def kind_named(name: str) -> Kind:
    """The kind of that name. Raises UserError (exit code 2) for another."""
    if name not in KINDS:
        raise UserError(
            f"no kind of generated clips is called '{name}'",
            {"to fix": f"choose from {', '.join(KINDS)}"},
            EXIT_USAGE,
        )
    return KINDS[name]
