"""Files at fixed HTTPS addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.io.download import Fetched, Meter, Wanted
from pipelines.io.fetchers.transfer import transfer
from pipelines.io.fetchers.web import Address, Unreachable, Web


@dataclass(frozen=True)
class HttpItem:
    """A file at fixed addresses, best first."""

    wanted: Wanted
    urls: tuple[str, ...]
    plain_http: bool = False


class HttpFetcher:
    """Files at fixed addresses."""

    max_parallel = 4

    def __init__(self, web: Web, items: Sequence[HttpItem]) -> None:
        self.web = web
        self.items = {item.wanted.name: item for item in items}

    def list_files(self) -> list[Wanted]:
        """The files; no server is asked."""
        return [item.wanted for item in self.items.values()]

    def measure(self, wanted: Wanted) -> Wanted:
        """The file with the size that the first server announces that has it."""
        if wanted.size is not None:
            return wanted
        item = self.items[wanted.name]
        for url in item.urls:
            try:
                size = self.web.size_of(Address(url, plain_http=item.plain_http))
            except Unreachable:
                continue
            return replace(wanted, size=size)
        return wanted

    def fetch(self, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
        """Get a file from the first of its addresses that works."""
        item = self.items[wanted.name]
        *others, last = item.urls
        for url in others:
            try:
                return self._fetch(item, url, wanted, destination, meter)
            except Unreachable:
                continue
        return self._fetch(item, last, wanted, destination, meter)

    def _fetch(
        self, item: HttpItem, url: str, wanted: Wanted, destination: Path, meter: Meter
    ) -> Fetched:
        return transfer(
            self.web,
            wanted,
            destination,
            meter,
            address=lambda: Address(url, plain_http=item.plain_http),
        )
