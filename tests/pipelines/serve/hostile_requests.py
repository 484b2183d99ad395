"""Requests that nobody sends who means well, and the status that each deserves."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from tests.pipelines.serve.asking import ARROW, TOKEN, Reply, Served, png_of

QUESTION = b'{"run":"first","image":"plant-0-32px","arrows":[{"x":0.5,"y":0.5,"dx":0.1,"dy":0}]}'
JSON: dict[str, str | None] = {"content-type": "application/json"}


@dataclass(frozen=True)
class Hostile:
    """A request and the status it deserves."""

    status: int
    headers: dict[str, str | None] = field(default_factory=dict)
    body: Any = None
    path: str = "/api/poke"
    method: str = "POST"

    def sent_to(self, served: Served) -> Reply:
        """What the server says to it."""
        is_question = isinstance(self.body, bytes) and self.path == "/api/poke"
        headers = JSON | self.headers if is_question else self.headers
        return served.send(self.method, self.path, self.body, headers=headers)


def arrows(**changes: object) -> dict[str, Any]:
    return {"run": "first", "image": "plant-0-32px", "arrows": [ARROW | changes]}


def raw(arrow: bytes) -> bytes:
    return b'{"run":"first","image":"plant-0-32px","arrows":[' + arrow + b"]}"


def huge_png(width: int, height: int) -> bytes:
    """A PNG that says it is that large and holds hardly anything."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def zipped_jpeg() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("run.js", "alert(1)")
    return png_of(kind="JPEG") + stream.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PICTURES, CLIPS = "/api/pictures", "/api/clips"

