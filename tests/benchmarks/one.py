"""One benchmark, in the process that runs this: python -m tests.benchmarks.one NAME TARGET SETTINGS

TARGET: 'module:function' in this folder.  SETTINGS: those of rows.Settings, but the scratch folder,
as JSON. Rows go to standard output; what libraries print there goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import Settings, as_row


def main(arguments: Sequence[str]) -> int:
    """Print the rows of a benchmark as they are measured."""
    name, target, values = arguments
    rows_out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for row in measured_rows(name, target, json.loads(values)):
        print(json.dumps(row), file=rows_out, flush=True)
    return 0


def measured_rows(name: str, target: str, values: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """Call a benchmark with an empty folder of its own."""
    module, _, function = target.partition(":")
    measure = getattr(importlib.import_module(f"tests.benchmarks.{module}"), function)
    against = Path(values["against"]) if values["against"] else None
    with tempfile.TemporaryDirectory(prefix="i2v-bench-") as folder:
        settings = Settings(**{**values, "against": against, "scratch_dir": Path(folder)})
        for measured in measure(settings):
            yield as_row(name, measured, settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
