"""Transfers that resume: one file from a server into its `.part`, until it is whole.

A transfer that stops goes on with `Range` and `If-Range`: 206 continues, 200 starts over (the file
has changed, or the server knows no ranges), 416 at the full size means that nothing is missing.
A web page is told from a file before a byte is written.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from pipelines.events import UserError
from pipelines.io.download import Fetched, Meter, PartFile, PartNote, Wanted, WrongContent
from pipelines.io.fetchers.web import Address, Page, Transient, Web, check_status, length_of
from pipelines.io.signatures import START_BYTES, is_page, misfit

_MAX_PAGE_BYTES = 64 << 10


def transfer(
    web: Web,
    wanted: Wanted,
    destination: Path,
    meter: Meter,
    *,
    address: Callable[[], Address],
    explain_page: Callable[[Page], Exception] | None = None,
) -> Fetched:
    """Get a file, going on from what an earlier run left. Raises UserError, Stopped.

    address: asked before each request, for servers whose links expire.
    explain_page: the error for a web page that came instead of the file.
    """
    part = PartFile(destination, wanted)
    moving = _Transfer(web, part, meter, address, explain_page or _page_instead(wanted))
    if not part.is_full:
        web.persist(moving.attempt, meter, url=wanted.url, received=lambda: part.size)
    try:
        return part.finish()
    except WrongContent as problem:
        problem.details["kept as"] = str(part.reject())
        raise


def _page_instead(wanted: Wanted) -> Callable[[Page], Exception]:
    """The error for a page when nothing is known about the server."""
    return lambda page: UserError(
        f"the server sent a web page instead of '{wanted.name}'",
        {
            "page says": page.title,
            "from": wanted.url,
            "to fix": "open the address in a browser; then --from-dir takes the file",
        },
    )


class _Transfer:
    """One file on its way from a server into its `.part`."""

    def __init__(
        self,
        web: Web,
        part: PartFile,
        meter: Meter,
        address: Callable[[], Address],
        explain_page: Callable[[Page], Exception],
    ) -> None:
        self.web = web
        self.part = part
        self.meter = meter
        self.address = address
        self.explain_page = explain_page

    def attempt(self) -> None:
        """Ask once for what is missing and write it. Raises Transient when some still is."""
        self.meter.done = self.part.size
        headers = self._range_headers()
        with self.web.open(self.address(), headers=headers) as response:
            if response.status_code == 416 and headers:
                if _total_of_416(response) == self.part.size:
                    return
                self.part.discard()
                raise Transient("the file has changed on the server")
            check_status(response)
            self._receive(response)

    def _range_headers(self) -> dict[str, str]:
        size, note = self.part.size, self.part.note
        if not size or note is None:
            return {}
        validator = note.etag or note.last_modified
        if not (validator or note.total or note.stamp):
            return {}  # nothing tells whether the server still has the same file
        headers = {"Range": f"bytes={size}-"}
        return headers | {"If-Range": validator} if validator else headers

    def _receive(self, response: httpx.Response) -> None:
        pieces = self._watched(response.iter_raw())
        if response.status_code == 206:
            total = self._check_range(response)
            first = b""
        else:
            total = length_of(response)
            first = self._check_start(response, pieces, total)
            total = self.part.wanted.size if total is None else total
            self.part.begin(_note(self.part.wanted, response, total))
        self.meter.total = total
        with self.part.path.open("ab", buffering=0) as stream:
            if first:
                stream.write(first)
            self.meter.done = stream.tell()
            for piece in pieces:
                stream.write(piece)
                self.meter.done += len(piece)
        if total is not None and self.part.size < total:
            raise Transient("the connection ended early")

    def _watched(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of a body as they come, as long as they come fast enough and are wanted."""
        policy = self.web.policy
        since, num_bytes = time.monotonic(), 0
        for piece in pieces:
            yield piece
            self.meter.received += len(piece)
            self.meter.check()
            num_bytes += len(piece)
            passed = time.monotonic() - since
            if passed >= policy.stall_window_s:
                if num_bytes / passed < policy.min_bytes_per_s:
                    speed = f"{num_bytes / passed:.0f} bytes per second"
                    raise Transient(f"the server sends only {speed}")
                since, num_bytes = time.monotonic(), 0

    def _check_range(self, response: httpx.Response) -> int | None:
        """The file's total size; the answer must continue exactly where the part ends."""
        found = re.fullmatch(
            r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip()
        )
        known = self.part.note.total if self.part.note else None
        total = int(found[3]) if found and found[3] != "*" else known
        if not found or int(found[1]) != self.part.size or known not in (None, total):
            self.part.discard()
            raise Transient("the server continued the file at the wrong place")
        return total

    def _check_start(
        self, response: httpx.Response, pieces: Iterator[bytes], total: int | None
    ) -> bytes:
        """The first bytes of the body, once they are seen to begin the wanted file."""
        wanted, first = self.part.wanted, b""
        kind = response.headers.get("Content-Type", "").lower()
        while len(first) < START_BYTES and (piece := next(pieces, b"")):
            first += piece
        if is_page(first) or (kind.startswith("text/html") and misfit(wanted.name, first)):
            page = first + b"".join(_at_most(pieces, _MAX_PAGE_BYTES))
            raise self.explain_page(Page(str(response.url), page.decode("utf-8", "replace")))
        if wanted.size is not None and total is not None and total != wanted.size:
            raise WrongContent(
                f"'{wanted.name}' has another size than the published file",
                {
                    "expected": f"{wanted.size} bytes",
                    "server says": f"{total} bytes",
                    "from": wanted.url,
                    "to fix": "get the file by hand, then give its folder with --from-dir",
                },
            )
        problem = misfit(wanted.name, first, kinds=wanted.kinds)
        if problem and (total is None or len(first) >= min(total, START_BYTES)):
            raise WrongContent(
                f"the server sent {problem} instead of '{wanted.name}'",
                {"from": wanted.url, "to fix": "try again later, or get the file by hand"},
            )
        return first


def _note(wanted: Wanted, response: httpx.Response, total: int | None) -> PartNote:
    etag = response.headers.get("ETag")
    return PartNote(
        url=wanted.url,
        stamp=wanted.stamp,
        etag=etag if etag and not etag.startswith("W/") else None,
        last_modified=_steady_date(response),
        total=total,
    )


def _steady_date(response: httpx.Response) -> str | None:
    """Last-Modified where it says something: some servers send the time of the request."""
    text = response.headers.get("Last-Modified")
    try:
        modified = email.utils.parsedate_to_datetime(text or "").timestamp()
        now = email.utils.parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except ValueError:
        return None
    return text if now - modified >= 1 else None


def _total_of_416(response: httpx.Response) -> int | None:
    found = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", "").strip())
    return int(found[1]) if found else None


def _at_most(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return
