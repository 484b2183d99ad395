"""What ships is found in a checkout and in a wheel; the user's folders where they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from i2v_cli import locations
from pipelines.events import UserError


def test_a_checkout_has_its_files_beside_the_packages() -> None:
    root = Path(__file__).resolve().parents[2]
    assert locations.conf_dir() == root / "conf"
    assert locations.envs_dir() == root / "envs"
    assert locations.worker_path() == root / "pipelines" / "worker.py"


def test_an_installed_wheel_has_its_files_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "i2v_cli"
    (package / "resources" / "envs").mkdir(parents=True)
    # A package of another program, which is not ours.
    (tmp_path / "site-packages" / "envs").mkdir()
    (tmp_path / "site-packages" / "pipelines").mkdir()
    (tmp_path / "site-packages" / "pipelines" / "worker.py").touch()
    monkeypatch.setattr(locations, "PACKAGE_DIR", package)
    assert locations.envs_dir() == package / "resources" / "envs"
    assert locations.worker_path() == tmp_path / "site-packages" / "pipelines" / "worker.py"
    with pytest.raises(UserError, match="incomplete") as caught:
        locations.conf_dir()
    assert caught.value.exit_code == 3
    with pytest.raises(UserError, match="incomplete"):
        locations.shipped_text(locations.envs_dir() / "main.lock")


@pytest.mark.parametrize(
    ("variable", "function", "default"),
    [
        ("I2V_DATA", locations.data_root, "data"),
        ("I2V_RUNS", locations.runs_root, "runs"),
        ("I2V_HOME", locations.i2v_home, None),
    ],
)
def test_a_variable_moves_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, function, default: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "elsewhere")
    assert function() == tmp_path / "elsewhere"
    monkeypatch.setenv(variable, "~/mine")
    assert function() == Path.home() / "mine"
    for unset in (lambda: monkeypatch.setenv(variable, ""), lambda: monkeypatch.delenv(variable)):
        unset()
        assert function().is_absolute()
        assert default is None or function() == tmp_path / default
