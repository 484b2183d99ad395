"""A server on loopback that does as it is told, and a client that does not wait for long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipelines.io.fetchers.web import Policy, Web
from tests.pipelines.io.loopback import Host, serving, without_proxies

PATIENCE = Policy(
    connect_timeout_s=2,
    read_timeout_s=2,
    attempts=4,
    first_delay_s=0.01,
    max_delay_s=0.02,
    max_wait_s=3,
    stall_window_s=0.3,
    min_bytes_per_s=2000,
)


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with without_proxies(), Web(PATIENCE) as client:
        yield client
