"""What the families' learning tests share: the table they fill, and how long they train."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.learning import results


def pytest_report_header() -> str:
    """Say which form runs: the thresholds differ."""
    form = "full" if results.is_full() else "short; the full form is 'make learn'"
    return f"learning: {form}"


@pytest.fixture(scope="module")
def findings(request: pytest.FixtureRequest) -> Iterator[results.Findings]:
    """The table of the module's FAMILY, written to RESULTS.md at its end (full form only)."""
    found = results.Findings(request.module.FAMILY)
    yield found
    if results.is_full() and found.rows:
        results.record(found.family, found.rows, minutes=found.minutes, note=found.note)
