"""Every parity case below a folder: `I2V_PARITY_DIR`, or the copies beside this file.

With the variable set, every case must be interpreted: an unknown family or computation fails.
Cases with very large networks are marked `slow`.
`make parity PARITY=DIR` runs this file alone.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from tests.parity.conftest import CaseRecord
from tests.parity.harness import Case, CaseError, adapter_for, find_cases, num_weights

_FOLDER = Path(os.environ.get("I2V_PARITY_DIR") or Path(__file__).with_name("cases"))
_CASES = find_cases(_FOLDER, only_supported="I2V_PARITY_DIR" not in os.environ)
if not _CASES:
    raise pytest.UsageError(f"no parity cases below {_FOLDER}")


_HEAVY = 80_000_000  # weights: filling and running such networks takes many seconds


def _as_parameter(family: str, path: Path) -> object:
    marks = [pytest.mark.slow] if num_weights(path) > _HEAVY else []
    return pytest.param(family, path, id=f"{family}/{path.stem}", marks=marks)


@pytest.mark.parametrize(("family", "path"), [_as_parameter(*case) for case in _CASES])
def test_our_numbers_are_the_published_ones(
    family: str, path: Path, parity_records: list[CaseRecord]
) -> None:
    record = CaseRecord(family, path.stem)
    parity_records.append(record)
    problems = []
    try:
        case = Case(path)
        comparisons = case.compare(adapter_for(family, case)(case))
        record.ratios = {each.output: each.ratio for each in comparisons}
        problems = [str(each) for each in comparisons if not each.agrees]
    except CaseError as error:
        problems = [str(error)]
    finally:
        gc.collect()  # a case can hold gigabytes
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
    record.passed = True
