"""Requests over HTTPS: redirects that stay encrypted, retries that wait, errors with a remedy."""

from __future__ import annotations

import email.utils
import html
import ipaddress
import random
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx

from pipelines.events import UserError
from pipelines.io.download import Meter

Result = TypeVar("Result")

_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_BODY_BYTES = 32 << 20
_ENOUGH_BYTES = 1 << 20
_SILENT_ATTEMPTS = 3
USER_AGENT = "Mozilla/5.0 (compatible; i2v dataset download)"


@dataclass(frozen=True)
class Policy:
    """How patient to be. Seconds, bytes per second, counts."""

    connect_timeout_s: float = 20.0
    read_timeout_s: float = 60.0
    attempts: int = 6
    first_delay_s: float = 1.0
    max_delay_s: float = 60.0
    max_wait_s: float = 600.0
    max_redirects: int = 10
    min_bytes_per_s: float = 100.0
    stall_window_s: float = 60.0


@dataclass(frozen=True)
class Address:
    """Where to ask. headers go to the host of `url` only; user_agent goes along with redirects.

    plain_http: http instead of https is accepted, because the file's SHA-256 is known.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    plain_http: bool = False
    user_agent: str = USER_AGENT


@dataclass(frozen=True)
class Page:
    """A web page that came instead of a file."""

    url: str
    text: str

    @property
    def title(self) -> str:
        """Its title, or the beginning of its text."""
        found = re.search(r"<title[^>]*>(.*?)</title>", self.text, re.I | re.S)
        words = found[1] if found else re.sub(r"<[^>]*>", " ", self.text)
        return " ".join(html.unescape(words).split())[:120]


class Transient(Exception):
    """Something that another try may cure.

    retry_after_s: what the server asked for.  is_silent: there is no server that answers.
    """

    def __init__(
        self, message: str, retry_after_s: float | None = None, *, is_silent: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.is_silent = is_silent


class Unreachable(UserError):
    """The server does not answer, or does not have the file; another address may."""


class GaveUp(Unreachable):
    """The server failed each of many tries."""


class TooManyRedirects(UserError):
    """The server sends its visitors in circles."""


class Web:
    """An HTTP client for all fetchers; may be used by several threads at a time."""

    def __init__(self, policy: Policy | None = None, *, cookies: CookieJar | None = None) -> None:
        self.policy = policy or Policy()
        self.client = httpx.Client(
            follow_redirects=False,
            timeout=httpx.Timeout(
                self.policy.read_timeout_s, connect=self.policy.connect_timeout_s
            ),
            headers={"Accept-Encoding": "identity"},
            cookies=cookies,
        )

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *problem: object) -> None:
        self.client.close()

    @contextmanager
    def open(
        self, address: Address, *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """An answer, redirects followed, its body not read yet. Raises Transient, UserError."""
        url, came_from = address.url, None
        for _ in range(self.policy.max_redirects + 1):
            check_address(url, came_from=came_from, plain_http=address.plain_http)
            sent = {"User-Agent": address.user_agent, **(headers or {})}
            if _origin(url) == _origin(address.url):
                sent |= address.headers
            request = self.client.build_request(method, url, headers=sent)
            with _problems_named(url):
                response = self.client.send(request, stream=True)
                try:
                    if response.status_code not in _REDIRECTS:
                        yield response
                        return
                    came_from, url = url, urljoin(url, response.headers.get("Location", ""))
                finally:
                    response.close()
        raise TooManyRedirects(
            f"the server redirects more than {self.policy.max_redirects} times",
            {"url": address.url, "last": url, "to fix": "try again later, or get the file by hand"},
        )

    def text(self, address: Address, meter: Meter | None = None) -> httpx.Response:
        """A small answer (a page, a listing), read whole, with retries. Raises UserError."""

        def ask() -> httpx.Response:
            with self.open(address) as response:
                check_status(response)
                body = b""
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > _MAX_BODY_BYTES:
                        raise UserError("the server's answer is too long", {"url": address.url})
                return httpx.Response(
                    response.status_code,
                    headers={"Content-Type": response.headers.get("Content-Type", "")},
                    content=body,
                    request=response.request,
                )

        return self.persist(ask, meter or Meter(), url=address.url)

    def size_of(self, address: Address) -> int | None:
        """The size that the server announces for a file; None when it does not.

        Raises Unreachable when it says that there is no such file.
        """
        try:
            with self.open(address, method="HEAD") as response:
                if response.status_code in (404, 410):
                    check_status(response)
                return length_of(response) if response.status_code == 200 else None
        except Transient:
            return None

    def persist(
        self,
        attempt: Callable[[], Result],
        meter: Meter,
        *,
        url: str,
        received: Callable[[], int] = lambda: 0,
    ) -> Result:
        """Call `attempt` until it gives a result; wait longer each time it raises Transient.

        Failures count only while nothing comes: each time `received` has grown by 1 MB or by 1 %
        of the meter's total, the count starts anew.
        """
        failures, received_then = 0, received()
        while True:
            meter.check()
            try:
                return attempt()
            except Transient as problem:
                enough = min(_ENOUGH_BYTES, max(1, (meter.total or sys.maxsize) // 100))
                if received() - received_then >= enough:
                    failures, received_then = 0, received()
                failures += 1
                allowed = _SILENT_ATTEMPTS if problem.is_silent else self.policy.attempts
                if failures >= min(allowed, self.policy.attempts):
                    raise _gave_up(problem, url, failures) from problem
                meter.pause(self._delay(problem, failures, url))

    def _delay(self, problem: Transient, failures: int, url: str) -> float:
        if problem.retry_after_s is not None:
            if problem.retry_after_s > self.policy.max_wait_s:
                minutes = problem.retry_after_s / 60
                raise Unreachable(
                    f"the server asks to come back in {minutes:.0f} minutes",
                    {"url": url, "to fix": "run the same command again then; it goes on from here"},
                ) from problem
            return problem.retry_after_s
        longest = min(self.policy.max_delay_s, self.policy.first_delay_s * 2 ** (failures - 1))
        return longest * random.uniform(0.5, 1.0)


def nothing_fits(url: str, include: Sequence[str], names: Sequence[str]) -> UserError:
    """The error for a shared folder in which none of the wanted files are."""
    return UserError(
        "the shared folder holds none of the wanted files",
        {
            "wanted": ", ".join(include) or "any",
            "it holds": ", ".join(names[:10]) or "nothing",
            "url": url,
            "to fix": "get the files by hand, then give their folder with --from-dir",
        },
    )


def check_address(url: str, *, came_from: str | None, plain_http: bool) -> None:
    """Refuse what is not https.

    Two exceptions: loopback addresses written as numbers (nothing leaves the machine), but never
    as the target of a redirect from elsewhere, and files whose SHA-256 is known (`plain_http`).
    """
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname:
        if _is_loopback(parts.hostname):
            if came_from is None or _is_loopback(urlsplit(came_from).hostname or ""):
                return
        elif plain_http:
            return
    raise UserError(
        "refusing to download over a connection that is not encrypted",
        {"url": url, "redirected from": came_from or "-", "to fix": "use an https address"},
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_status(response: httpx.Response) -> None:
    """Sort out an answer's status: fine, worth another try (Transient), or final (Unreachable)."""
    status = response.status_code
    if status < 400:
        return
    if status in _RETRIED:
        words = f"the server answers {status} {response.reason_phrase}"
        raise Transient(words, _retry_after(response))
    details = {"url": response.url.copy_with(query=None)}
    if status in (401, 403):
        raise Unreachable(
            f"the server does not give the file out ({status} {response.reason_phrase})",
            details | {"to fix": "open the address in a browser; then --from-dir takes the file"},
        )
    raise Unreachable(
        f"the server does not have the file ({status} {response.reason_phrase})",
        details | {"to fix": "the link may be dead; get the file elsewhere, then use --from-dir"},
    )


