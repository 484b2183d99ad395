"""Choosing by name: the row of a registry table, or an error with the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from i2v_cli.console import bullet_list
from pipelines.events import EXIT_USAGE, UserError


class Row(Protocol):
    """A row of a registry table."""

    @property
    def is_built(self) -> bool:
        """Whether this version can do it."""


RowType = TypeVar("RowType", bound=Row)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like `name`, or None when none is like it."""
    lowered = {each.lower(): each for each in names}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def choose(kind: str, name: str, table: Mapping[str, RowType]) -> RowType:
    """The row of this name. UserError for a name that is unknown or not built in this version."""
    row = table.get(name)
    if row is not None and row.is_built:
        return row
    built = [each for each, value in table.items() if value.is_built]
    if row is not None:
        raise not_built(f"{kind} '{name}'", built)
    raise unknown(f"no {kind} '{name}'", name, built)


def unknown(message: str, name: str, names: Iterable[str]) -> UserError:
    """The error for a name that nobody has: the nearest one, and all there are."""
    names = list(names)
    details: dict[str, object] = {}
    if guess := nearest(name, names):
        details["did you mean"] = guess
    details["there are"] = bullet_list(names, limit=20) or "none yet"
    return UserError(message, details, EXIT_USAGE)


def not_built(what: str, built: Iterable[str]) -> UserError:
    """The error for something that is planned but not in this version."""
    return UserError(
        f"{what} is not built in this version", {"there are": bullet_list(built)}, EXIT_USAGE
    )
