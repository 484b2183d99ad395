"""Names that come from outside: members of archives and files that a server lists.

A name is taken apart and checked before anything is written under it, so that nothing can land
outside the folder it is meant for, on any common file system.
"""

from __future__ import annotations

import re
import unicodedata

MAX_PART_BYTES = 255
MAX_DEPTH = 40

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")


class NameRefused(Exception):
    """A name that must not be written; the text says why, to follow the name in a sentence."""


def safe_parts(name: str) -> tuple[str, ...]:
    """The folders and the last part of a relative name with '/' between them; () for the root.

    Raises NameRefused for names that are absolute, climb with '..', hold a drive letter, a
    backslash or a control character, or are longer than file systems allow.
    """
    if _CONTROL.search(name):
        raise NameRefused("holds a control character")
    if "\\" in name:
        raise NameRefused("holds a backslash")
    if name.startswith("/"):
        raise NameRefused("is absolute")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if len(parts) > MAX_DEPTH:
        raise NameRefused(f"is more than {MAX_DEPTH} folders deep")
    for part in parts:
        _check_part(part)
    return parts


def _check_part(part: str) -> None:
    if not part.strip(". "):
        # '..' leaves the folder; Windows drops dots and spaces at the end, so '.. ' does too.
        raise NameRefused("leaves the folder" if part.strip() == ".." else "is made of dots")
    if _DRIVE.match(part):
        raise NameRefused("holds a drive letter")
    try:
        length = len(part.encode("utf-8"))
    except UnicodeEncodeError:
        raise NameRefused("is not text") from None
    if length > MAX_PART_BYTES:
        raise NameRefused("is too long")


class NameRegistry:
    """Remembers names and refuses one that a file system could take for an earlier one.

    Two spellings are the same name when they differ only in upper and lower case or in how accents
    are encoded: on macOS and Windows the second would overwrite the first.
    Only hashes are kept, about 100 bytes per name.
    """

    def __init__(self) -> None:
        self._files: set[int] = set()
        self._folders: dict[int, int] = {}
        self._last_parent: tuple[str, ...] = ()

    def add_file(self, parts: tuple[str, ...]) -> None:
        """Note a file; raises NameRefused when its name is taken."""
        self.add_folder(parts[:-1])
        key = _folded(parts)
        if key in self._files:
            raise NameRefused("is there twice (upper and lower case count as the same)")
        if key in self._folders:
            raise NameRefused("is both a file and a folder")
        self._files.add(key)

    def add_folder(self, parts: tuple[str, ...]) -> None:
        """Note a folder and those above it; the same spelling may come again."""
        if parts == self._last_parent:
            return
        for depth in range(1, len(parts) + 1):
            key, exact = _folded(parts[:depth]), hash(parts[:depth])
            if key in self._files:
                raise NameRefused("is both a file and a folder")
            if self._folders.setdefault(key, exact) != exact:
                raise NameRefused("differs from another folder only in upper and lower case")
        self._last_parent = parts


def _folded(parts: tuple[str, ...]) -> int:
    return hash(unicodedata.normalize("NFC", "/".join(parts)).casefold())
