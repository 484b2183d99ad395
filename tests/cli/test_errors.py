"""Wrong command lines: the exact words, and the exit code, for every verb."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from i2v_cli.app import main
from tests.cli import golden

WRONG = {
    "i2v": [
        "i2v trian",
        "i2v export",
        "i2v eval-fvd",
        "i2v --nope",
        "i2v 'a\nb'",
    ],
    "download": [
        "i2v download",
        "i2v download synthetik",
        "i2v download weights/cinn-landscap",
        "i2v download h36m",
        "i2v download bair --subset tst",
        "i2v download bair --preset tiny",
        "i2v download bair --jobs 9",
        "i2v download synthetic --only x",
        "i2v download custom",
        "i2v download synthetic --size 33",
        "i2v download synthetic --size big",
        "i2v download synthetic --size",
        "i2v download synthetic --sise 64",
        "i2v download synthetic preset=huge",
        "i2v download synthetic nonsense",
        "i2v download synthetic --config nowhere.yaml",
    ],
    "extract-frames": [
        "i2v extract-frames",
        "i2v extract-frames syntetic",
        "i2v extract-frames ./nowhere",
        "i2v extract-frames plants",
        "i2v extract-frames synthetic",
        "i2v extract-frames clips --fit stretch",
        "i2v extract-frames clips --split 0.5 0.1 0.1",
        "i2v extract-frames clips --split 0.5 0.5",
        "i2v extract-frames clips --group-regex '('",
        "i2v extract-frames clips --fps 0 --stride 0",
        "i2v extract-frames clips --name 'a/b'",
    ],
    "estimate-flow": [
        "i2v estimate-flow",
        "i2v estimate-flow nothing",
        "i2v estimate-flow nothing --estimator rft-large",
        "i2v estimate-flow nothing --lags 5,x",
        "i2v estimate-flow nothing --lags 0",
        "i2v estimate-flow nothing --input-size 100 --estimator flownet2",
        "i2v estimate-flow nothing --files clips --estimator dis",
        "i2v estimate-flow nothing --estimator files",
        "i2v estimate-flow nothing --devices gpu",
        "i2v estimate-flow nothing --format png",
        "i2v estimate-flow nothing min_reliable=0.5",
    ],
    "data": [
        "i2v data lst",
        "i2v data info",
        "i2v data info nothing",
        "i2v data preview synthetic --videos 0",
    ],
    "train": [
        "i2v train",
        "i2v train cnin",
        "i2v train poke",
        "i2v train cinn",
        "i2v train cinn --stage 3",
        "i2v train cinn --stage 1 stage1.epoch=3",
        "i2v train cinn --stage 1 epochs=3",
        "i2v train cinn --stage 1 stage1.epochs=0",
        "i2v train cinn --stage 1 stage1.epochs=many",
        "i2v train cinn --stage 1 stage1.optimizer=3",
        "i2v train cinn --stage 1 stage1.encoder_channels=3",
        "i2v train cinn --stage 1 ae.norm=instanc",
        "i2v train cinn --stage 1 stage1.augment.hue=0.7 stage1.augment.huge=0.1",
        "i2v train cinn --stage 1 stage1.num_frames=8",
        "i2v train cinn --stage 1 stage1.epochs=[1",
        "i2v train cinn --stage 1 --seed -1",
        "i2v train cinn --stage 1 --device gpu",
        "i2v train cinn --stage 1 --max-steps 0",
        "i2v train cinn --stage 1 --name ../up",
        "i2v train cinn --stage 1 --resume",
        "i2v train cinn --stage 1 --ae-run x",
        "i2v train cinn --stage 1",
        "i2v train cinn --stage 1 --dataset syntetic",
        "i2v train cinn --stage 1 --config broken.yaml",
        "i2v train cinn --stage 1 --config list.yaml",
        "i2v train cinn --stage 1 --config wrong.yaml",
        "i2v train cinn --stage 1 --config wrongg.yaml",
    ],
    "sample": [
        "i2v sample",
        "i2v sample cinn",
        "i2v sample cinn --run nothing --image a.png",
        "i2v sample cinn --run clips --image a.png",
        "i2v sample cinn --image a.png --num 0",
        "i2v sample cinn --image a.png poke=3",
        "i2v sample shape-pose",
    ],
    "transfer": [
        "i2v transfer cinn --temperature 2",
        "i2v transfer cinn --source v.mp4",
    ],
    "eval": [
        "i2v eval",
        "i2v eval fvd --source clips",
        "i2v eval psrn --source clips",
        "i2v eval psnr",
        "i2v eval psnr --source nowhere",
        "i2v eval psnr --source clips --real nowhere",
        "i2v eval psnr --source clips --frames 1",
        "i2v eval psnr --source clips --preset x",
    ],
    "report": ["i2v report", "i2v report nothing"],
    "runs": ["i2v runs show", "i2v runs show nothing", "i2v runs rm nothing --yes"],
    "demo": ["i2v demo --config nowhere.yaml", "i2v demo stage1.epochs=0"],
}


@pytest.fixture
def files(here: Path) -> Path:
    """Some files that the command lines name."""
    (here / "clips").mkdir()
    (here / "broken.yaml").write_text("stage1: [1, 2\n")
    (here / "list.yaml").write_text("- 1\n- 2\n")
    (here / "wrong.yaml").write_text("stage2:\n  n_flows: 3\n  hidden_depth: -1\n")
    return here


@pytest.mark.parametrize("verb", WRONG)
def test_errors_are_worded_as_written_down(
    verb: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(words: list[str]) -> tuple[int, str, str]:
        code = main(words)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    text = golden.transcript(WRONG[verb], call)
    golden.check(f"errors/{verb}", golden.without_places(text, files))


@pytest.mark.parametrize("words", [("train", "cinn", "--stage", "1"), ("demo",)])
def test_a_preset_that_is_not_there_is_answered_with_the_nearest(
    words: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--preset", "dmo"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["error: cinn has no preset 'dmo'", "  did you mean   demo"]
    assert said[2].startswith("  there are      ")


def test_wrong_command_lines_write_nothing(files: Path) -> None:
    before = sorted(files.rglob("*"))
    for commands in WRONG.values():
        for command in commands:
            main(command.replace("'", "").split()[1:])
    assert sorted(files.rglob("*")) == before


def test_an_error_inside_the_program_shows_no_traceback_unless_asked(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("i2v_cli.run_folders.list_all", fail)
    assert main(["runs", "list"]) == 1
    assert "Traceback" not in (text := capsys.readouterr().err)
    assert "a bug of ours" in text
    assert main(["runs", "list", "--verbose"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_home_that_cannot_be_written_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "a file").touch()
    (here / "data" / "synthetic").mkdir(parents=True)
    monkeypatch.setenv("I2V_HOME", str(here / "a file"))
    monkeypatch.setattr("i2v_cli.environments.ensure", lambda name, reporter: Path("python"))
    assert main(["data", "info", "synthetic"]) == 1
    said = capsys.readouterr().err
    assert "cannot use a file or folder" in said
    assert str(here / "a file") in said
    assert "I2V_HOME" in said


def test_a_full_disk_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    (here / "data" / "synthetic").mkdir(parents=True)
    monkeypatch.setattr("i2v_cli.environments.ensure", lambda name, reporter: Path("python"))
    monkeypatch.setattr("i2v_cli.jobs.write_json", fail)
    assert main(["data", "info", "synthetic"]) == 1
    assert "error: no space left on the disk\n" in capsys.readouterr().err
