"""HTML that is safe by construction: text is escaped unless it was made here."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Iterable["Child"]

_VOID = frozenset({"img", "input", "meta", "source", "br"})


def element(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """`<name ...>children</name>`; children and values of attributes are escaped.

    An attribute that is True stands alone, one that is False or None is left out. A trailing
    underscore is dropped and others become dashes: class_, aria_label.
    """
    opening = f"<{name}{''.join(_attribute(*each) for each in attributes.items())}>"
    if name in _VOID:
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Children one after the other."""
    return Html("".join(_render(each) for each in children))


def embedded_json(value: object, *, id_: str) -> Html:
    """A value for a script to read. Nothing in it can end the element or start a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{html.escape(id_)}">{text}</script>')


def _render(child: Child) -> str:
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return html.escape(child)
    return "".join(_render(each) for each in child)


def _attribute(name: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
