"""A real web server on loopback for tests: files with Range and If-Range, and every way to fail."""

from __future__ import annotations

import email.utils
import hashlib
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

PIECE = 16 << 10


@dataclass
class Fault:
    """How one answer goes wrong. What is None goes right.

    cut_after: close after so many bytes of the body.  status, headers: instead of the true ones.
    ignores_range: answer 200 with the whole file.  page: an HTML body.  announced: a wrong
    Content-Length.  drip_s: wait between pieces of one byte.  wrong_range: continue elsewhere.
    """

    cut_after: int | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    ignores_range: bool = False
    page: str | None = None
    announced: int | None = None
    drip_s: float | None = None
    wrong_range: bool = False
    location: str | None = None


@dataclass
class Served:
    """A file that the server has. Validators that are None are not sent."""

    data: bytes
    etag: str | None = None
    last_modified: str | None = None
    type: str = "application/octet-stream"
    disposition: str | None = None
    knows_ranges: bool = True


@dataclass(frozen=True)
class Request:
    """What a client asked. path: decoded, without the query."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


Answer = Served | Fault | tuple[Served, Fault] | None
Handler = Callable[[Request], Answer]


class Host:
    """The server. files and faults by path; handlers by the beginning of a path."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.handlers: dict[str, Handler] = {}
        self.requests: list[Request] = []
        self.body_bytes = 0
        self.piece_delay_s = 0.0
        self.url = ""

    def add(self, path: str, data: bytes, **fields: Any) -> str:
        """Serve data at a path, with a strong validator unless told otherwise; returns its URL."""
        fields.setdefault("etag", f'"{hashlib.sha256(data).hexdigest()[:12]}"')
        self.files[path] = Served(data, **fields)
        return self.url + path

    def paths(self, method: str = "GET") -> list[str]:
        """What was asked for, in order."""
        return [request.path for request in self.requests if request.method == method]

    def answer(self, request: Request) -> tuple[Served | None, Fault]:
        """What to send, and how it goes wrong."""
        self.requests.append(request)
        found: Answer = self.files.get(request.path)
        for beginning, handler in self.handlers.items():
            if request.path.startswith(beginning):
                found = handler(request)
        if isinstance(found, Fault):
            return None, found
        if isinstance(found, tuple):
            return found
        if request.method == "GET" and self.faults.get(request.path):
            return found, self.faults[request.path].pop(0)
        return found, self.always.get(request.path, Fault())


