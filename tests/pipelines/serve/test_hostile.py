"""Requests that nobody sends who means well: each is refused, and the server goes on."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.pipelines.serve.asking import TOKEN, Served
from tests.pipelines.serve.hostile_requests import CASES, PICTURES, Hostile


@pytest.fixture(autouse=True)
def nothing_tells_the_token(
    served: Served, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """However a request ends, neither the log nor a file of the session has the token."""
    caplog.set_level(logging.DEBUG)
    yield
    printed = "".join(capfd.readouterr())
    kept = [path.read_bytes() for path in served.session_dir.rglob("*") if path.is_file()]
    assert TOKEN not in caplog.text and TOKEN not in printed
    assert not any(TOKEN.encode() in each for each in kept)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_is_refused_with_the_right_status(case: Hostile, served: Served) -> None:
    reply = case.sent_to(served)
    assert reply.status == case.status, reply.body
    assert reply.json["error"]["message"]
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert not list(served.session_dir.glob(".incoming-*/*"))


def exchange(served: Served, *parts: bytes, pause_s: float = 0.0, patience_s: float = 5.0) -> bytes:
    """Send bytes as they are, with pauses, and read what comes back until the end."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=patience_s) as peer:
        for part in parts:
            try:
                peer.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(pause_s)
        said = b""
        try:
            while chunk := peer.recv(65536):
                said += chunk
        except (TimeoutError, ConnectionResetError):
            pass
        return said


def head(served: Served, path: str = "/api/poke", *more: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{served.port}",
        f"Authorization: Bearer {TOKEN}",
        "Content-Type: application/json",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_body_that_trickles_in_is_given_up(served: Served) -> None:
    start = head(served, "/api/poke", "Content-Length: 5000")
    said = exchange(served, start, *[b" "] * 30, pause_s=0.05)
    assert said.startswith(b"HTTP/1.1 408 ")


def test_an_upload_that_trickles_in_is_given_up_and_leaves_no_file(served: Served) -> None:
    start = head(served, PICTURES, "Content-Length: 5000")
    said = exchange(served, start, *[b"\x89"] * 30, pause_s=0.05)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert not list(served.session_dir.glob(".incoming-*/*"))


def test_headers_that_never_end_are_given_up(served: Served) -> None:
    assert exchange(served, b"POST /api/poke HTTP/1.1\r\nHost: x\r\n", patience_s=4.0) == b""


def test_endless_headers_are_refused(served: Served) -> None:
    said = exchange(served, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000)
    assert said.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "more",
    [
        (f"Host: 127.0.0.1:{1}", "Content-Length: 2"),
        ("Content-Length: -1",),
        ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Length: 2", "Transfer-Encoding: chunked, identity"),
    ],
    ids=["two hosts", "a negative length", "two lengths", "an odd coding"],
)
def test_headers_that_contradict_each_other_are_refused(
    more: tuple[str, ...], served: Served
) -> None:
    said = exchange(served, head(served, "/api/poke", *more) + b"{}")
    assert said.split(b" ")[1] in (b"400", b"501")


def test_a_body_without_a_length_is_counted(served: Served) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    start = head(served, "/api/poke", "Transfer-Encoding: chunked")
    assert exchange(served, start, *[chunk] * 4).startswith(b"HTTP/1.1 413 ")
    start = head(served, PICTURES, "Transfer-Encoding: chunked")
    assert exchange(served, start, *[chunk] * 120).startswith(b"HTTP/1.1 413 ")


def test_of_200_questions_at_once_those_that_find_no_place_are_told_so(served: Served) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(served.poke(frames=16).status))
        for _ in range(200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(statuses) == {200, 429} and len(statuses) == 200
    assert statuses.count(200) >= 6


def test_the_server_is_still_there(served: Served) -> None:
    assert served.poke().lines[-1] == {"type": "done"}
