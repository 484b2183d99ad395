"""Published rules: how the code of a paper splits and resizes a dataset (base.Published)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from pipelines.datasets.base import Dataset, Published, RawVideo, Rejected
from pipelines.events import EXIT_USAGE, UserError
from pipelines.io.published_resize import opencv_grey, resize

OWN = "own"
"""The protocol of nobody: the user's own split."""


def dataset_module(kind: str) -> Dataset:
    """The module that knows a dataset. Raises UserError where there is none."""
    try:
        module: Dataset = importlib.import_module(f"pipelines.datasets.{kind}")  # type: ignore[assignment]
        module.layout, module.SPEC  # noqa: B018
    except (ModuleNotFoundError, AttributeError):
        raise UserError(
            f"no raw layout is known for '{kind}'",
            {"to fix": "give the folder that holds the videos"},
            EXIT_USAGE,
        ) from None
    return module


def rule_of(kind: str, protocol: str | None) -> Published | None:
    """The rule to follow; None for a dataset that nobody has published rules for.

    Raises UserError (exit code 2) when the dataset has no rule of that name.
    """
    published = dataset_module(kind).SPEC.published
    if protocol in (None, OWN):
        return next(iter(published.values()), None)
    if protocol not in published:
        known = {name: rule.about for name, rule in published.items()}
        raise UserError(
            f"'{kind}' has no protocol '{protocol}'",
            known | {OWN: "your own --split"},
            EXIT_USAGE,
        )
    return published[protocol]


def resize_rule_of(kind: str, protocol: str | None) -> Published:
    """The rule that `compat` follows. Raises UserError (exit code 2) when there is none."""
    rule = rule_of(kind, protocol)
    if rule is None or not rule.resize:
        known = dataset_module(kind).SPEC.published.items()
        names = [name for name, each in known if each.resize]
        remedy = f"--protocol {' or '.join(names)}" if names else "leave out --compat"
        raise UserError(
            f"no published resizing is known for '{kind}'"
            + (f" with protocol '{protocol}'" if protocol else ""),
            {"to fix": remedy},
            EXIT_USAGE,
        )
    return rule


def follow(
    found: Iterable[RawVideo | Rejected], kind: str, protocol: str | None
) -> Iterator[RawVideo | Rejected]:
    """The videos that belong to a protocol, with its splits.

    Raises UserError as rule_of does.
    """
    rule_of(kind, protocol)
    published = dataset_module(kind).SPEC.published
    name = next(iter(published), "") if protocol in (None, OWN) else str(protocol)
    for each in found:
        if isinstance(each, Rejected) or not each.splits:
            yield each
        elif name in each.splits:
            split = None if protocol == OWN else each.splits[name]
            if isinstance(split, tuple):
                yield replace(each, time_parts=split)
            else:
                yield replace(each, split=split)


def resized(frame: np.ndarray, size_px: int, *, rule: Published, grey: bool) -> np.ndarray:
    """A decoded frame, uint8 H W 3, as the published code hands it on: uint8 S S 3, or S S 1."""
    for step in rule.resize:
        frame = resize(frame, step.size_px or size_px, rule=step)
    if not grey:
        return np.ascontiguousarray(frame)
    return frame[..., :1].copy() if rule.grey == "first channel" else opencv_grey(frame)


def described(rule: Published) -> str:
    """The steps of a published resizing in words."""
    steps = (f"{each.filter} to {each.size_px or 'the size'}" for each in rule.resize)
    return f"as {rule.about}: {', '.join(steps)}"
