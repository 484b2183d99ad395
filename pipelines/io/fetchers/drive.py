"""Google Drive: single files and shared folders, through gdown.

gdown knows Drive's pages: the one that stands before large files, the one that says that too many
people have had the file, and the list of a folder. The bytes themselves go through our own
transfer, since gdown's resume cannot tell whether a file has changed between two runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import gdown
from gdown.download import get_url_from_gdrive_confirmation
from gdown.exceptions import DownloadError, FileURLRetrievalError

from pipelines.events import UserError
from pipelines.io.download import Fetched, Meter, Wanted
from pipelines.io.fetchers.transfer import transfer
from pipelines.io.fetchers.web import (
    Address,
    Page,
    Web,
    check_address,
    check_status,
    length_of,
    no_connection,
    nothing_fits,
)
from pipelines.io.names import NameRefused, safe_parts

HOST = "https://drive.google.com"
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
"""Drive shows the pages that gdown can read to browsers."""


class DriveFetcher:
    """One file, by its id.

    name, size, checksums, kinds: as in `Wanted`.  host: another one in tests.
    """

    max_parallel = 1

    def __init__(self, web: Web, file_id: str, wanted: Wanted, *, host: str = HOST) -> None:
        self.web = web
        self._wanted = replace(wanted, url=_file_url(host, file_id))

    def list_files(self) -> list[Wanted]:
        """The file; Drive is not asked."""
        return [self._wanted]

    def measure(self, wanted: Wanted) -> Wanted:
        """The file with the size that Drive announces."""
        if wanted.size is not None:
            return wanted
        return replace(wanted, size=self.web.persist(self._announced_size, Meter(), url=wanted.url))

    def fetch(self, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
        """Get the file."""
        return _fetch(self.web, wanted, destination, meter)

    def _announced_size(self) -> int | None:
        with self.web.open(_resolve(self.web, self._wanted)) as response:
            check_status(response)
            is_page = response.headers.get("Content-Type", "").startswith("text/html")
            return None if is_page else length_of(response)


class DriveFolderFetcher:
    """The files of a shared folder and the folders in it.

    include: patterns of relative names to take, all when empty.  strip: a regular expression for
    what is taken off the beginning of the names.
    cookies_path: a browser's exported cookies, for files that Drive gives to signed-in users only.
    """

    max_parallel = 1  # Drive turns away those who ask for much at a time

    def __init__(
        self,
        web: Web,
        folder_id: str,
        *,
        include: Sequence[str] = (),
        strip: str = "",
        cookies_path: Path | None = None,
        host: str = HOST,
    ) -> None:
        self.web = web
        self.url = f"{HOST}/drive/folders/{folder_id}"
        self._folder_id = folder_id
        self._include = tuple(include)
        self._strip = strip
        self._cookies_path = cookies_path
        self._host = host

    def list_files(self) -> list[Wanted]:
        """The files of the folder; Drive does not list sizes."""
        try:
            rows = gdown.download_folder(
                id=self._folder_id,
                skip_download=True,
                quiet=True,
                use_cookies=self._cookies_path is not None,
                cookies_file=str(self._cookies_path) if self._cookies_path else None,
                timeout=self.web.policy.read_timeout_s,
            )
        except OSError as problem:  # what requests raises when there is no answer
            raise no_connection(self.url, type(problem).__name__) from problem
        except DownloadError as problem:
            raise _quota(self.url, str(problem)) from problem
        files = {_checked(str(row.path), self.url): row.id for row in rows}
        wanted = [
            Wanted(re.sub(f"^(?:{self._strip})", "", name), _file_url(self._host, file_id))
            for name, file_id in files.items()
            if not self._include or any(fnmatch(name, pattern) for pattern in self._include)
        ]
        if not wanted:
            raise nothing_fits(self.url, self._include, list(files))
        return wanted

    def measure(self, wanted: Wanted) -> Wanted:
        """The file as it is: asking for each size would use up what Drive allows."""
        return wanted

    def fetch(self, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
        """Get one file."""
        return _fetch(self.web, wanted, destination, meter)


def _fetch(web: Web, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
    return transfer(
        web,
        wanted,
        destination,
        meter,
        address=lambda: _resolve(web, wanted),
        explain_page=lambda page: _quota(wanted.url, page.title),
    )


def _resolve(web: Web, wanted: Wanted) -> Address:
    """Where the bytes of a file are: its own address, or the one behind the warning page."""
    with web.open(Address(wanted.url, user_agent=_BROWSER)) as response:
        check_status(response)
        kind = response.headers.get("Content-Type", "")
        if "Content-Disposition" in response.headers or not kind.startswith("text/html"):
            return Address(wanted.url, user_agent=_BROWSER)
        response.read()
        page = Page(str(response.url), response.text)
    try:
        url = get_url_from_gdrive_confirmation(page.text)
    except FileURLRetrievalError as problem:
        raise _quota(wanted.url, str(problem)) from problem
    check_address(url, came_from=wanted.url, plain_http=False)
    return Address(url, user_agent=_BROWSER)


def _file_url(host: str, file_id: str) -> str:
    return f"{host}/uc?export=download&id={file_id}"


def _checked(name: str, url: str) -> str:
    try:
        return "/".join(safe_parts(name))
    except NameRefused as problem:
        raise UserError(
            f"the folder holds a file whose name {problem}",
            {"name": ascii(name[:100]), "url": url, "to fix": "get the files by hand"},
        ) from problem


def _quota(url: str, says: str) -> UserError:
    return UserError(
        "Google Drive does not give the file out",
        {
            "Drive says": " ".join(says.split())[:300],
            "url": url,
            "to fix": "wait up to 24 hours and run the same command again",
            "or": "give --cookies FILE of a browser that is signed in and holds a copy of the file",
            "or else": "get it in a browser, then give its folder with --from-dir",
        },
    )
