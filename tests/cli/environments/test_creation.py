"""Environments are made once, from their lock alone; what changed or broke is made again."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import pytest

from i2v_cli import environments
from i2v_cli.registry import ENVS
from tests.cli.environments.world import (
    OTHER_TORCH,
    PLAIN,
    TORCH,
    Recorder,
    World,
)


def test_the_first_call_makes_an_environment_and_the_second_only_finds_it(world: World) -> None:
    recorder = Recorder()
    assert environments.status(PLAIN).state == "absent"
    python = environments.ensure(PLAIN, recorder)
    assert world.imports(python, "tiny")
    assert recorder.lines[0].startswith(f"making the environment '{PLAIN}'")
    (world.root / "wheels" / "tiny-1.0-py3-none-any.whl").unlink()
    silent = Recorder()
    assert environments.ensure(PLAIN, silent) == environments.status(PLAIN).python == python
    assert silent.lines == [] and world.leftovers() == []


def test_the_stamp_says_what_the_environment_is(world: World) -> None:
    environments.ensure(PLAIN)
    stamp = environments.status(PLAIN).stamp
    assert stamp is not None
    lock = (world.root / "locks" / f"{PLAIN}.lock").read_bytes()
    assert stamp.lock_sha256 == hashlib.sha256(lock).hexdigest()
    assert f"-{sys.version_info.major}.{sys.version_info.minor}-" in stamp.python
    assert stamp.size_bytes > 100 and stamp.torch == "default"


def test_rebuilding_gives_a_new_environment_in_the_same_place(world: World) -> None:
    first = environments.create(PLAIN)
    assert first.env_dir
    (first.env_dir / "from-before").touch()
    second = environments.create(PLAIN, rebuild=True)
    assert second.env_dir == first.env_dir and second.state == "ready"
    assert not (first.env_dir / "from-before").exists() and world.leftovers() == []


def test_a_big_environment_is_announced_with_size_time_and_place(world: World) -> None:
    recorder = Recorder()
    environments.ensure(TORCH, recorder)
    row = ENVS[TORCH]
    assert re.search(
        rf"about {row.size_gb:.1f} GB in {world.envs_home}, about [\d.]+ min", recorder.lines[0]
    )


def test_a_second_environment_with_torch_is_announced_as_small(world: World) -> None:
    environments.ensure(TORCH)
    recorder = Recorder()
    environments.ensure(OTHER_TORCH, recorder)
    assert "about 0.5 GB" in recorder.lines[0]


def test_nothing_of_the_users_python_leaks_into_an_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.root / "leak").mkdir()
    (world.root / "leak" / "leaked.py").touch()
    (world.root / "leak" / "sitecustomize.py").write_text("raise SystemExit(9)", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(world.root / "leak"))
    monkeypatch.setenv("VIRTUAL_ENV", str(world.root))
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", str(world.root))
    monkeypatch.setenv("UV_CONSTRAINT", "/nowhere")
    python = environments.ensure(PLAIN)
    variables = environments.worker_environment()
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "UV_CACHE_DIR"} & variables.keys()
    assert variables["I2V_HOME"] == str(world.home)
    assert subprocess.run([python, "-c", "import tiny"], env=variables).returncode == 0
    assert subprocess.run([python, "-c", "import leaked"], env=variables).returncode == 1


def test_a_changed_lock_gives_another_environment_and_leaves_the_old_one(world: World) -> None:
    old = environments.ensure(PLAIN)
    world.lock(PLAIN, world.wheel("tiny", "2.0"))
    assert environments.status(PLAIN).state == "absent"
    new = environments.ensure(PLAIN)
    assert old != new and world.imports(old, "tiny")
    assert environments.status(PLAIN).older_dirs == (old.parent.parent,)


def test_an_environment_whose_python_is_gone_is_broken_and_is_made_again(world: World) -> None:
    python = environments.ensure(PLAIN)
    python.unlink()
    python.symlink_to(world.root / "uninstalled" / "python3")
    broken = environments.status(PLAIN)
    assert broken.state == "broken" and broken.problem == "the Python it was made with is gone"
    recorder = Recorder()
    assert world.imports(environments.ensure(PLAIN, recorder), "tiny")
    assert "broken" in recorder.lines[0]


@pytest.mark.parametrize("stamp", [None, "", "{}", '{"name": "data"'])
def test_an_environment_without_a_sound_stamp_is_made_again(
    world: World, stamp: str | None
) -> None:
    python = environments.ensure(PLAIN)
    (path,) = python.parent.parent.glob("*.json")
    path.unlink()
    if stamp is not None:
        path.write_text(stamp, encoding="utf-8")
    assert environments.status(PLAIN).state == "broken"
    environments.ensure(PLAIN)
    assert environments.status(PLAIN).state == "ready"


def test_check_finds_a_package_that_is_damaged_or_replaced(world: World) -> None:
    world.lock(PLAIN, world.wheel("tiny"), world.wheel("small"))
    python = environments.ensure(PLAIN)
    assert environments.check(PLAIN).problems == ()
    packages = next(python.parent.parent.glob("lib/*/site-packages"))
    (packages / "tiny.py").unlink()
    metadata = packages / "small-1.0.dist-info" / "METADATA"
    text = metadata.read_text(encoding="utf-8")
    metadata.unlink()  # its content is shared with the installer's cache by a hard link
    metadata.write_text(text.replace("1.0", "3.0"), encoding="utf-8")
    problems = environments.check(PLAIN).problems
    assert problems == (
        "tiny: ModuleNotFoundError: No module named 'tiny'",
        "small is 3.0, the lock has 1.0",
    )
    environments.create(PLAIN, rebuild=True)
    assert environments.check(PLAIN).problems == ()
