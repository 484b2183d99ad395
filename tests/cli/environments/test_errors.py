"""Whatever stops a creation ends in a line with a way out, and leaves nothing half-made."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

import pytest

from i2v_cli import environment_build, environments, interpreters
from pipelines.events import EXIT_USAGE
from tests.cli.environments.world import (
    PLAIN,
    TORCH,
    Recorder,
    World,
    fails,
    script,
)


def test_a_file_that_is_not_the_locked_one_is_refused(world: World) -> None:
    line = world.wheel("tiny")
    world.lock(PLAIN, re.sub(r"sha256:.{8}", "sha256:00000000", line))
    error = fails(lambda: environments.create(PLAIN, reporter=Recorder()))
    assert "not the file that was locked" in error.message
    assert "tiny" in error.details["installer said"]
    assert Path(error.details["whole log"]).exists()
    assert environments.status(PLAIN).state == "absent"


def test_without_network_the_error_says_so_and_the_next_try_works(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as offline:
        offline.delenv("UV_FIND_LINKS")
        offline.delenv("UV_NO_INDEX")
        error = fails(lambda: environments.ensure(PLAIN, Recorder()))
    assert "cannot be reached" in error.message and "network" in error.details["to fix"]
    assert environments.ensure(PLAIN, Recorder())
    assert world.leftovers() == []


def test_an_index_that_does_not_answer_is_an_error_about_the_network(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_FIND_LINKS", "UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.delenv(name)
    # Port 9 of this machine, where nothing listens; told to pip only.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    error = fails(lambda: environments.ensure(PLAIN, Recorder()))
    assert "cannot be reached" in error.message
    assert "127.0.0.1:9" in error.details["installer said"]


def test_packages_that_do_not_exist_for_this_python_are_an_error_about_that(world: World) -> None:
    world.lock(PLAIN, world.wheel("tiny").replace("1.0", "7.0"))
    error = fails(lambda: environments.ensure(PLAIN, Recorder()))
    assert "do not exist for this Python" in error.message
    assert "i2v env use" in error.details["to fix"]


def test_an_environment_that_does_not_work_is_not_kept(world: World) -> None:
    world.lock(PLAIN, world.wheel("tiny", code="import nowhere_to_be_found"))
    error = fails(lambda: environments.ensure(PLAIN, Recorder()))
    assert "nowhere_to_be_found" in error.details["problem"]
    assert environments.status(PLAIN).state == "absent"


def test_a_home_that_cannot_be_written_is_named_with_the_way_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.root / "file").touch()
    monkeypatch.setenv("I2V_HOME", str(world.root / "file" / "home"))
    for call in (
        lambda: environments.ensure(PLAIN, Recorder()),
        lambda: environments.adopt(PLAIN, sys.executable) if _lock_nothing(world) else None,
    ):
        error = fails(call)
        assert "I2V_HOME" in error.details["to fix"]
        assert error.details["folder"] == str(world.root / "file" / "home")


def _lock_nothing(world: World) -> bool:
    world.lock(PLAIN)
    return True


def test_an_environment_that_exists_works_from_a_home_that_nobody_may_write(world: World) -> None:
    python = environments.ensure(PLAIN)
    for path in (world.home, world.envs_home):
        path.chmod(0o555)
    try:
        assert environments.ensure(PLAIN) == python
    finally:
        for path in (world.home, world.envs_home):
            path.chmod(0o755)


def test_a_disk_with_too_little_space_is_refused_before_anything_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = environment_build.shutil.disk_usage(world.root)._replace(free=2 * 10**9)
    monkeypatch.setattr(environment_build.shutil, "disk_usage", lambda _: usage)
    error = fails(lambda: environments.ensure(TORCH, Recorder()))
    assert error.details["free"].startswith("2.0 GB")
    assert "I2V_HOME" in error.details["to fix"]
    assert world.leftovers() == []
    assert environments.ensure(PLAIN, Recorder())


def test_a_disk_that_fills_up_is_an_error_about_the_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(environment_build, "write_json", full)
    error = fails(lambda: environments.ensure(PLAIN, Recorder()))
    assert error.message == "the disk is full" and world.leftovers() == [
        f"{environments._plan(PLAIN, environments.Choices()).env_dir.name}.log"
    ]


def test_progress_is_reported_and_an_unknown_failure_shows_the_installers_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = script(
        world.root / "failing-uv",
        'case "$1" in cache) echo "$UV_CACHE_DIR";; *) sleep 1.3; echo "error: odd"; exit 2;; esac',
    )
    monkeypatch.setattr(interpreters, "find_installer", lambda: str(failing))
    recorder = Recorder()
    error = fails(lambda: environments.ensure(PLAIN, recorder))
    assert recorder.tasks == [f"environment {PLAIN}"]
    assert error.details["installer said"] == "error: odd"


def test_an_unknown_name_gets_the_nearest_one(world: World) -> None:
    for call in (environments.ensure, environments.check, environments.remove):
        error = fails(lambda call=call: call("mian"), exit_code=EXIT_USAGE)
        assert error.details["did you mean"] == "main"


def test_a_damaged_record_of_choices_is_named(world: World) -> None:
    world.home.mkdir()
    (world.home / "envs.json").write_text("{", encoding="utf-8")
    error = fails(lambda: environments.status(PLAIN))
    assert error.details["file"] == str(world.home / "envs.json")