@contextmanager
def without_proxies() -> Iterator[None]:
    """An environment in which no proxy takes a request away from loopback."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


@contextmanager
def serving(host: Host | None = None) -> Iterator[Host]:
    """A running server."""
    host = host or Host()
    bound = type("Bound", (_Handler,), {"served_host": host})

    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served_host: Host

    def setup(self) -> None:
        # Little may be on its way, so that what was sent is what a client has got.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * PIECE)
        super().setup()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        headers = {key.lower(): value for key, value in self.headers.items()}
        request = Request(self.command, unquote(parts.path), query, headers)
        served, fault = self.served_host.answer(request)
        if fault.page is not None:
            served = Served(fault.page.encode(), type="text/html; charset=utf-8")
        if fault.location is not None:
            self._head(fault.status or 302, 0, {"Location": fault.location})
        elif fault.status is not None and fault.status not in (200, 206):
            self._send(b"", fault.status, {}, fault)
        elif served is None:
            self._send(b"", 404, {}, fault)
        else:
            self._send_file(served, fault, headers)

    do_HEAD = do_GET

    def _send_file(self, served: Served, fault: Fault, headers: dict[str, str]) -> None:
        extra = {"Content-Type": served.type, "ETag": served.etag}
        extra |= {"Last-Modified": served.last_modified, "Content-Disposition": served.disposition}
        start = self._range_start(served, fault, headers)
        total = len(served.data)
        if start is None:
            self._send(served.data, 200, extra, fault)
        elif start >= total:
            self._send(b"", 416, {"Content-Range": f"bytes */{total}"}, fault)
        else:
            shown = start + 5 if fault.wrong_range else start
            extra["Content-Range"] = f"bytes {shown}-{total - 1}/{total}"
            self._send(served.data[start:], 206, extra, fault)

    def _range_start(self, served: Served, fault: Fault, headers: dict[str, str]) -> int | None:
        found = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if not found or fault.ignores_range or not served.knows_ranges:
            return None
        condition = headers.get("if-range")
        if condition and condition not in (served.etag, served.last_modified):
            return None
        return int(found[1])

    def _head(self, status: int, length: int | None, headers: Mapping[str, str | None]) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()

    def _send(
        self, body: bytes, status: int, headers: Mapping[str, str | None], fault: Fault
    ) -> None:
        length = len(body) if fault.announced is None else fault.announced
        self._head(status, length, {**headers, **fault.headers})
        if self.command == "HEAD":
            return
        if fault.cut_after is not None:
            body = body[: fault.cut_after]
        step = 1 if fault.drip_s else PIECE
        for at in range(0, len(body), step):
            piece = body[at : at + step]
            try:
                self.wfile.write(piece)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
                return
            self.served_host.body_bytes += len(piece)
            time.sleep(fault.drip_s or self.served_host.piece_delay_s)
        if fault.cut_after is not None or fault.announced is not None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)

    def log_message(self, format: str, *args: object) -> None:
        """Tests print nothing."""


def steady_date() -> str:
    """A Last-Modified of long ago."""
    return email.utils.formatdate(1_500_000_000, usegmt=True)


class SeafileHost:
    """Plays a Seafile server: the lists of a share link, and addresses that work once."""

    def __init__(
        self, host: Host, files: dict[str, bytes], *, token: str = "abc", old: bool = False
    ) -> None:
        self.host = host
        self.files = files
        self.token = token
        self.tickets: dict[str, str] = {}
        self._numbers = itertools.count()
        self.stamps = dict.fromkeys(files, "2021-06-01T10:00:00+02:00")
        self.url = f"{host.url}/d/{token}/"
        if old:
            host.handlers[f"/api2/d/{token}/dir/"] = self._list_old
        else:
            host.handlers[f"/api/v2.1/share-links/{token}/dirents/"] = self._list
        host.handlers[f"/d/{token}/files/"] = self._ticket
        host.handlers[f"/f/{token}/"] = self._file_link
        host.handlers["/seafhttp/files/"] = self._content

    def _children(self, folder: str) -> tuple[set[str], set[str]]:
        below = [path.removeprefix(folder) for path in self.files if path.startswith(folder)]
        return {p.split("/")[0] for p in below if "/" in p}, {p for p in below if "/" not in p}

    def _list(self, request: Request) -> Served:
        folder = request.query["path"].rstrip("/") + "/"
        folders, files = self._children(folder)
        rows: list[dict[str, Any]] = [
            {"is_dir": True, "folder_name": name, "folder_path": f"{folder}{name}/", "size": 0}
            for name in sorted(folders)
        ]
        for name in sorted(files):
            path = folder + name
            rows.append(
                {
                    "is_dir": False,
                    "file_name": name,
                    "file_path": path,
                    "size": len(self.files[path]),
                    "last_modified": self.stamps[path],
                }
            )
        return Served(json.dumps({"dirent_list": rows}).encode(), type="application/json")

    def _list_old(self, request: Request) -> Served:
        folder = request.query["p"].rstrip("/") + "/"
        folders, files = self._children(folder)
        rows: list[dict[str, Any]] = [{"type": "dir", "name": name} for name in sorted(folders)]
        rows += [
            {
                "type": "file",
                "name": name,
                "size": len(self.files[folder + name]),
                "mtime": 1600000000,
            }
            for name in sorted(files)
        ]
        return Served(json.dumps(rows).encode(), type="application/json")

    def _ticket(self, request: Request) -> Fault:
        if request.query["p"] not in self.files:
            return Fault(status=404)
        return self._redirect(request.query["p"])

    def _file_link(self, request: Request) -> Fault:
        return self._redirect(next(iter(self.files)))

    def _redirect(self, path: str) -> Fault:
        ticket = f"{next(self._numbers):08d}"
        self.tickets[ticket] = path
        name = path.rpartition("/")[2]
        return Fault(location=f"{self.host.url}/seafhttp/files/{ticket}/{name}")

    def _content(self, request: Request) -> Answer:
        path = self.tickets.pop(request.path.split("/")[3], None)
        if path is None:
            return Fault(status=403)
        # As older servers do: the time of the request as the date of the file.
        served = Served(self.files[path], last_modified=email.utils.formatdate(usegmt=True))
        faults = self.host.faults.get(path)
        return (served, faults.pop(0)) if faults else served


class DriveHost:
    """Plays Google Drive: a page before large files, the list of a folder, the quota page."""

    QUOTA = (
        "<html><head><title>Google Drive - Quota exceeded</title></head><body>"
        '<p class="uc-error-caption">Sorry, you cannot download this file at this time.</p>\n'
        '<p class="uc-error-subcaption">Too many users have viewed or downloaded this file'
        " recently. Please try accessing the file again later.</p></body></html>"
    )

    def __init__(self, host: Host) -> None:
        self.host = host
        self.small: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}
        self.over_quota: set[str] = set()
        self.folders: dict[str, list[tuple[str, str, bool]]] = {}
        self.cuts: list[int] = []
        host.handlers["/uc"] = self._uc
        host.handlers["/download"] = self._download
        host.handlers["/embeddedfolderview"] = self._folder

    def _uc(self, request: Request) -> Served | Fault:
        file_id = request.query["id"]
        if file_id in self.over_quota:
            return Fault(page=self.QUOTA)
        if file_id in self.small:
            return self._bytes(self.small[file_id])
        if file_id not in self.large:
            return Fault(status=404)
        return Fault(
            page="<html><head><title>Google Drive - Virus scan warning</title></head><body>"
            f'<form id="download-form" action="{self.host.url}/download" method="get">'
            f'<input type="hidden" name="id" value="{file_id}">'
            '<input type="hidden" name="export" value="download">'
            '<input type="hidden" name="confirm" value="t">'
            '<input type="hidden" name="uuid" value="11-22"></form></body></html>'
        )

    def _download(self, request: Request) -> Served | Fault:
        if request.query.get("confirm") != "t" or request.query.get("uuid") != "11-22":
            return Fault(page="<html><title>Sign in</title></html>")
        if request.query["id"] in self.over_quota:
            return Fault(page=self.QUOTA)
        return self._bytes(self.large[request.query["id"]])

    def _bytes(self, data: bytes) -> Served:
        return Served(
            data,
            etag=f'"{hashlib.sha256(data).hexdigest()[:12]}"',
            disposition='attachment; filename="x.zip"',
        )

    def _folder(self, request: Request) -> Served:
        rows = self.folders[request.query["id"]]
        links = "".join(
            f'<a href="https://drive.google.com/drive/folders/{file_id}">{name}</a>'
            if is_folder
            else f'<a href="https://drive.google.com/file/d/{file_id}/view?usp=drive_web">{name}</a>'
            for name, file_id, is_folder in rows
        )
        names = {file_id: name for each in self.folders.values() for name, file_id, _ in each}
        title = names.get(request.query["id"], "models")
        page = f"<html><head><title>{title}</title></head><body>{links}</body></html>"
        return Served(page.encode(), type="text/html; charset=utf-8")


class SessionHost:
    """Plays the Human3.6M file browser: the cookie of a session, which may end at any time."""

    PATH = "/human3.6m/filebrowser.php"

    def __init__(self, host: Host, files: dict[tuple[str, str], bytes], *, session: str) -> None:
        self.host = host
        self.files = files
        self.session: str | None = session
        self.ends_after: int | None = None
        self.circles = False
        self.url = host.url + self.PATH
        host.handlers[self.PATH] = self._browse
        host.handlers["/human3.6m/login.php"] = self._login

    def _browse(self, request: Request) -> Served | Fault:
        if request.headers.get("cookie") != f"PHPSESSID={self.session}":
            where = self.PATH if self.circles else "/human3.6m/login.php"
            return Fault(location=self.host.url + where)
        if "download" not in request.query:
            return Served(b"<html><title>Files</title></html>", type="text/html")
        data = self.files.get((request.query["filepath"], request.query["filename"]))
        if data is None:
            return Fault(status=404)
        if self.ends_after is not None:
            self.ends_after -= 1
            if self.ends_after < 0:
                self.session = None
        return Served(data, last_modified=steady_date(), type="application/x-gzip")

    def _login(self, request: Request) -> Served:
        return Served(b"<html><title>Please log in</title></html>", type="text/html")


def file_names(folder: Path) -> list[str]:
    """What lies in a folder, in order: a failed transfer leaves nothing half behind."""
    return sorted(path.name for path in folder.iterdir())
