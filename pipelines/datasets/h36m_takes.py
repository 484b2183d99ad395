"""What Human3.6M calls its recordings: file prefix of every (subject, action, subaction).

A subject did each action twice; the files are named after the action, with or without a number, in
an order that differs from subject to subject. This is the dataset's own table (its metadata.xml).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SUBJECTS = (1, 5, 6, 7, 8, 9, 11)
SUBACTIONS = (1, 2)
CAMERAS = (54138969, 55011271, 58860488, 60457274)
FPS = 50.0

NATIVE_SIZE_PX = {
    54138969: (1000, 1002),
    55011271: (1000, 1000),
    58860488: (1000, 1000),
    60457274: (1000, 1002),
}
"""Width and height of each camera's videos, which its parameters are given for."""

TEST_SUBJECTS = (9, 11)

ACTION_NAMES = {
    **{2: "Directions", 3: "Discussion", 4: "Eating", 5: "Greeting", 6: "Phoning", 7: "Posing"},
    **{8: "Purchases", 9: "Sitting", 10: "SittingDown", 11: "Smoking", 12: "TakingPhoto"},
    **{13: "Waiting", 14: "Walking", 15: "WalkingDog", 16: "WalkingTogether"},
}

ACTION_SPLITS = {
    "default": ((2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 16), (8, 12, 13, 14)),
    "generalize_sitting": ((2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 16), (9, 8, 10)),
    "generalize_walking": ((2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 16), (14, 15, 16)),
}
"""Ids of the actions for training and test when people are not held out, as published: they
overlap, so such test figures are on actions (and people) that were trained on."""

FEW_ACTIONS = (5, 8, 10, 12, 14, 15, 16)
"""Ids of the actions that are left when not all of them are asked for."""


class Take(NamedTuple):
    """One recording by one camera."""

    subject: int
    action: int
    subaction: int
    camera: int

    @property
    def id(self) -> str:
        """As the behaviour model's folders are named: S1/Directions-1/54138969."""
        name = f"{ACTION_NAMES[self.action]}-{self.subaction}"
        return f"S{self.subject}/{name}/{self.camera}"

    @property
    def stem(self) -> str:
        """The name of its files without suffix: 'Directions 1.54138969'."""
        return f"{prefix(self.subject, self.action, self.subaction)}.{self.camera}"


def prefix(subject: int, action: int, subaction: int) -> str:
    """What a recording's files begin with, such as 'WalkDog 1'."""
    name = ACTION_NAMES[action]
    if subject != 1:
        name = _SHORTER.get(name, name)
    number = _NUMBERS[action, subaction][SUBJECTS.index(subject)]
    return name if number == "." else f"{name} {number}"


def takes_of(subject: int) -> Iterator[Take]:
    """All recordings of a subject, in the order of the table."""
    for action in ACTION_NAMES:
        for subaction in SUBACTIONS:
            for camera in CAMERAS:
                yield Take(subject, action, subaction, camera)


_SHORTER = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog", "WalkingTogether": "WalkTogether"}
"""Only the first subject's files have the long names."""

_NUMBERS = {
    (action, subaction): columns
    for action, both in {
        2: ("1111111", ".2....."),
        3: ("1211111", ".3...22"),
        4: ("2111111", "..2...."),
        5: ("1111112", ".2....."),
        6: ("1112113", "......2"),
        7: ("1121111", "......."),
        8: ("1111111", "......."),
        9: ("1111111", "2.2...."),
        10: ("2.1....", ".1.1111"),
        11: ("1111112", "......."),
        12: ("1...111", ".211..."),
        13: ("1131111", ".2.2..."),
        14: ("1111111", "...2..."),
        15: ("1111111", "......."),
        16: ("1111111", "....2.."),
    }.items()
    for subaction, columns in enumerate(both, 1)
}
"""The number behind the name for each of SUBJECTS, '.' where there is none."""
