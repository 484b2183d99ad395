"""Help texts: exactly as written down, and printed without a heavy import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from i2v_cli.app import main
from i2v_cli.registry import VERBS
from i2v_cli.verbs import load
from tests.cli import golden
from tests.cli.checkouts import ROOT

BUILT = [name for name, verb in VERBS.items() if verb.is_built]
ACTIONS = [f"{verb} {action}" for verb in ("data", "runs") for action in load(verb).commands]
PAGES = ["", *BUILT, *ACTIONS]


@pytest.mark.parametrize("words", PAGES)
def test_help_text_is_as_written_down(
    words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), "--help"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    golden.check(f"help/{words.replace(' ', '-') or 'i2v'}", printed.out)


@pytest.mark.parametrize("name", BUILT)
def test_first_line_of_help_is_the_registrys_and_has_no_full_stop(name: str) -> None:
    first = (load(name).help or "").split("\n")[0]
    assert first == VERBS[name].about
    assert not first.endswith(".")


@pytest.mark.parametrize("words", ["", "train", "sample", "env", "data preview"])
def test_help_leaves_heavy_packages_out(words: str) -> None:
    code = (
        "import sys\n"
        "from i2v_cli.app import main\n"
        f"main({[*words.split(), '--help']!r})\n"
        "heavy = {'numpy', 'torch', 'tensorflow', 'pydantic', 'rich', 'yaml'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_words_at_all_show_the_same_as_help(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    without = capsys.readouterr().out
    main(["--help"])
    assert capsys.readouterr().out == without


def test_a_shell_completes_verbs_and_options(here: Path) -> None:
    def complete(words: str) -> str:
        count = str(len(words.split(" ")) - 1)
        asked = {"_I2V_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": count}
        code = "from i2v_cli.app import main; main([])"
        variables = os.environ | {"PYTHONPATH": str(ROOT)} | asked
        return subprocess.check_output([sys.executable, "-c", code], env=variables, text=True)

    assert complete("i2v tra").split() == ["train", "transfer"]
    assert complete("i2v data p").split() == ["preview"]
    assert "--stage1-run" in complete("i2v train --sta").split()


def test_verbs_that_are_not_built_are_not_shown(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    assert "train" in shown
    assert "export" not in shown


def test_colour_appears_on_a_terminal_only(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["--help"])
    assert "\x1b[" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    main(["--help"])
    assert "\x1b[" not in capsys.readouterr().out
