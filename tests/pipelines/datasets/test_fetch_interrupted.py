"""Stopped, killed, started again: always the same bytes in the end."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.datasets.fetch import fetch
from pipelines.events import Interrupted
from tests.pipelines.datasets.fetch_cases import (
    Said,
    noise,
    request_for,
    run,
    source_set,
    tree,
)
from tests.pipelines.io.archive_makers import honest_tar, honest_zip
from tests.pipelines.io.loopback import (
    Host,
    SeafileHost,
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

    began = time.monotonic()
    with pytest.raises(Interrupted):
        fetch(request_for(tmp_path, sources), StopsSoon())
    assert time.monotonic() - began < 5
    raw = tmp_path / "data" / "kth" / "raw"
    assert 0 < (raw / "a.zip.part").stat().st_size < len(data)
    host.piece_delay_s = 0
    run(tmp_path, sources)
    assert tree(raw) == {"a.zip": data}
    assert host.body_bytes <= 1.1 * len(data)  # the last pieces before the stop may get lost


KILLED = """
import sys
from pathlib import Path
from pipelines.datasets.fetch import fetch
from pipelines.datasets.fetch_config import FetchRequest
from pipelines.events import Work
fetch(FetchRequest.model_validate_json(Path(sys.argv[1]).read_text()), Work())
"""


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_bytes_of_an_undisturbed_run(
    host: Host, tmp_path: Path
) -> None:
    share = SeafileHost(
        host, {f"/part{n}.zip": honest_zip({f"{n}": noise(900_000)}) for n in range(2)}
    )
    big = honest_tar({f"folder/{n}": noise(150_000) for n in range(20)})
    sources = source_set(
        {"kind": "seafile", "url": share.url},
        {"kind": "https", "files": [{"name": "big.tgz", "urls": [host.add("/big.tgz", big)]}]},
        unpack=[
            {"match": r"part(\d)\.zip", "into": "out/{1}"},
            {"match": r"big\.tgz", "into": "."},
        ],
    )
    run(tmp_path / "undisturbed", sources)
    expected = tree(tmp_path / "undisturbed" / "data" / "kth" / "raw")
    total, host.body_bytes = host.body_bytes, 0

    request = request_for(tmp_path / "killed", sources)
    (tmp_path / "request.json").write_text(request.model_dump_json())
    command = [sys.executable, "-c", KILLED, str(tmp_path / "request.json")]
    draw, num_killed = random.Random(99), 0
    host.piece_delay_s = 0.01
    for _ in range(40):
        process = subprocess.Popen(command, cwd=REPOSITORY)
        before, limit = host.body_bytes, draw.randrange(0, total // 6)
        while process.poll() is None and host.body_bytes - before <= limit:
            time.sleep(0.002)
        time.sleep(draw.random() * 0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            num_killed += 1
        if process.wait() == 0:
            break
    assert process.returncode == 0
    assert num_killed >= 5
    assert tree(request.folder) == expected
    assert host.body_bytes <= 1.05 * total + num_killed * 3 * (64 << 10)
