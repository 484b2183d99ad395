"""Requests to fetch from loopback servers, and a record of what a run says."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

from pipelines.datasets.fetch import fetch
from pipelines.datasets.fetch_config import FetchRequest, NetworkConfig, SourceSet
from pipelines.events import Work
from tests.pipelines.io.archive_makers import honest_zip
from tests.pipelines.io.loopback import Host

noise = random.Random(23).randbytes
PATIENCE = NetworkConfig(
    connect_timeout_s=2, read_timeout_s=3, attempts=3, first_delay_s=0.01, max_delay_s=0.02
)
ACTIONS = {
    action: {f"person0{n}_{action}_d1_uncomp.avi": noise(20_000 + n) for n in (1, 2)}
    for action in ("walking", "jogging", "boxing")
}
SEQUENCES = b"person01_walking_d1\t\tframes\t1-75, 152-225\n"


def source_set(*sources: dict[str, Any], **fields: Any) -> SourceSet:
    """Sources with as little around them as is needed."""
    facts = {"about": "a test", "terms": "none", "citation": "nobody", "sources": sources}
    return SourceSet.model_validate(facts | fields)


def kth_like(host: Host) -> SourceSet:
    """Zips at fixed addresses, each unpacked into a folder of its own, and a text file."""
    files = [{"name": "00sequences.txt", "urls": [host.add("/kth/00sequences.txt", SEQUENCES)]}]
    for action, content in ACTIONS.items():
        url = host.add(f"/kth/{action}.zip", honest_zip(content))
        files.append({"name": f"{action}.zip", "urls": [url]})
    return source_set(
        {"kind": "https", "files": files, "content": ["*/person*_d[1-4]_uncomp.avi"]},
        unpack=[{"match": r"(walking|jogging|boxing)\.zip", "into": "{1}"}],
    )


def request_for(root: Path, sources: SourceSet, **fields: Any) -> FetchRequest:
    """A request that keeps everything below `root`."""
    facts = {
        "dataset": "kth",
        "sources": sources,
        "data_root": root / "data",
        "weights_root": root / "weights",
        "network": PATIENCE,
    }
    return FetchRequest(**(facts | fields))


class Said(Work):
    """A run's line to the outside, kept for a look."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        super().__init__(self.stream)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of a kind, in order."""
        events = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [event for event in events if event["event"] == kind]

    def lines(self) -> list[str]:
        """What was said for people."""
        return [
            event.get("text") or event["message"]
            for event in self.events("log") + self.events("warning")
        ]


def run(root: Path, sources: SourceSet, **fields: Any) -> dict[str, Any]:
    """Fetch and give the result."""
    return fetch(request_for(root, sources, **fields), Said())


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset, the manifest and the lock left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("download.json", ".lock", "missing.json")
    }


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder."""
    value: dict[str, Any] = json.loads((folder / "download.json").read_text())
    return value
