"""All printing: results to standard output, everything else to standard error.

Standard output carries only what a script would read (a path, a table, JSON). Colour appears only
on a terminal and never with NO_COLOR. Light: standard library only, so that an error costs no
import.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from pipelines.events import EXIT_DONE, EXIT_INTERRUPTED, UserError

RED, YELLOW, GREEN, CYAN, BOLD, DIM = "31", "33", "32", "36", "1", "2"


@dataclass
class Settings:
    """How much to say, and in which form; set once from the command line."""

    is_verbose: bool = False
    is_quiet: bool = False
    is_json: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings; the first column names the row."""

    headings: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Outcome:
    """What a command came to: app.py prints it and ends with its exit code.

    result: for --json.  lines, table: for standard output.  notes: for standard error.
    next_command: the next sensible thing to type.
    """

    result: Mapping[str, object] = field(default_factory=dict)
    lines: Sequence[str] = ()
    table: Table | None = None
    notes: Sequence[str] = ()
    next_command: str | None = None
    exit_code: int = EXIT_DONE


settings = Settings()


def configure(*, verbose: bool = False, quiet: bool = False, as_json: bool = False) -> None:
    """Set how much is said; called once, before anything is printed."""
    settings.is_verbose, settings.is_quiet, settings.is_json = verbose, quiet, as_json


def say(text: str, *styles: str) -> None:
    """Say something about the work, on standard error; --quiet leaves it out."""
    if not settings.is_quiet:
        _write(sys.stderr, paint(clean(text), *styles, stream=sys.stderr))


def warn(text: str) -> None:
    """Say something the user should know although the work goes on."""
    if not settings.is_quiet:
        _write(sys.stderr, f"{paint('warning:', YELLOW, stream=sys.stderr)} {clean(text)}")


def show_error(problem: UserError) -> None:
    """Print what happened, where, and what to do, on standard error, whatever --quiet says."""
    first, *lines = error_lines(problem)
    kind, _, text = first.partition(" ")
    colour = YELLOW if problem.exit_code == EXIT_INTERRUPTED else RED
    _write(sys.stderr, f"{paint(kind, colour, BOLD, stream=sys.stderr)} {text}")
    for line in lines:
        _write(sys.stderr, line)


def error_lines(problem: UserError) -> list[str]:
    """The lines of an error: one that says what happened, then aligned labels and texts.

    A label that is empty gives a line of its own; a text of several lines goes under its label.
    """
    kind = "stopped:" if problem.exit_code == EXIT_INTERRUPTED else "error:"
    lines = [f"{kind} {clean(problem.message)}"]
    width = max((len(label) for label in problem.details if label), default=0)
    for label, text in problem.details.items():
        first, *rest = clean(text, keep_lines=True).split("\n")
        if not label:
            lines.append(f"  {first}")
            lines += [f"  {line}" for line in rest]
        elif rest:
            lines.append(f"  {clean(label)}")
            lines += [f"    {line}" for line in (first, *rest)]
        else:
            lines.append(f"  {clean(label).ljust(width)}   {first}".rstrip())
    return lines


def show_outcome(outcome: Outcome, verb: str) -> None:
    """Print a result: JSON, or its lines and table, then what to type next."""
    if settings.is_json:
        print_envelope(verb, outcome.exit_code, outcome.result, None, outcome.next_command)
        return
    for note in outcome.notes:
        say(note)
    for line in outcome.lines:
        _write(sys.stdout, clean(line))
    if outcome.table:
        for line in table_lines(outcome.table, stream=sys.stdout):
            _write(sys.stdout, line)
    if outcome.next_command:
        _say_next(outcome.next_command)


def _say_next(command: str) -> None:
    if not settings.is_quiet:
        _write(sys.stderr, f"{paint('next:', DIM, stream=sys.stderr)} {clean(command)}")


def print_envelope(
    verb: str | None,
    exit_code: int,
    result: Mapping[str, object],
    problem: UserError | None,
    next_command: str | None = None,
) -> None:
    """Print the one JSON object that --json promises."""
    status = {EXIT_DONE: "done", EXIT_INTERRUPTED: "interrupted"}.get(exit_code, "failed")
    envelope = {
        "version": 1,
        "verb": verb,
        "status": status,
        "exit_code": exit_code,
        "result": dict(result),
        "error": {"message": problem.message, "details": problem.details} if problem else None,
        "next": next_command,
    }
    _write(sys.stdout, json.dumps(envelope, indent=2, default=str))


def table_lines(table: Table, stream: TextIO) -> list[str]:
    """A table as aligned lines, never cut; numbers stand to the right."""
    rows = [[clean(str(cell)) for cell in row] for row in table.rows]
    columns = list(zip(table.headings, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    to_right = [bool(rows) and all(_is_number(cell) for cell in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, to_right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return [paint(line(table.headings), BOLD, stream=stream), *(line(row) for row in rows)]


def paint(text: str, *styles: str, stream: TextIO) -> str:
    """The text in a colour, where the stream shows colours."""
    if not styles or not is_colourful(stream):
        return text
    return f"\x1b[{';'.join(styles)}m{text}\x1b[0m"


def is_colourful(stream: TextIO) -> bool:
    """Whether colour belongs on this stream: a terminal that can, and no NO_COLOR."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is looking at this stream."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def short(path: Path) -> str:
    """A path as a person would type it here: relative when it lies under the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def clean(text: str, *, keep_lines: bool = False) -> str:
    """The text with control characters made visible, so that no file name can move the cursor."""
    kept = "\n" if keep_lines else ""
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in text
    )


def strip_styles(text: str) -> str:
    """The text without colour codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def ask(question: str) -> bool:
    """Ask yes or no on the terminal; anything but yes, or no terminal at all, is no."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def bullet_list(items: Iterable[str], *, limit: int = 12) -> str:
    """Names in one line, the tail of a long list counted."""
    names = list(items)
    if len(names) <= limit:
        return ", ".join(names)
    return ", ".join(names[:limit]) + f" and {len(names) - limit} more"


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?\s?(%|[kMGT]?B|s)?|-|", cell))


def _write(stream: TextIO, line: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()