CASES = {
    # who asks
    "another site's name": Hostile(421, {"host": "evil.example"}, QUESTION),
    "a name that begins like ours": Hostile(421, {"host": "127.0.0.1.evil.example"}, QUESTION),
    "a name behind ours": Hostile(421, {"host": "127.0.0.1@evil.example"}, QUESTION),
    "no name": Hostile(421, {"host": ""}, QUESTION),
    "a name that is an address of the network": Hostile(421, {"host": "10.0.0.1"}, QUESTION),
    "a page of another site": Hostile(403, {"origin": "https://evil.example"}, QUESTION),
    "a page without a site": Hostile(403, {"origin": "null"}, QUESTION),
    "our site by another protocol": Hostile(403, {"origin": "https://127.0.0.1"}, QUESTION),
    "another port of this machine": Hostile(403, {"origin": "http://127.0.0.1:1"}, QUESTION),
    "an image tag of another site": Hostile(
        403, {"sec-fetch-site": "cross-site"}, path="/api/runs", method="GET"
    ),
    "no token": Hostile(401, {"authorization": None}, QUESTION),
    "a wrong token": Hostile(401, {"authorization": "Bearer wrong"}, QUESTION),
    "half a token": Hostile(401, {"authorization": f"Bearer {TOKEN[:-1]}"}, QUESTION),
    "a password": Hostile(401, {"authorization": f"Basic {TOKEN}"}, QUESTION),
    "a token in the address": Hostile(
        401, {"authorization": None}, path=f"/api/runs?token={TOKEN}", method="GET"
    ),
    "a token in a cookie": Hostile(
        401, {"authorization": None, "cookie": f"token={TOKEN}"}, QUESTION
    ),
    # how much
    "a question of 100 MB": Hostile(413, {**JSON, "content-length": "100000000"}, b"{"),
    "a picture of 100 MB": Hostile(413, {"content-length": "100000000"}, b"\x89PNG", PICTURES),
    "a clip of 10 GB": Hostile(413, {"content-length": "10000000000"}, b"\0\0", CLIPS),
    "a question that is longer than allowed": Hostile(413, JSON, b" " * 70_000),
    "50,000 x 50,000 pixels": Hostile(413, {}, huge_png(50_000, 50_000), PICTURES),
    "more pixels than allowed": Hostile(413, {}, huge_png(8_000, 8_000), PICTURES),
    # what
    "svg": Hostile(415, {}, SVG, PICTURES),
    "svg that says it is a png": Hostile(415, {"content-type": "image/png"}, SVG, PICTURES),
    "html": Hostile(415, {}, b"<!doctype html><script>alert(1)</script>", PICTURES),
    "a script that begins like a gif": Hostile(415, {}, b"GIF89a/*" + b" " * 90, PICTURES),
    "a png with a page behind it": Hostile(422, {}, png_of() + b"<html></html>", PICTURES),
    "a png with bytes behind it": Hostile(422, {}, png_of() + bytes(100), PICTURES),
    "a jpeg that is an archive": Hostile(422, {}, zipped_jpeg(), PICTURES),
    "half a jpeg": Hostile(422, {}, png_of(200, 200, "JPEG")[:4000], PICTURES),
    "half a png": Hostile(422, {}, png_of(200, 200)[:4000], PICTURES),
    "noise": Hostile(415, {}, bytes(range(1, 200)), PICTURES),
    "nothing": Hostile(422, {}, b"", PICTURES),
    "a compressed body": Hostile(415, {"content-encoding": "gzip"}, b"\x1f\x8b", PICTURES),
    "a playlist for a clip": Hostile(415, {}, b"#EXTM3U\nfile:///etc/passwd\n", CLIPS),
    "a picture for a clip": Hostile(415, {}, png_of(), CLIPS),
    "half a clip": Hostile(422, {}, b"\0\0\0\x18ftypmp42" + bytes(64), CLIPS),
    "plain text for a question": Hostile(415, {"content-type": "text/plain"}, QUESTION),
    "a form": Hostile(
        415, {"content-type": "application/x-www-form-urlencoded"}, b"run=first&image=x"
    ),
    "no json": Hostile(422, JSON, b"{run: first}"),
    "a list": Hostile(422, JSON, b"[]"),
    "json in json in json": Hostile(400, JSON, b"[" * 30_000),
    # sense
    "an arrow right of the picture": Hostile(422, {}, arrows(x=1.2)),
    "an arrow above the picture": Hostile(422, {}, arrows(y=-0.1)),
    "an arrow that is too long": Hostile(422, {}, arrows(dx=1.5, dy=1.5)),
    "an arrow of endless length": Hostile(422, JSON, raw(b'{"x":0.5,"y":0.5,"dx":1e999,"dy":0}')),
    "an arrow that is no number": Hostile(422, JSON, raw(b'{"x":NaN,"y":0.5,"dx":0,"dy":0}')),
    "an arrow in words": Hostile(422, {}, arrows(dx="far")),
    "no arrow": Hostile(422, {}, arrows() | {"arrows": []}),
    "17 arrows": Hostile(422, {}, arrows() | {"arrows": [ARROW] * 17}),
    "a million frames": Hostile(422, {}, arrows() | {"frames": 1_000_000}),
    "something that is not asked for": Hostile(422, {}, arrows() | {"run_dir": "/etc"}),
    "directions of several arrows": Hostile(
        422, {}, arrows() | {"arrows": [ARROW] * 2, "directions": 8}
    ),
    "an unknown run": Hostile(404, {}, arrows() | {"run": "other"}),
    "a run that is a path": Hostile(404, {}, arrows() | {"run": "../../etc"}),
    "an unknown picture": Hostile(404, {}, arrows() | {"image": "0123456789abcdef"}),
    "a picture that is a path": Hostile(404, {}, arrows() | {"image": "/etc/passwd"}),
    "a generated picture of any size": Hostile(404, {}, arrows() | {"image": "plant-0-999px"}),
    "what this model cannot do": Hostile(
        422, {}, {"run": "first", "image": "plant-0-32px"}, "/api/sample"
    ),
    "a clip that is a path": Hostile(
        404, {}, {"run": "first", "image": "plant-0-32px", "clip": "../run.json"}, "/api/transfer"
    ),
    "a generated picture of any time": Hostile(
        404, {}, arrows() | {"image": "plant-0-32px-after999"}
    ),
    "clips for what takes none": Hostile(422, path="/api/clips?run=first", method="GET"),
    "the film of no clip": Hostile(404, path="/api/clips/clip-plant-0-999px/film", method="GET"),
    "the truth about a cloud": Hostile(
        422, {}, {"run": "first", "image": "clouds-0-32px", "arrow": ARROW}, "/api/truth"
    ),
    "a file beside an answer": Hostile(
        404, path="/api/answers/abc/..%2f..%2fmeta.json", method="GET"
    ),
    "a file of another name": Hostile(422, path="/api/answers/abc/run.json", method="GET"),
    "an unknown answer": Hostile(404, path="/api/answers/abc/answer.mp4", method="GET"),
    "a file of the system": Hostile(404, path="/../../../etc/passwd", method="GET"),
    "a file of the program": Hostile(404, path="/../app.py", method="GET"),
    "another method": Hostile(405, method="DELETE"),
    "a question by GET": Hostile(405, method="GET"),
}
