"""A server with two tiny poke models, on a port of its own, in a thread of the test."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.poke.train import train
from pipelines.serve.api import Desk
from pipelines.serve.app import make_app, make_server
from pipelines.serve.config import Limits, ServeRequest
from pipelines.serve.engine import Engine
from pipelines.serve.session import Session
from tests.pipelines.poke import tiny

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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
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


@pytest.fixture(scope="session")
def runs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained runs, and folders that are none."""
    root = tmp_path_factory.mktemp("served")
    tiny.prepare_squares(root / "data")
    for name in ("first", "second"):
        train(tiny.request(root, run_dir=root / "runs" / name, max_steps=2), tiny.Heard())
    (root / "runs" / "no run").mkdir()
    (root / "runs" / "damaged").mkdir()
    (root / "runs" / "damaged" / "run.json").write_text("{")
    return root / "runs"


@pytest.fixture(scope="session")
def served(runs_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    session_dir = tmp_path_factory.mktemp("sessions") / "mine"
    request = ServeRequest(runs_root=runs_root, session_dir=session_dir, port=0, device="cpu")
    session = Session(session_dir, LIMITS)
    desk = Desk(request, session, Engine(LIMITS, "cpu"), LIMITS)
    app = make_app(desk, token=TOKEN)
    server = make_server(app, LIMITS)
    server.config.port = 0
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    found = Served(port, desk, session_dir)
    assert found.send("POST", "/api/warm", {"run": "first"}).lines[-1] == {"type": "done"}
    yield found
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
