"""Models of the TensorFlow hub: its pages give a tar.gz when asked in the right way."""

from __future__ import annotations

from pathlib import Path

from pipelines.events import UserError
from pipelines.io.download import Fetched, Meter, Wanted
from pipelines.io.fetchers.transfer import transfer
from pipelines.io.fetchers.web import Address, Page, Web


class HubFetcher:
    """One model. wanted.url: the page of the model, such as https://tfhub.dev/NAME/1."""

    max_parallel = 1

    def __init__(self, web: Web, wanted: Wanted) -> None:
        self.web = web
        self._wanted = wanted

    def list_files(self) -> list[Wanted]:
        """The model's archive."""
        return [self._wanted]

    def measure(self, wanted: Wanted) -> Wanted:
        """The file as it is: the hub tells only with the file."""
        return wanted

    def fetch(self, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
        """Get the archive."""
        return transfer(
            self.web,
            wanted,
            destination,
            meter,
            address=lambda: Address(f"{wanted.url}?tf-hub-format=compressed"),
            explain_page=lambda page: _moved(page, wanted),
        )


def _moved(page: Page, wanted: Wanted) -> UserError:
    return UserError(
        "the hub sent a web page instead of the model",
        {
            "page": page.url.split("?")[0],
            "page says": page.title,
            "to fix": "get the model as tar.gz in a browser, then give its folder with --from-dir",
        },
    )
