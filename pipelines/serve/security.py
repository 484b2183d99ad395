"""Who may ask: the checks that every request passes before anything else sees it.

A page of another site must not reach the server through the visitor's browser (Host, Origin,
Sec-Fetch-Site), and another program or person must not reach it at all without the token.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from pipelines.serve.config import Limits
from pipelines.serve.uploads import Refused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UPLOAD_PATHS = ("/api/pictures", "/api/clips")
"""Their bodies are read by their routes, into files."""

OPEN_API_PATH = "/api/openapi.json"
"""The description of the server holds no secret."""

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """Stands before an application and lets through what may pass."""

    def __init__(
        self,
        app: App,
        *,
        token: str,
        hosts: Iterable[str],
        limits: Limits,
        any_address: bool = False,
    ) -> None:
        """hosts: names and addresses of this machine that requests may be for.

        any_address: every literal address is this machine's; no name server can turn one around.
        """
        self._app, self._token, self._limits = app, token.encode(), limits
        self._hosts, self._any_address = frozenset(host.lower() for host in hosts), any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = _headers(scope)
            self._check_sender(scope, headers)
            _check_body_headers(scope, headers, self._limits)
            if scope["method"] == "POST" and scope["path"] not in UPLOAD_PATHS:
                receive = await self._with_body(receive)
        except Refused as refused:
            await _answer(refused, send)
            return
        await self._app(scope, receive, _with_headers(send))

    def _check_sender(self, scope: Scope, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Refused(421, "this server does not go by that name")
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"{scope['scheme']}://{host}".lower():
            raise Refused(403, "pages of other sites may not ask this server")
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise Refused(403, "pages of other sites may not ask this server")
        path = scope["path"]
        if not path.startswith("/api/") or path == OPEN_API_PATH:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        is_known = hmac.compare_digest(given.strip().encode(), self._token)
        if kind.lower() != "bearer" or not is_known:
            raise Refused(401, "open the page by the address that i2v serve has printed")

    def _is_ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name = parts.hostname or ""
            _ = parts.port
        except ValueError:
            return False
        if parts.username is not None or parts.path or parts.query or parts.fragment:
            return False
        return name in self._hosts or (self._any_address and _is_address(name))

    async def _with_body(self, receive: Receive) -> Receive:
        """Read a question's body, which is small, whole and in time; hand it on afterwards."""
        body = b""
        try:
            async with asyncio.timeout(self._limits.json_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the body ended early")
                    body += message.get("body", b"")
                    if len(body) > self._limits.json_bytes:
                        raise Refused(413, _too_long(self._limits.json_bytes))
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refused(408, "the body came too slowly") from None
        rest: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": body, "more_body": False}
        ]

        async def replay() -> MutableMapping[str, Any]:
            return rest.pop() if rest else await receive()

        return replay


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _headers(scope: Scope) -> dict[str, str]:
    """Those that are looked at; Refused (400) when one of them comes twice."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        if name in found and name in ("host", "origin", "authorization", "content-length"):
            raise Refused(400, f"two headers '{name}'")
        found[name] = raw_value.decode("latin-1")
    return found


def _check_body_headers(scope: Scope, headers: dict[str, str], limits: Limits) -> None:
    if headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "bodies are taken as they are, not compressed")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise Refused(400, "the length of the body is no number")
    most = {
        "/api/pictures": limits.image_bytes,
        "/api/clips": limits.clip_bytes,
    }.get(scope["path"], limits.json_bytes)
    if int(length) > most:
        raise Refused(413, _too_long(most))
    if scope["method"] != "POST" or scope["path"] in UPLOAD_PATHS:
        return
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "a question must be application/json")


def _too_long(most: int) -> str:
    return f"the body is too long: {most // 1024} kB are taken"


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await send(message)

    return sending


async def _answer(refused: Refused, send: Send) -> None:
    body = json.dumps({"error": {"message": refused.message, "details": {}}}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        # What is left of the body is not read.
        (b"connection", b"close"),
    ]
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    guarded = _with_headers(send)
    start = {"type": "http.response.start", "status": refused.status, "headers": headers}
    await guarded(start)
    await guarded({"type": "http.response.body", "body": body})