@contextmanager
def _problems_named(url: str) -> Iterator[None]:
    host = urlsplit(url).hostname
    try:
        yield
    except httpx.TransportError as problem:
        if _has_cause(problem, ssl.SSLCertVerificationError):
            raise UserError(
                f"the certificate of {host} is not valid",
                {
                    "reason": problem,
                    "to fix": "check the clock; a proxy's certificates go into SSL_CERT_FILE",
                },
            ) from problem
        if isinstance(problem, httpx.UnsupportedProtocol):
            raise UserError("not an address of a file", {"url": url}) from problem
        words = f"{host}: {str(problem) or type(problem).__name__}"
        raise Transient(words, is_silent=isinstance(problem, httpx.ConnectError)) from problem
    except httpx.InvalidURL as problem:
        raise UserError("not an address of a file", {"url": url, "reason": problem}) from problem


def _has_cause(problem: BaseException | None, kind: type[BaseException]) -> bool:
    while problem is not None:
        if isinstance(problem, kind):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def no_connection(url: str, reason: str) -> GaveUp:
    """The error for a server that cannot be reached at all."""
    return GaveUp(
        f"no connection to {urlsplit(url).hostname}",
        {
            "reason": reason,
            "url": url,
            "to fix": "check the network and the proxy, then run the same command again",
        },
    )


def _gave_up(problem: Transient, url: str, failures: int) -> GaveUp:
    if problem.is_silent:
        return no_connection(url, str(problem))
    return GaveUp(
        f"gave up after {failures} tries: {problem}",
        {
            "url": url,
            "to fix": "check the connection, then run the same command again; it goes on from here",
        },
    )


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def length_of(response: httpx.Response) -> int | None:
    """The size that an answer announces, in bytes."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _origin(url: str) -> tuple[Any, ...]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
