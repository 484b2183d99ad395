"""How work looks while it goes on: on a terminal, and in a log file."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from i2v_cli import console, progress
from i2v_cli.progress import PlainDisplay, amount_text, duration_text, metrics_text
from tests.cli.checkouts import Workplace


@pytest.mark.parametrize(
    ("done", "total", "unit", "text"),
    [
        (512, 900, "steps", "512/900 steps"),
        (3, None, "files", "3 files"),
        (0, 3, "", "0/3"),
        (1.25, 5.6, "GB", "1.2/5.6 GB"),
        (3_400_000, 10_000_000, "B", "3.4/10.0 MB"),
        (500, None, "bytes", "500.0 B"),
        (1_234_567, 2_000_000, "frames", "1234567/2000000 frames"),
    ],
)
def test_amounts_are_short(done: float, total: float | None, unit: str, text: str) -> None:
    assert amount_text(done, total, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (41.2, "41 s"),
        (59.9, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_metrics_have_four_digits_and_say_when_they_are_not_finite() -> None:
    text = metrics_text({"loss": 0.123456, "psnr": 21.0, "kl": None}, separator=", ")
    assert text == "loss 0.1235, psnr 21, kl not finite"


def test_a_log_file_gets_the_first_and_the_last_line_and_few_between(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console.configure()
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    display = PlainDisplay()
    display.start("train")
    for step in range(101):
        now = step / 4
        event = {"event": "progress", "task": "steps", "done": step, "total": 100, "unit": ""}
        display.show(event)
    display.close()
    assert capsys.readouterr().err.splitlines() == [
        "train",
        "steps: 0/100",
        "steps: 40/100 (40%), 15 s left",
        "steps: 80/100 (80%), 5 s left",
        "steps: 100/100, 25 s",
    ]


def _on_a_terminal(workplace: Workplace, *words: str) -> tuple[str, str]:
    """Standard output, and what a terminal on standard error is sent."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        workplace.command(*words),
        cwd=workplace.place,
        env=workplace.variables() | {"TERM": "xterm", "NO_COLOR": ""},
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 65536):
            seen += chunk
    except OSError:  # how Linux says that the other side has been closed
        pass
    os.close(master)
    out, _ = process.communicate()
    return out, seen.decode()


def test_a_terminal_shows_moving_bars_and_only_the_result_on_standard_output(
    workplace: Workplace,
) -> None:
    out, seen = _on_a_terminal(workplace, "download", "synthetic", "--kinds", "fine")
    assert out == "data/synthetic/raw\n"
    assert "3/3 clips" in seen
    assert "━" in seen
    assert "loss 0.25   bad not finite" in seen
    assert "warning: look out" in seen


def test_noise_of_libraries_does_not_reach_a_terminal(workplace: Workplace) -> None:
    out, seen = _on_a_terminal(workplace, "download", "synthetic", "--kinds", "noisy")
    assert "NOISE" not in out + seen


def test_the_terminal_is_given_back_with_its_cursor_when_a_job_fails(workplace: Workplace) -> None:
    _, seen = _on_a_terminal(workplace, "download", "synthetic", "--kinds", "killed")
    assert "memory ran out" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")


def test_names_from_a_worker_are_not_read_as_markup(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console.configure()
    display = progress.LiveDisplay()
    display.start("[bold]title")
    display.show({"event": "progress", "task": "[red]odd[/x] name", "done": 1, "total": 1})
    display.show({"event": "warning", "message": "[link=x]file[0].mp4"})
    display.close()
    shown = capsys.readouterr().err
    assert "[red]odd[/x] name" in shown
    assert "[link=x]file[0].mp4" in shown
