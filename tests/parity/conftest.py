"""Collects what the parity cases found and ends the run with one line per family."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest


@dataclass
class CaseRecord:
    """What happened to one case."""

    family: str
    name: str
    passed: bool = False
    ratios: dict[str, float] = field(default_factory=dict)  # output -> error over its tolerance


_RECORDS = pytest.StashKey[list[CaseRecord]]()


@pytest.fixture
def parity_records(request: pytest.FixtureRequest) -> list[CaseRecord]:
    """The list that the summary is made from."""
    return request.config.stash.setdefault(_RECORDS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per family: cases, passed, largest error over its tolerance and where it is."""
    records = terminalreporter.config.stash.get(_RECORDS, [])
    families = sorted({record.family for record in records})
    if families:
        terminalreporter.section("parity")
    for family in families:
        mine = [record for record in records if record.family == family]
        passed = sum(record.passed for record in mine)
        line = f"parity {family:<10} {len(mine):>3} cases  {passed:>3} passed"
        worst = [
            (ratio, f"{record.name}: {output}")
            for record in mine
            for output, ratio in record.ratios.items()
        ]
        if worst:
            ratio, where = max(worst)
            line += f"  largest error {ratio:.2f} of its tolerance ({where})"
        terminalreporter.write_line(line, green=passed == len(mine), red=passed < len(mine))
