"""What is printed, and how: tables, errors, names that try to be something else."""

from __future__ import annotations

import io
import sys

import pytest

from i2v_cli import console
from i2v_cli.console import Outcome, Table
from pipelines.events import EXIT_INTERRUPTED, UserError


@pytest.fixture(autouse=True)
def plain_settings() -> None:
    """No test depends on what another one configured."""
    console.configure()


def test_an_error_says_what_where_and_what_to_do_in_aligned_lines() -> None:
    problem = UserError("no frames", {"looked in": "data/x", "run first": "i2v y"})
    assert console.error_lines(problem) == [
        "error: no frames",
        "  looked in   data/x",
        "  run first   i2v y",
    ]


def test_text_of_several_lines_goes_under_its_label() -> None:
    problem = UserError("it failed", {"last lines": "one\ntwo", "full log": "log.txt"})
    assert console.error_lines(problem) == [
        "error: it failed",
        "  last lines",
        "    one",
        "    two",
        "  full log     log.txt",
    ]


def test_an_interruption_is_not_called_an_error() -> None:
    assert console.error_lines(UserError("x", exit_code=EXIT_INTERRUPTED)) == ["stopped: x"]


def test_control_characters_in_names_are_shown_and_not_obeyed() -> None:
    problem = UserError("no file 'a\nb\x1b[31m'", {"looked in": "c\rd\x07"})
    text = "\n".join(console.error_lines(problem))
    assert text == "error: no file 'a\\nb\\x1b[31m'\n  looked in   c\\rd\\x07"


def test_names_in_any_script_are_printed_as_they_are() -> None:
    assert console.clean("Фильм 映画 é") == "Фильм 映画 é"


def test_names_that_are_no_text_can_still_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_outcome(Outcome(lines=["a\udcff"]), "x")
    assert capsys.readouterr().out == "a\\udcff\n"


def test_a_terminal_that_knows_only_ascii_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.show_outcome(Outcome(lines=["é"]), "x")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\xe9\n"


def test_numbers_stand_to_the_right_in_a_table() -> None:
    table = Table(("run", "step"), [("a", 5), ("long name", 12), ("b", "-")])
    assert console.table_lines(table, io.StringIO()) == [
        "run        step",
        "a             5",
        "long name    12",
        "b             -",
    ]


def test_results_go_to_standard_output_and_the_rest_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = Outcome(lines=["path"], notes=["a note"], next_command="i2v next")
    console.show_outcome(outcome, "x")
    printed = capsys.readouterr()
    assert printed.out == "path\n"
    assert printed.err == "a note\nnext: i2v next\n"
