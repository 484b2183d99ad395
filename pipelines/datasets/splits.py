"""Which videos are for training, validation and test, where the dataset itself does not say."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np


def group_of(video_id: str, own_group: str, regex: str | None) -> str:
    """The group of a video: what the regex's one group finds in its id, else its own group."""
    found = re.search(regex, video_id) if regex else None
    if found and found[1]:
        return str(found[1])
    return video_id if regex else own_group


def assign(
    items: Sequence[tuple[str, str]], parts: tuple[float, float, float], *, seed: int
) -> Mapping[str, str]:
    """item -> train, val or test, drawn at random by groups.

    items: (name, group); all of one group get one split.  parts: train, val, test, of the groups.
    test gets its part rounded up, then val; train gets the rest and is never empty. The order of
    the draw is that of scikit-learn's train_test_split, so that 0.8, 0, 0.2 with seed 0 is the
    split of the first order motion model's folders, up to the order in which it lists them.
    """
    groups = list(dict.fromkeys(group for _, group in items))
    total = len(groups)
    num_test = min(_rounded_up(parts[2] * total), total - 1)
    num_val = min(_rounded_up(parts[1] * total), total - 1 - num_test)
    # The old generator on purpose: its numbers are the ones of that published split.
    order = np.random.RandomState(seed).permutation(total)
    split_of = {group: "train" for group in groups}
    split_of |= {groups[number]: "test" for number in order[:num_test]}
    split_of |= {groups[number]: "val" for number in order[num_test : num_test + num_val]}
    return {name: split_of[group] for name, group in items}


def _rounded_up(value: float) -> int:
    return math.ceil(value - 1e-9)
