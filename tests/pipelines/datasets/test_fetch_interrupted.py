"""Stopped, killed, started again: always the same bytes in the end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.datasets.fetch import fetch
from pipelines.datasets.fetch_config import SourceSet
from pipelines.events import Interrupted
from tests.pipelines.datasets.fetch_cases import (
    Said,
    noise,
    request_for,
    run,
    source_set,
    tree,
)
from tests.pipelines.io.archive_makers import honest_zip
from tests.pipelines.io.loopback import (
    Host,
    serving,
    without_proxies,
)

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_proxies() -> Iterator[None]:
    with without_proxies():
        yield


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as running:
        yield running


# Interruptions


def test_a_stop_leaves_the_parts_and_the_next_run_finishes(host: Host, tmp_path: Path) -> None:
    data = honest_zip({"a": noise(600_000)})
    sources = source_set(
        {"kind": "https", "files": [{"name": "a.zip", "urls": [host.add("/a.zip", data)]}]}
    )
    host.piece_delay_s = 0.02

    class StopsSoon(Said):
        def progress(self, *arguments: Any, **more: Any) -> None:
            if host.body_bytes > 150_000:
                raise Interrupted

    with pytest.raises(Interrupted):
        fetch(request_for(tmp_path, sources), StopsSoon())
    raw = tmp_path / "data" / "kth" / "raw"
    assert 0 < (raw / "a.zip.part").stat().st_size < len(data)
    host.piece_delay_s = 0
    run(tmp_path, sources)
    assert tree(raw) == {"a.zip": data}
    assert host.body_bytes <= 1.25 * len(data)  # the last pieces before the stop may get lost


ONE_RUN = """
import sys
from pathlib import Path
from pipelines.datasets.fetch import fetch
from pipelines.datasets.fetch_config import SourceSet
from pipelines.datasets.fetch_config import FetchRequest
from pipelines.events import Work
fetch(FetchRequest.model_validate_json(Path(sys.argv[1]).read_text()), Work())
"""


def start(root: Path, sources: SourceSet) -> subprocess.Popen[bytes]:
    """A run in a process of its own."""
    root.mkdir(exist_ok=True)
    request = root / "request.json"
    request.write_text(request_for(root, sources).model_dump_json())
    return subprocess.Popen([sys.executable, "-c", ONE_RUN, str(request)], cwd=REPOSITORY)


@pytest.mark.slow
def test_a_killed_download_fetches_hardly_anything_twice(host: Host, tmp_path: Path) -> None:
    data = honest_zip({"a": noise(8_000_000)})
    url = host.add("/a.zip", data)
    sources = source_set({"kind": "https", "files": [{"name": "a.zip", "urls": [url]}]})
    host.piece_delay_s = 0.002
    for sixth in range(1, 6):
        process = start(tmp_path, sources)
        while host.body_bytes < sixth * len(data) // 6:
            time.sleep(0.001)
        process.kill()
        process.wait()
    assert start(tmp_path, sources).wait() == 0
    assert tree(tmp_path / "data" / "kth" / "raw") == {"a.zip": data}
    assert host.body_bytes <= 1.05 * len(data)
