"""Where things are: what ships with the program, and the user's own folders."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.events import EXIT_ENVIRONMENT, UserError

PACKAGE_DIR = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The folder of presets."""
    return _shipped("conf")


def envs_dir() -> Path:
    """The folder of lock files, `<name>.in` and `<name>.lock`."""
    return _shipped("envs")


def worker_path() -> Path:
    """The script that every environment runs, `pipelines/worker.py`."""
    path = PACKAGE_DIR.parent / "pipelines" / "worker.py"
    if not path.is_file():
        raise _incomplete(path)
    return path


def shipped_text(path: Path) -> str:
    """The text of a file that belongs to this program."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _incomplete(path) from error


def i2v_home() -> Path:
    """The folder of environments, job records and caches: $I2V_HOME, else the user's cache."""
    # Imported here: completion and help need the other functions of this module, not this one.
    from platformdirs import user_cache_dir

    return _root("I2V_HOME", Path(user_cache_dir("i2v", appauthor=False)))


def data_root() -> Path:
    """The folder of datasets: $I2V_DATA, else ./data."""
    return _root("I2V_DATA", Path("data"))


def runs_root() -> Path:
    """The folder of runs: $I2V_RUNS, else ./runs."""
    return _root("I2V_RUNS", Path("runs"))


def _root(variable: str, default: Path) -> Path:
    """An absolute path; links are kept, since users know folders by the names they gave them."""
    return Path(os.environ.get(variable) or default).expanduser().absolute()


def _shipped(name: str) -> Path:
    """A folder that lies beside the package in a checkout and inside it in an installed wheel."""
    candidates = (PACKAGE_DIR.parent / name, PACKAGE_DIR / "resources" / name)
    is_checkout = (PACKAGE_DIR.parent / "pyproject.toml").is_file()
    for candidate in candidates if is_checkout else candidates[1:]:
        if candidate.is_dir():
            return candidate
    raise _incomplete(candidates[-1])


def _incomplete(path: Path) -> UserError:
    return UserError(
        "this installation of i2v is incomplete",
        {"missing": path, "to fix": "install i2v again: pip install --force-reinstall i2v"},
        EXIT_ENVIRONMENT,
    )
