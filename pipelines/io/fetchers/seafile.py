"""Share links of Seafile servers, without an account: folders (/d/TOKEN/) and files (/f/TOKEN/).

A folder is listed and fetched file by file; the server's zip of a whole folder has no checksum and
cannot be resumed. The address of a file redirects to one that works once, so each request begins
at the lasting address again. The server's Last-Modified may be the time of the request; what says
which version a file has is the date in the folder's list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from pipelines.events import UserError
from pipelines.io.download import Fetched, Meter, Wanted
from pipelines.io.fetchers.transfer import transfer
from pipelines.io.fetchers.web import Address, GaveUp, Unreachable, Web, nothing_fits
from pipelines.io.names import NameRefused, safe_parts

MAX_ENTRIES = 20_000


class SeafileFetcher:
    """The files of a share link.

    url: https://HOST/d/TOKEN/ (with ?p=/folder to start below its root) or https://HOST/f/TOKEN/.
    include: patterns of relative names to take, all when empty.  into: folder put before the names.
    name, checksums, kinds: of the one file of an /f/ link.
    """

    max_parallel = 2

    def __init__(
        self,
        web: Web,
        url: str,
        *,
        include: Sequence[str] = (),
        into: str = "",
        name: str = "",
        checksums: tuple[str, ...] = (),
        kinds: tuple[str, ...] | None = None,
    ) -> None:
        parts = urlsplit(url)
        _, self._type, self._token, *_ = [*parts.path.split("/"), "", ""]
        if self._type not in ("d", "f") or not self._token:
            raise UserError("not the address of a Seafile share link", {"url": url})
        self.web = web
        self.url = url
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._start = parse_qs(parts.query).get("p", ["/"])[0]
        self._include = tuple(include)
        self._into = into
        self._file = (name, checksums, kinds)

    def list_files(self) -> list[Wanted]:
        """The files of the link, in the order of the server's lists."""
        if self._type == "f":
            name, checksums, kinds = self._file
            url = f"{self._base}/f/{self._token}/?dl=1"
            return [Wanted(self._into + name, url, checksums=checksums, kinds=kinds)]
        found: list[Wanted] = []
        names: list[str] = []
        for entry in self._walk():
            wanted = self._wanted(entry)
            names.append(wanted.name.removeprefix(self._into))
            if not self._include or any(fnmatch(names[-1], each) for each in self._include):
                found.append(wanted)
        if not found:
            raise nothing_fits(self.url, self._include, names)
        return found

    def measure(self, wanted: Wanted) -> Wanted:
        """The file as it is: the list holds all sizes."""
        return wanted

    def fetch(self, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
        """Get one file."""
        return transfer(self.web, wanted, destination, meter, address=lambda: Address(wanted.url))

    def _walk(self) -> Iterator[_Entry]:
        """All files below the start folder."""
        waiting, num_entries = [self._start.rstrip("/") + "/"], 0
        while waiting:
            num_entries += 1
            for entry in self._list_folder(waiting.pop(0)):
                num_entries += 1
                if num_entries > MAX_ENTRIES:
                    raise UserError("the share link holds too many files", {"url": self.url})
                if entry.is_folder:
                    waiting.append(entry.path.rstrip("/") + "/")
                else:
                    yield entry

    def _wanted(self, entry: _Entry) -> Wanted:
        below = entry.path.removeprefix(self._start.rstrip("/")).lstrip("/")
        try:
            relative = "/".join(safe_parts(below))
        except NameRefused as problem:
            raise UserError(
                f"the server lists a file whose name {problem}",
                {"name": ascii(below[:100]), "url": self.url, "to fix": "get the files by hand"},
            ) from problem
        return Wanted(
            name=self._into + relative,
            url=f"{self._base}/d/{self._token}/files/?p={quote(entry.path)}&dl=1",
            size=entry.size,
            stamp=entry.stamp or None,
        )

    def _list_folder(self, path: str) -> list[_Entry]:
        new = f"{self._base}/api/v2.1/share-links/{self._token}/dirents/?path={quote(path)}"
        old = f"{self._base}/api2/d/{self._token}/dir/?p={quote(path)}"
        try:
            try:
                return [_entry(row) for row in json.loads(self._ask(new))["dirent_list"]]
            except GaveUp:
                raise
            except Unreachable:
                return [_entry_of_old_server(path, row) for row in json.loads(self._ask(old))]
        except (ValueError, KeyError, TypeError) as problem:
            raise UserError(
                "the share link cannot be listed",
                {
                    "url": self.url,
                    "reason": "the server's answer is not a list of files",
                    "to fix": "open the link in a browser; it may have gone or need a password",
                },
            ) from problem

    def _ask(self, url: str) -> str:
        return self.web.text(Address(url)).text


@dataclass(frozen=True)
class _Entry:
    """A row of a folder's list. size: bytes.  stamp: when it was changed last."""

    path: str
    is_folder: bool
    size: int = 0
    stamp: str = ""


def _entry(row: dict[str, Any]) -> _Entry:
    if row["is_dir"]:
        return _Entry(str(row["folder_path"]), is_folder=True)
    stamp = str(row.get("last_modified") or "")
    return _Entry(str(row["file_path"]), is_folder=False, size=int(row["size"]), stamp=stamp)


def _entry_of_old_server(folder: str, row: dict[str, Any]) -> _Entry:
    """A row of the listing that servers had before version 7."""
    path = folder + str(row["name"])
    if row["type"] == "dir":
        return _Entry(path, is_folder=True)
    stamp = str(row.get("mtime") or "")
    return _Entry(path, is_folder=False, size=int(row["size"]), stamp=stamp)
