"""What a benchmark run writes, from the measurement to the page."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as main
from tests.benchmarks import results, rows
from tests.benchmarks.catalog import BENCHMARKS
from tests.benchmarks.one import measured_rows
from tests.benchmarks.rows import Measurement, Settings

ROOT = Path(__file__).resolve().parents[2]
VALUES = {"quick": True, "repeats": 3, "device": "cpu", "against": None}


def made_up(settings: Settings) -> Iterator[Measurement]:
    """A benchmark for the tests below."""
    print("a library's chatter")
    assert not any(settings.scratch_dir.iterdir())
    (settings.scratch_dir / "file").touch()
    yield Measurement("speed", [3.0, 1.0, 2.0], "clips/s", at_least=1.5)
    yield Measurement("memory", [7.0], "MB", at_most=5, note="too much", peak_mb=7.0)


def test_a_row_has_the_median_its_spread_and_its_circumstances() -> None:
    speed, memory = measured_rows("made up", "test_rows:made_up", VALUES)
    assert (speed["value"], speed["spread"], speed["repeats"]) == (2.0, [1.0, 3.0], 3)
    assert (speed["benchmark"], speed["name"], speed["unit"]) == ("made up", "speed", "clips/s")
    assert speed["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert speed["hardware"]["cores"] >= 1
    assert speed["peak_memory_mb"] > 10
    assert memory["peak_memory_mb"] == 7.0
    assert [rows.is_met(each) for each in (speed, memory)] == [True, False]
    assert json.loads(json.dumps([speed, memory])) == [speed, memory]


def test_standard_output_holds_rows_and_nothing_else() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.one", "made up", "test_rows:made_up"]
    run = subprocess.run(
        [*command, json.dumps(VALUES)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line)["name"] for line in run.stdout.splitlines()] == ["speed", "memory"]
    assert "chatter" in run.stderr


def test_only_our_processes_are_set_up_as_this_programs_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
    found = [rows.apart(os.getenv, "GLIBC_TUNABLES", is_ours=each).result for each in (True, False)]
    assert found == [os.environ["GLIBC_TUNABLES"], None]


def row(benchmark: str = "loader", name: str = "speed", **changes: object) -> dict[str, object]:
    made = next(iter(measured_rows(benchmark, "test_rows:made_up", VALUES)))
    return {**made, "benchmark": benchmark, "name": name, **changes}


def test_new_rows_take_the_place_of_the_old_ones_of_the_same_benchmark_and_machine(
    tmp_path,
) -> None:
    elsewhere = {**row()["hardware"], "cpu": "another"}
    results.keep_and_write([row(value=1.0), row("other"), row(hardware=elsewhere)], tmp_path)
    path = results.keep_and_write([row(value=8.0), row(name="more")], tmp_path)
    kept = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert sorted((each["benchmark"], each["name"], each["value"]) for each in kept) == [
        ("loader", "more", 2.0),
        ("loader", "speed", 2.0),
        ("loader", "speed", 8.0),
        ("other", "speed", 2.0),
    ]
    page = path.read_text()
    assert page.count("## loader") == 2
    assert "| speed | 8 | 1 to 3 | clips/s | at least 1.5: met |" in page


def test_aims_that_are_missed_are_told() -> None:
    page = results.results_page([row(value=1.0), row(at_least=None), row(at_most=3.0, value=4.0)])
    assert "at least 1.5: missed" in page
    assert "at least 1.5 and at most 3: missed" in page
    assert page.count("met |") == 0


def test_works_take_turns_and_a_ratio_is_taken_round_by_round() -> None:
    order: list[str] = []
    works = [lambda: order.append("a"), lambda: (order.append("b"), time.sleep(0.02))]
    first, second = rows.interleaved(works, repeats=3)
    assert order == ["a", "b"] + ["a", "b"] * 3
    assert all(ratio > 5 for ratio in rows.ratios(second, first))


def test_time_spent_is_counted_in_children_too_and_waiting_is_not() -> None:
    busy = [sys.executable, "-c", "sum(range(3_000_000))"]
    works = [lambda: time.sleep(0.1), lambda: subprocess.run(busy, check=True)]
    waited, worked = rows.interleaved(works, repeats=1, warmups=0, clock=rows.cpu_clock)
    assert waited[0] < 0.05
    assert worked[0] > 0.02


def allocate(megabytes: int) -> int:
    return len(bytearray(megabytes * 10**6))


def fail() -> None:
    os._exit(3)


def test_a_function_apart_tells_its_own_memory() -> None:
    small, large = rows.apart(allocate, 1), rows.apart(allocate, 200)
    assert large.result == 200 * 10**6
    assert 150 < large.peak_mb - small.peak_mb < 260
    with pytest.raises(RuntimeError, match="status 3"):
        rows.apart(fail)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_in_the_list_is_there(name: str) -> None:
    module, _, function = BENCHMARKS[name].target.partition(":")
    text = (ROOT / "tests" / "benchmarks" / f"{module}.py").read_text(encoding="utf-8")
    assert f"def {function}(settings: Settings)" in text


def test_a_folder_of_checkouts_has_one_for_each_benchmark(tmp_path) -> None:
    (tmp_path / "poke").mkdir()
    given = argparse.Namespace(against=tmp_path)
    assert main.against(given, "poke") == str(tmp_path / "poke")
    assert main.against(given, "cinn") == str(tmp_path)
    assert main.against(argparse.Namespace(against=None), "poke") is None
