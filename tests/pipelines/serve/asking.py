"""Ask a server that runs in this process as any other program would: over HTTP."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.serve.api import Desk
from pipelines.serve.app import make_app, make_server
from pipelines.serve.config import Limits, ServeRequest
from pipelines.serve.engine import Engine
from pipelines.serve.session import Session

TOKEN = "a-token-that-must-not-be-seen-anywhere"
LIMITS = Limits(
    image_bytes=3_000_000, clip_bytes=3_000_000, json_s=0.5, upload_s=1.0, header_s=0.5, waiting=6
)
ARROW = {"x": 0.5, "y": 0.5, "dx": 0.1, "dy": 0.0}


@dataclass(frozen=True)
class Reply:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The body of an answer."""
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass(frozen=True)
class Served:
    """A running server. session_dir: where it keeps things."""

    port: int
    desk: Desk
    session_dir: Path
    own: Mapping[str, str] = field(default_factory=lambda: {"authorization": f"Bearer {TOKEN}"})

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str | None] | None = None,
    ) -> Reply:
        """One request with the token. headers: others; None leaves one of our own out."""
        sent: dict[str, str | None] = {"host": f"127.0.0.1:{self.port}", **self.own}
        if isinstance(body, dict):
            body, sent["content-type"] = json.dumps(body).encode(), "application/json"
        sent |= headers or {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if body is not None and "content-length" not in sent:
                sent["content-length"] = str(len(body))
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders()
            # It may be refused before all of it is read.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send(body or b"")
            reply = connection.getresponse()
            return Reply(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()

    def poke(self, **changes: Any) -> Reply:
        """Ask the first model."""
        question = {"run": "first", "image": "plant-0-32px", "arrows": [ARROW]}
        return self.send("POST", "/api/poke", question | changes)

    def upload(self, body: bytes, path: str = "/api/pictures", name: str = "mine.png") -> Reply:
        """Send a file."""
        return self.send("POST", path, body, headers={"x-name": name})


@contextmanager
def served_runs(runs_root: Path, session_dir: Path, *, limits: Limits = LIMITS) -> Iterator[Served]:
    """A server of all runs in a folder, on a port of its own, in a thread of this process."""
    request = ServeRequest(runs_root=runs_root, session_dir=session_dir, port=0, device="cpu")
    session = Session(session_dir, limits)
    desk = Desk(request, session, Engine(limits, "cpu"), limits)
    server = make_server(make_app(desk, token=TOKEN), limits)
    server.config.port = 0
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
            if not thread.is_alive():
                raise RuntimeError("the server has not started")
        yield Served(server.servers[0].sockets[0].getsockname()[1], desk, session_dir)
    finally:
        server.should_exit = True
        thread.join(10)
        session.close()


def png_of(width: int = 40, height: int = 30, kind: str = "PNG") -> bytes:
    """A picture of noise as a file."""
    draw = np.random.Generator(np.random.PCG64(width * height))
    pixels = draw.integers(0, 255, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind)
    return stream.getvalue()


def picture_in(png: bytes) -> np.ndarray:
    """Its pixels, uint8 H W 3."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def frames_of(lines: list[dict[str, Any]], video: int = 0) -> np.ndarray:
    """The frames of one video of an answer, uint8 T H W 3."""
    found = [each for each in lines if each["type"] == "frame" and each["video"] == video]
    assert [each["index"] for each in found] == list(range(len(found)))
    return np.stack([picture_in(base64.b64decode(each["png"])) for each in found])
