"""How the joints of each dataset make a person: lines, body, and the parts that are cut out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Line = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """A part of a person. joints: four for the body; right and left shoulder and head for the head;
    two for a limb."""

    kind: Literal["body", "head", "limb"]
    joints: tuple[int, ...]


@dataclass(frozen=True)
class Skeleton:
    """Numbers of joints.

    body: corners of the filled body.  right, left, head, face: lines.  neck: right shoulder, left
    shoulder and head where there are no head lines.  parts: what is cut out, in published order.
    """

    num_joints: int
    body: tuple[int, ...]
    right: tuple[Line, ...]
    left: tuple[Line, ...]
    head: tuple[Line, ...] = ()
    face: tuple[Line, ...] = ()
    neck: tuple[int, int, int] | None = None
    parts: tuple[Part, ...] = ()


def _parts(
    body: tuple[int, ...], head: tuple[int, int, int], limbs: tuple[Line, ...]
) -> tuple[Part, ...]:
    return (Part("body", body), Part("head", head), *(Part("limb", limb) for limb in limbs))


SKELETONS = {
    "human36m": Skeleton(
        num_joints=17,
        body=(0, 14, 8, 11, 3),
        right=((0, 1), (1, 2), (0, 14), (14, 15), (15, 16)),
        left=((3, 4), (4, 5), (3, 11), (11, 12), (12, 13)),
        head=((8, 9), (9, 10)),
    ),
    "deepfashion": Skeleton(
        num_joints=18,
        body=(8, 2, 5, 11),
        right=((10, 9), (9, 8), (2, 3), (3, 4)),
        left=((13, 12), (12, 11), (5, 6), (6, 7)),
        face=((0, 14), (0, 15), (14, 16), (15, 17)),
        neck=(2, 5, 0),
        parts=_parts(
            (8, 2, 5, 11),
            (2, 5, 0),
            ((2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (11, 12), (12, 13)),
        ),
    ),
    "market": Skeleton(
        num_joints=18,
        body=(8, 9, 3, 2),
        right=((0, 1), (1, 2), (6, 7), (7, 8)),
        left=((3, 4), (4, 5), (9, 10), (10, 11)),
        face=((13, 14), (13, 15), (14, 16), (15, 17)),
        neck=(8, 9, 13),
        parts=_parts(
            (8, 9, 3, 2),
            (8, 9, 13),
            ((0, 1), (1, 2), (6, 7), (7, 8), (3, 4), (4, 5), (9, 10), (10, 11)),
        ),
    ),
    # the joints that all generated people have in common; not published
    "generated": Skeleton(
        num_joints=11,
        body=(),
        right=((0, 4), (4, 6), (1, 8), (8, 10)),
        left=((0, 3), (3, 5), (1, 7), (7, 9)),
        head=((0, 1), (1, 2)),
    ),
}

BY_JOINTS = {
    "joints_h36m": "human36m",
    "joints_deepfashion": "deepfashion",
    "joints_market": "market",
    "joints": "generated",
}
"""Name of a per-frame array of joints -> the skeleton that it is of."""
