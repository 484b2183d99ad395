"""Help texts: one sentence, an example, then what can be given, under the headings of its options.

Typer parses; this page is drawn here because Typer's own costs half a second of imports.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from i2v_cli.console import BOLD, CYAN, paint

WIDEST = 100
EVERYWHERE_PANEL = "Everywhere"
_NAME_COLUMN_MOST = 30
_LAST_PANELS = ("Settings", "Run", EVERYWHERE_PANEL)
"""Headings that are the same for every verb; they come after its own, in this order."""


@dataclass(frozen=True)
class Entry:
    """One line of a help page: a name as typed, and what it does."""

    name: str
    about: str


def page(usage: str, doc: str, panels: Sequence[tuple[str, Sequence[Entry]]]) -> str:
    """A whole help page as text, coloured where standard output is a terminal.

    doc: paragraphs; a line that starts with 'i2v ' is an example and stays as it is.
    """
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    blocks = [f"{_paint('Usage:', BOLD)} {usage}", *_paragraphs(doc, width)]
    names = [entry.name for _, entries in panels for entry in entries]
    column = min(max(map(len, names), default=0), _NAME_COLUMN_MOST)
    for title, entries in panels:
        lines = [line for entry in entries for line in _entry_lines(entry, column, width)]
        blocks.append("\n".join([_paint(title, BOLD), *lines]))
    return "\n\n".join(blocks)


def command_panels(params: Iterable[Any], help_names: str) -> list[tuple[str, list[Entry]]]:
    """A command's arguments and options under their headings, in the order they were declared."""
    panels: dict[str, list[Entry]] = {}
    for param in params:
        if not param.hidden and param.name != "help":
            title = param.rich_help_panel or _default_panel(param)
            panels.setdefault(title, []).append(Entry(_name(param), _about(param)))
    panels.setdefault(EVERYWHERE_PANEL, []).append(Entry(help_names, "show this page"))
    return sorted(panels.items(), key=lambda panel: _position(panel[0]))


def _position(title: str) -> int:
    return _LAST_PANELS.index(title) if title in _LAST_PANELS else -1


def usage_line(path: str, params: Iterable[Any], *, is_group: bool = False) -> str:
    """How a command is typed: its path, its arguments, and that it takes options."""
    arguments = [param for param in params if param.param_type_name == "argument"]
    parts = [path, *(_metavar(argument) for argument in arguments)]
    parts += ["COMMAND ..."] if is_group else ["[OPTIONS]"]
    return " ".join(parts)


def _default_panel(param: Any) -> str:
    return "Arguments" if param.param_type_name == "argument" else "Options"


def _metavar(param: Any) -> str:
    name = param.metavar or param.name.upper().replace("_", "-")
    return name if param.required or name.startswith("[") else f"[{name}]"


def _name(param: Any) -> str:
    if param.param_type_name == "argument":
        return _metavar(param)
    names = ", ".join([*param.opts, *param.secondary_opts])
    if param.is_flag:
        return names
    return f"{names} {param.metavar or param.name.upper()}"


def _about(param: Any) -> str:
    parts = [param.help or ""]
    if param.show_default and param.default not in (None, False, (), []):
        parts.append(f"[default: {param.default}]")
    if param.required and param.param_type_name == "option":
        parts.append("[required]")
    return " ".join(part for part in parts if part)


def _paragraphs(doc: str, width: int) -> list[str]:
    blocks = []
    for paragraph in doc.strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.split("\n")]
        if any(line.startswith("i2v ") for line in lines):
            blocks.append("\n".join(_paint(f"  {line}", CYAN) for line in lines))
        else:
            blocks.append(textwrap.fill(" ".join(lines), width))
    return blocks


def _entry_lines(entry: Entry, column: int, width: int) -> list[str]:
    indent = column + 5
    about = textwrap.wrap(entry.about, max(20, width - indent)) or [""]
    name = _paint(f"  {entry.name.ljust(column)}", CYAN)
    lines = [f"{name}   {about[0]}".rstrip()]
    if len(entry.name) > column:
        lines = [name, f"{'':{indent}}{about[0]}"]
    return lines + [f"{'':{indent}}{line}" for line in about[1:]]


def _paint(text: str, style: str) -> str:
    return paint(text, style, stream=sys.stdout)
