"""Stopping: Ctrl-C, SIGTERM, a second Ctrl-C, and a command line that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.cli.checkouts import PATIENCE_S, Workplace, is_alive, pid_in, wait_until

DOWNLOAD = ("download", "synthetic", "--kinds")


def _pids(workplace: Workplace, *names: str) -> list[int]:
    return [pid_in(workplace.data / f"{name}.pid") for name in names]


def _wait_until_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the worker's group is gone")


def _end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_ends_the_worker_in_order_with_all_its_children(
    number: signal.Signals, workplace: Workplace
) -> None:
    process = workplace.start(*DOWNLOAD, "sleepy")
    pids = _pids(workplace, "worker", "child", "grandchild")
    process.send_signal(number)
    code, out, err = _end(process)
    assert (code, out) == (130, "")
    assert "stopped: the job was interrupted" in err
    assert "Traceback" not in err
    assert (workplace.data / "cleaned").exists()
    _wait_until_gone(pids)


def test_an_interrupted_job_has_an_envelope_too(workplace: Workplace) -> None:
    process = workplace.start(*DOWNLOAD, "sleepy", "--json")
    _pids(workplace, "worker")
    process.send_signal(signal.SIGINT)
    code, out, _ = _end(process)
    envelope = json.loads(out)
    assert (code, envelope["status"], envelope["exit_code"]) == (130, "interrupted", 130)
    assert envelope["error"]["message"] == "the job was interrupted"


def test_work_may_reach_a_place_of_its_own_choice_first(workplace: Workplace) -> None:
    process = workplace.start(*DOWNLOAD, "at_boundary")
    _pids(workplace, "worker")
    process.send_signal(signal.SIGINT)
    assert _end(process)[0] == 130
    assert json.loads((workplace.data / "checkpoint").read_text()) == {"whole": True}


def test_a_second_stop_ends_a_worker_that_does_not_listen(workplace: Workplace) -> None:
    process = workplace.start(*DOWNLOAD, "stubborn")
    pids = _pids(workplace, "worker", "child")
    seen = threading.Event()
    lines: list[str] = []

    def read() -> None:
        assert process.stderr
        for line in process.stderr:
            lines.append(line)
            if "again to end at once" in line:
                seen.set()

    reader = threading.Thread(target=read)
    reader.start()
    process.send_signal(signal.SIGINT)
    assert seen.wait(PATIENCE_S), lines
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    reader.join()
    assert process.stdout
    process.stdout.close()
    _wait_until_gone(pids)


def test_a_worker_that_does_not_listen_is_ended_after_a_grace(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("i2v_cli.runner.STOP_GRACE_S", 0.5)
    job_path = _written_job(workplace, "stubborn")
    stop = threading.Thread(target=_stop_when_written, args=(workplace.data / "worker.pid",))
    stop.start()
    with pytest.raises(Exception, match="interrupted") as raised:
        _run_here(workplace, job_path, monkeypatch)
    stop.join()
    assert raised.value.exit_code == 130  # type: ignore[attr-defined]
    _wait_until_gone(_pids(workplace, "worker", "child"))


def test_a_worker_ends_when_the_command_line_is_killed(workplace: Workplace) -> None:
    process = workplace.start(*DOWNLOAD, "sleepy")
    pids = _pids(workplace, "worker", "child", "grandchild")
    process.kill()
    _end(process)
    _wait_until_gone(pids)
    assert (workplace.data / "cleaned").exists()
    (folder,) = workplace.job_folders()
    assert json.loads((folder / "result.json").read_text())["exit_code"] == 130


def test_a_stop_while_nothing_runs_is_an_interruption(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from i2v_cli.app import main

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    monkeypatch.setattr("i2v_cli.run_folders.list_all", stop)
    assert main(["runs", "list"]) == 130
    assert capsys.readouterr().err == "stopped: interrupted\n"


def _written_job(workplace: Workplace, kind: str) -> Path:
    planned = workplace.json(*DOWNLOAD, kind, "--dry-run")["result"]
    folder = workplace.place / "job"
    folder.mkdir()
    job = {
        "verb": "download",
        "target": planned["target"],
        "config_class": "pipelines.datasets.config:DownloadRequest",
        "config": planned["request"],
        "record_dir": str(folder),
    }
    (folder / "job.json").write_text(json.dumps(job))
    return folder / "job.json"


def _run_here(workplace: Workplace, job_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from i2v_cli import locations, runner
    from i2v_cli.progress import SilentDisplay

    worker_path = workplace.checkout / "pipelines" / "worker.py"
    monkeypatch.setattr(locations, "worker_path", lambda: worker_path)
    runner.run_worker(job_path, Path(sys.executable), SilentDisplay())


def _stop_when_written(path: Path) -> None:
    pid_in(path)
    os.kill(os.getpid(), signal.SIGINT)
