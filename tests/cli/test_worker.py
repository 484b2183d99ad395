"""Workers: what reaches the user when a job ends well, badly, or without a word."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.cli.checkouts import Workplace, is_alive, pid_in, wait_until

DOWNLOAD = ("download", "synthetic", "--kinds")


def test_a_job_prints_its_result_and_the_next_command(workplace: Workplace) -> None:
    done = workplace.i2v(*DOWNLOAD, "fine")
    assert done.returncode == 0
    assert done.stdout == "data/synthetic/raw\n"
    said = done.stderr.splitlines()
    assert said[:2] == ["download synthetic", "clips: 0/3 clips"]
    assert said[2].startswith("clips: 3/3 clips, ")
    assert said[3:] == [
        "step 3: loss 0.25, bad not finite",
        "warning: look out",
        "3 made, 0 there already",
        "next: i2v extract-frames synthetic",
    ]


def test_a_job_leaves_its_whole_record(workplace: Workplace) -> None:
    workplace.i2v(*DOWNLOAD, "fine")
    (folder,) = workplace.job_folders()
    assert json.loads((folder / "job.json").read_text())["verb"] == "download"
    record = json.loads((folder / "result.json").read_text())
    assert record["result"] == {"made": 3, "kept": 0}
    assert record["used"]["peak_memory_mb"] > 5
    assert record["used"]["cpu_s"] > 0
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [each["event"] for each in events] == ["metric", "warning", "artifact", "done"]
    assert (folder / "log.txt").exists()


def test_quiet_leaves_only_the_result(workplace: Workplace) -> None:
    done = workplace.i2v(*DOWNLOAD, "fine", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout != ""


def test_what_libraries_print_goes_to_the_log_only(workplace: Workplace) -> None:
    done = workplace.i2v(*DOWNLOAD, "noisy")
    assert done.returncode == 0
    assert "NOISE" not in done.stdout + done.stderr
    log = (workplace.job_folders()[0] / "log.txt").read_text()
    assert log.count("NOISE") == 5


def test_nothing_of_the_program_leaks_into_a_worker(workplace: Workplace) -> None:
    result = workplace.json(*DOWNLOAD, "surroundings")["result"]
    assert str(workplace.checkout) not in result["path"]
    assert not any("i2v_cli" in name or name == "typer" for name in result["modules"])
    assert not any(name.startswith("PYTHON") for name in result["variables"])


def test_processes_that_a_job_spawns_find_the_package(workplace: Workplace) -> None:
    result = workplace.json(*DOWNLOAD, "spawned")["result"]
    assert result["seen"] == "pipelines.events"


def test_processes_that_a_job_leaves_behind_are_ended(workplace: Workplace) -> None:
    assert workplace.i2v(*DOWNLOAD, "leaves_child").returncode == 0
    child = pid_in(workplace.data / "child.pid")
    wait_until(lambda: not is_alive(child), "the child is gone")


FAILURES = {
    "user_error": (4, "error: no clips there\n", "run first"),
    "out_of_memory": (1, "error: not enough memory for this job\n", "to fix"),
    "gpu_out_of_memory": (1, "error: the graphics card has not enough memory", "to fix"),
    "disk_full": (1, "error: no space left on the disk\n", "free some space"),
    "read_only": (1, "error: not allowed: Read-only file system\n", "choose a folder"),
    "no_package": (3, "error: the environment is not complete\n", "i2v env check"),
    "killed": (1, "error: the worker was killed by the system", "memory"),
    "segfault": (1, "error: the worker crashed (SIGSEGV)\n", "i2v env check data"),
    "silent_exit": (1, "error: the worker ended without a result (exit status 7)\n", "full log"),
    "bug": (1, "error: the job failed\n", "ValueError: the answer is not 42"),
    "torn": (1, "error: ended after half an event\n", "full log"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_each_way_to_fail_has_its_exit_code_and_its_words(kind: str, workplace: Workplace) -> None:
    code, message, remedy = FAILURES[kind]
    done = workplace.i2v(*DOWNLOAD, kind)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert remedy in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "most recent call" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_is_too_full_for_the_record_is_still_told(workplace: Workplace) -> None:
    done = workplace.i2v(*DOWNLOAD, "record_full")
    assert done.returncode == 1
    assert "error: no space left on the disk\n" in done.stderr


@pytest.mark.parametrize("kind", ["bug", "segfault"])
def test_a_failure_shows_what_was_said_before_it_and_where_the_rest_is(
    kind: str, workplace: Workplace
) -> None:
    done = workplace.i2v(*DOWNLOAD, kind)
    assert "this was said before the" in done.stderr
    log_path = workplace.place / done.stderr.split("full log")[1].split("\n")[0].strip()
    assert "this was said before the" in log_path.read_text()


def test_verbose_shows_the_traceback_of_a_failure(workplace: Workplace) -> None:
    done = workplace.i2v(*DOWNLOAD, "bug", "--verbose")
    assert "Traceback (most recent call last)" in done.stderr


def test_a_result_is_taken_from_its_file_when_the_last_event_was_lost(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from i2v_cli import locations, runner
    from i2v_cli.progress import SilentDisplay

    script = tmp_path / "worker.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "result = {'version': 1, 'exit_code': 0, 'result': {'a': 1}, 'error': None}\n"
        "pathlib.Path(sys.argv[1]).with_name('result.json').write_text(json.dumps(result))\n"
    )
    monkeypatch.setattr(locations, "worker_path", lambda: script)
    job_path = tmp_path / "job.json"
    job_path.write_text("{}")
    assert runner.run_worker(job_path, Path(sys.executable), SilentDisplay()) == {"a": 1}


@pytest.mark.parametrize(
    ("line", "task"),
    [
        (b'{"event": "progress", "task": "whole"}', "whole"),
        (b'{"event": "progr{"event": "progress", "task": "after half"}', "after half"),
        (b'{"event": "progress", "task": "cli', None),
        (b"", None),
        (b"not an event", None),
        (b'["event"]', None),
        (b'{"task": "no kind"}', None),
        (b"\xff\xfe", None),
    ],
)
def test_torn_events_are_left_out_and_whole_ones_understood(line: bytes, task: str | None) -> None:
    from i2v_cli.runner import parse_event

    event = parse_event(line)
    assert (event["task"] if event else None) == task


def test_an_environment_without_its_packages_is_named_as_the_cause(workplace: Workplace) -> None:
    venv.create(workplace.place / "bare", with_pip=False)
    bare = workplace.place / "bare" / "bin" / "python"
    (workplace.home / "envs.json").write_text(json.dumps({"adopted": {"data": str(bare)}}))
    done = workplace.i2v(*DOWNLOAD, "fine")
    assert done.returncode == 3
    assert "pydantic" in done.stderr
    assert "i2v env check" in done.stderr


def test_an_interpreter_that_does_not_start_is_named_as_the_cause(workplace: Workplace) -> None:
    broken = workplace.place / "python"
    broken.write_text("not a program")
    broken.chmod(0o755)
    (workplace.home / "envs.json").write_text(json.dumps({"adopted": {"data": str(broken)}}))
    done = workplace.i2v(*DOWNLOAD, "fine")
    assert done.returncode == 3
    assert "the environment 'data' does not work" in done.stderr
    assert "i2v env check data" in done.stderr


def test_records_of_the_newest_jobs_are_kept(workplace: Workplace) -> None:
    jobs = workplace.home / "jobs"
    for number in range(60):
        folder = jobs / f"20200101-0000{number:02d}-download-000000"
        folder.mkdir(parents=True)
        if number != 3:
            (folder / "result.json").write_text("{}")
    workplace.i2v(*DOWNLOAD, "fine")
    names = [path.name for path in workplace.job_folders()]
    assert len(names) == 51
    assert "20200101-000003-download-000000" in names, "it may still be at work"
    assert names[-1] > "2021"


def test_a_worker_can_be_started_by_hand(workplace: Workplace) -> None:
    workplace.i2v(*DOWNLOAD, "fine")
    folder = workplace.job_folders()[0]
    (workplace.data / "synthetic" / "raw" / "download.json").unlink()
    worker = workplace.checkout / "pipelines" / "worker.py"
    done = subprocess.run(
        [sys.executable, "-I", str(worker), str(folder / "job.json"), "1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["event"], last["result"]) == ("done", {"made": 3, "kept": 0})
