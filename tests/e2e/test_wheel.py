"""The program installed from a wheel, away from any checkout, does what the checkout does."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `i2v` of a fresh virtual environment that holds the built wheel and nothing else of ours.

    The wheel's dependencies are lent by the environment that runs this test: nothing is fetched.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel")
    subprocess.run([*build, "--directory", str(folder)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    install = (str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    subprocess.run([*install, str(wheel)], check=True)
    packages = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    lent = {sysconfig.get_path("purelib"), *site.getsitepackages()}
    # As a path only: the .pth files of those folders, which lead to this checkout, stay unread.
    (Path(packages) / "lent.pth").write_text("\n".join(sorted(lent)), encoding="utf-8")
    return folder / "venv" / "bin" / "i2v"


def i2v(program: Path, folder: Path, *words: str) -> str:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"I2V_DATA": str(folder / "data"), "I2V_RUNS": str(folder / "runs")}
    ended = subprocess.run(
        [str(program), *words],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_an_installed_wheel_runs_its_own_code_and_presets(installed: Path, tmp_path: Path):
    python = installed.with_name("python")
    where = "import i2v_cli, pipelines; print(i2v_cli.__file__, pipelines.__file__)"
    found = subprocess.run([str(python), "-c", where], cwd=tmp_path, capture_output=True, text=True)
    assert str(ROOT) not in found.stdout
    assert found.stdout.count(str(installed.parent.parent)) == 2
    assert "Image-to-video" in i2v(installed, tmp_path, "--help")
    planned = i2v(installed, tmp_path, "demo", "--dry-run", "--preset", "tiny")
    assert "i2v train cinn --stage 1 --preset tiny" in planned


def test_an_installed_wheel_makes_and_prepares_data_in_its_environment(
    installed: Path, tmp_path: Path
):
    made = ("download", "synthetic", "--kinds", "clouds", "--preset", "tiny", "--size", "32")
    i2v(installed, tmp_path, *made)
    i2v(installed, tmp_path, "extract-frames", "synthetic", "--size", "32")
    assert (tmp_path / "data/synthetic/prepared/32px/index.json").is_file()
    assert "variant 32px" in i2v(installed, tmp_path, "data", "info", "synthetic")
