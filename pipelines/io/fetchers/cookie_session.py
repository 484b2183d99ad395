"""Servers that know a logged-in browser by its session cookie: the Human3.6M file browser.

The user logs in with a browser and hands over the session's id. It is checked before the first
file, it is sent to that one server only, and it appears in no file and no message. Sessions end
during long downloads: the server then answers with its log-in page, and all files wait for a new
cookie; what is here so far stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from pipelines.io.download import Fetched, Meter, SourceClosed, Wanted
from pipelines.io.fetchers.transfer import transfer
from pipelines.io.fetchers.web import (
    Address,
    GaveUp,
    Page,
    TooManyRedirects,
    Unreachable,
    Web,
    check_status,
)

_SESSION_ID = re.compile(r"[A-Za-z0-9,_-]{8,256}")


class CookieSessionFetcher:
    """Files that a server gives to a logged-in browser.

    base_url: the page that a logged-in user sees.  files: what to ask for, per wanted file the
    query that names it.  cookie_name: such as PHPSESSID.  session_id: its value, None when the
    user gave none.  how: one line on how to get it.  variable: where the user may put it.
    """

    max_parallel = 1

    def __init__(
        self,
        web: Web,
        base_url: str,
        files: Mapping[Wanted, Mapping[str, str]],
        *,
        cookie_name: str,
        session_id: str | None,
        how: str,
        variable: str,
    ) -> None:
        self.web = web
        self.base_url = base_url
        self._queries = {wanted.name: dict(query) for wanted, query in files.items()}
        self._wanted = list(files)
        self._cookie_name = cookie_name
        self._session_id = (session_id or "").strip().removeprefix(f"{cookie_name}=").strip("; ")
        self._how = how
        self._variable = variable
        self._is_checked = False

    def list_files(self) -> list[Wanted]:
        """The files; the server is not asked."""
        return self._wanted

    def measure(self, wanted: Wanted) -> Wanted:
        """The file as it is: the server tells only with the file."""
        return wanted

    def fetch(self, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
        """Get one file. Raises SourceClosed when the session is not a logged-in one (any more)."""
        self._check_session(meter)
        address = Address(
            f"{self.base_url}?{urlencode(self._queries[wanted.name])}", headers=self._headers()
        )
        try:
            return transfer(
                self.web,
                wanted,
                destination,
                meter,
                address=lambda: address,
                explain_page=self._expired,
            )
        except TooManyRedirects as problem:  # what the server does to those who are logged out
            raise self._expired(Page(self.base_url, "")) from problem

    def _check_session(self, meter: Meter) -> None:
        """Ask for the page that only a logged-in user gets; others are sent elsewhere."""
        if self._is_checked:
            return
        if not self._session_id:
            raise self._closed("a log-in is needed first")
        if not _SESSION_ID.fullmatch(self._session_id):
            raise self._closed(f"this is not a {self._cookie_name} (not a name or a password)")

        def ask() -> bool:
            with self.web.open(Address(self.base_url, headers=self._headers())) as response:
                check_status(response)
                return str(response.url.copy_with(query=None)).rstrip("?") == self.base_url

        try:
            if not self.web.persist(ask, meter, url=self.base_url):
                raise self._closed("the server does not know this session")
        except GaveUp:
            raise
        except (TooManyRedirects, Unreachable) as problem:
            raise self._closed("the server does not know this session") from problem
        self._is_checked = True

    def _headers(self) -> dict[str, str]:
        return {"Cookie": f"{self._cookie_name}={self._session_id}"}

    def _expired(self, page: Page) -> SourceClosed:
        self._is_checked = False
        return self._closed("the session has expired")

    def _closed(self, what: str) -> SourceClosed:
        return SourceClosed(
            what,
            {
                "server": self.base_url,
                "how": self._how,
                "variable": self._variable,
                "to fix": "run the same command with a fresh cookie; it goes on from here",
            },
        )
