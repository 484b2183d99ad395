"""Measure, one JSON row per measurement on standard output.

    make bench
    PYTHONPATH=. PYTHON -m tests.benchmarks [NAME...] [--quick] [--against DIR] [--write-results]

To add a benchmark: a function in a module of this folder and one line in `catalog.py`; `rows.py`
says what the function gets and gives. Each benchmark runs by itself, one after the other, in the
environment that it names.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from i2v_cli.environments import TUNABLES
from tests.benchmarks.catalog import BENCHMARKS, COMMAND_LINE, Benchmark
from tests.benchmarks.results import keep_and_write

ROOT = Path(__file__).resolve().parents[2]
REPEATS, QUICK_REPEATS = 5, 3


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks that are named, or all; returns 1 when one of them failed."""
    options = _options(arguments)
    pythons = dict(each.split("=", 1) for each in options.python)
    values = _setting_values(options)
    rows, failed = [], []
    for name in options.names or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        print(f"== {name}: {benchmark.about}", file=sys.stderr, flush=True)
        python = pythons.get(benchmark.environment) or _python_of(benchmark.environment)
        found, status = _run(name, benchmark, python, values | {"against": against(options, name)})
        rows += found
        failed += [name] if status else []
    if options.write_results:
        print(keep_and_write(rows), file=sys.stderr)
    if failed:
        print(f"error: failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", allow_abbrev=False)
    what = "; ".join(f"{name}: {each.about}" for name, each in BENCHMARKS.items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all ({what})")
    parser.add_argument("--quick", action="store_true", help="small inputs, to see that it works")
    parser.add_argument("--repeats", type=int, metavar="N", help="values per measurement")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="other code to compare with; DIR/NAME, where it is there, for the benchmark NAME",
    )
    parser.add_argument(
        "--python", action="append", default=[], metavar="ENV=PATH", help="an environment's Python"
    )
    parser.add_argument(
        "--write-results", action="store_true", help="keep the rows and write RESULTS.md"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark '{unknown[0]}'; there are {', '.join(BENCHMARKS)}")
    if wrong := [each for each in options.python if "=" not in each]:
        parser.error(f"--python {wrong[0]}: write ENV=PATH")
    if options.write_results and options.quick:
        parser.error("--write-results: quick rows are no results")
    return options


def _setting_values(options: argparse.Namespace) -> dict[str, Any]:
    """Settings for every benchmark, as JSON values."""
    return {
        "quick": options.quick,
        "repeats": options.repeats or (QUICK_REPEATS if options.quick else REPEATS),
        "device": options.device,
    }


def against(options: argparse.Namespace, name: str) -> str | None:
    """The folder to compare a benchmark with: that of its name in --against, or --against itself.

    So one folder can hold the checkouts for several benchmarks.
    """
    if options.against is None:
        return None
    own = options.against / name
    return str((own if own.is_dir() else options.against).resolve())


def _python_of(environment: str) -> str:
    """The interpreter of an environment, which is made first if need be."""
    if environment == COMMAND_LINE:
        return shutil.which(ROOT / ".venv" / "bin" / "python") or sys.executable
    program = shutil.which(ROOT / ".venv" / "bin" / "i2v") or shutil.which("i2v")
    if program is None:
        sys.exit(
            "error: the program i2v is not installed\n"
            f"  to fix   make setup, or say where Python is: --python {environment}=PATH"
        )
    command = [program, "env", "python", environment]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _run(
    name: str, benchmark: Benchmark, python: str, values: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], int]:
    """The rows of a benchmark, printed as they come, and its exit status."""
    command = [python, "-m", "tests.benchmarks.one", name, benchmark.target, json.dumps(values)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "GLIBC_TUNABLES": TUNABLES}
    rows = []
    with subprocess.Popen(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            rows.append(json.loads(line))
    return rows, process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
