"""Which videos drive which in the published animation of a whole test set (spec: completion, E)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError

_SEED = 0


def drawn_pairs(num_videos: int, num_pairs: int) -> list[tuple[int, int]]:
    """Numbers of a driving and a source video: the published draw, which is always the same one."""
    side = min(num_pairs, num_videos)
    # the published stream of random numbers, so that the pairs are the published ones
    draw = np.random.RandomState(_SEED)
    chosen = draw.choice(side * side, min(num_pairs, side * side), replace=False)
    return [divmod(int(number), side) for number in chosen]


def listed_pairs(path: Path, names: Sequence[str], num_pairs: int) -> list[tuple[int, int]]:
    """The first pairs of a csv whose videos are both there; as numbers, driving and source.

    The columns `source` and `driving` hold file names, with or without what they end in. Raises
    UserError when there are no such columns, or no pair is left.
    """
    places = {name: number for number, name in enumerate(names)}
    places = {PurePath(name).stem: number for name, number in places.items()} | places
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [(row["driving"], row["source"]) for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        details = {"file": path, "reason": error}
        raise UserError(f"cannot read the pairs '{path.name}'", details, EXIT_NO_DATA) from error
    except KeyError as error:
        raise UserError(
            f"'{path.name}' has no column {error}",
            {"file": path, "to fix": "give a csv with the columns source and driving"},
            EXIT_USAGE,
        ) from error
    found = [
        (places[driving], places[source])
        for driving, source in rows
        if driving in places and source in places
    ]
    if not found:
        raise UserError(
            f"no pair of '{path.name}' has both its videos",
            {"file": path, "videos": f"{len(names)}, such as {min(names, default='none')}"},
            EXIT_NO_DATA,
        )
    return found[:num_pairs]
