"""Interpreters of the user's, removal, and the commands `i2v env ...`."""

from __future__ import annotations

import json

import pytest

from i2v_cli import app, environments
from pipelines.events import EXIT_ENVIRONMENT, EXIT_USAGE
from pipelines.files import read_json
from tests.cli.environments.world import (
    OTHER_TORCH,
    PLAIN,
    TORCH,
    Recorder,
    World,
    fails,
    script,
)


def test_an_adopted_interpreter_is_used_until_that_is_undone(world: World) -> None:
    users = environments.ensure(OTHER_TORCH)
    adopted = environments.adopt(TORCH, str(users.parent.parent))
    assert adopted.state == "adopted"
    assert environments.ensure(TORCH) == environments.status(TORCH).python == users
    assert environments.check(TORCH).problems == ()
    error = fails(lambda: environments.create(TORCH), exit_code=EXIT_USAGE)
    assert error.details["to undo"] == f"i2v env use {TORCH} --default"
    assert environments.remove(TORCH) == () and users.exists()
    assert environments.use_own(TORCH).state == "absent"
    assert environments.ensure(TORCH) != users


def test_an_adopted_interpreter_may_have_other_versions(world: World) -> None:
    users = environments.ensure(OTHER_TORCH)
    world.lock(TORCH, world.wheel("tiny", "2.0"))
    assert environments.adopt(TORCH, str(users)).state == "adopted"


def test_an_adopted_interpreter_that_is_gone_is_an_error_with_the_way_back(world: World) -> None:
    users = environments.ensure(OTHER_TORCH)
    environments.adopt(TORCH, str(users))
    environments.remove(OTHER_TORCH)
    assert environments.status(TORCH).state == "broken"
    error = fails(lambda: environments.ensure(TORCH))
    assert error.details["to fix"] == f"i2v env use {TORCH} --default"


def _answer(python: list[int], versions: dict[str, str]) -> str:
    return f"echo '{json.dumps({'python': python, 'failed': {}, 'versions': versions})}'"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (_answer([3, 10, 12], {}), "Python 3.10.12 is older than 3.11"),
        (_answer([3, 12, 1], {"pydantic": "1.10.2"}), "pydantic 1.10.2 is not version 2"),
        ("echo no such option >&2; exit 2", "it does not run: no such option"),
        ("echo hello", "it does not run"),
    ],
    ids=["too old", "other pydantic", "does not start", "is no python"],
)
def test_an_interpreter_that_cannot_serve_is_refused(
    world: World, answer: str, problem: str
) -> None:
    world.lock(TORCH, world.wheel("pydantic", "2.5"))
    users = script(world.root / "python", answer)
    error = fails(lambda: environments.adopt(TORCH, str(users)))
    assert error.details["problem"].startswith(problem)
    assert environments.status(TORCH).state == "absent"


def test_an_interpreter_without_a_package_is_refused_with_the_command_to_add_it(
    world: World,
) -> None:
    users = environments.ensure(OTHER_TORCH)
    world.lock(TORCH, world.wheel("tiny"), world.wheel("absent"), world.wheel("away"))
    error = fails(lambda: environments.adopt(TORCH, str(users)))
    assert error.details["to fix"] == f"{users} -m pip install absent away"


def test_an_interpreter_that_is_not_there_is_refused(world: World) -> None:
    error = fails(lambda: environments.adopt(TORCH, str(world.root / "python")))
    assert error.details["looked for"] == str(world.root / "python")


def test_another_build_of_torch_is_installed_by_version_and_remembered(world: World) -> None:
    tiny, torch = world.wheel("tiny"), world.wheel("torch", "2.0")
    world.lock(TORCH, tiny, torch, world.wheel("triton"), asked=("tiny", "torch"))
    usual = environments.create(TORCH)
    world.wheel("torch", "2.0+cpu")
    other = environments.create(TORCH, torch="cpu")
    assert other.env_dir != usual.env_dir and other.stamp and other.stamp.torch == "cpu"
    assert environments.check(TORCH).versions == {"tiny": "1.0", "torch": "2.0+cpu"}
    assert other.python and not world.imports(other.python, "triton")
    assert environments.ensure(TORCH) == other.python
    assert environments.create(TORCH, torch="default").env_dir == usual.env_dir
    assert environments.ensure(TORCH) == usual.python


def test_an_extra_is_joined_to_an_environment_and_remembered(world: World) -> None:
    world.lock("cluster", world.wheel("tiny"), world.wheel("swarm"))
    usual = environments.create(PLAIN)
    joined = environments.create(PLAIN, extras=["cluster"])
    assert joined.env_dir != usual.env_dir
    assert environments.check(PLAIN).versions == {"tiny": "1.0", "swarm": "1.0"}
    assert environments.ensure(PLAIN) == joined.python
    assert environments.create(PLAIN).env_dir == joined.env_dir, "as it was chosen"
    assert environments.create(PLAIN, extras=[]).env_dir == usual.env_dir


def test_an_extra_that_there_is_not_is_refused(world: World) -> None:
    error = fails(lambda: environments.create(PLAIN, extras=["clusters"]), exit_code=EXIT_USAGE)
    assert error.details["did you mean"] == "cluster"


def test_remove_deletes_this_versions_environment_and_older_ones_on_request(world: World) -> None:
    old = environments.create(PLAIN).env_dir
    world.lock(PLAIN, world.wheel("tiny", "2.0"))
    new = environments.create(PLAIN).env_dir
    other = environments.create(TORCH).env_dir
    assert environments.remove(PLAIN) == (new,)
    assert environments.remove(PLAIN) == ()
    assert environments.remove(PLAIN, older=True) == (old,)
    assert [path.name for path in world.envs_home.glob("*-*")] == [other and other.name]


def test_removing_where_nothing_was_ever_made_does_nothing(world: World) -> None:
    assert environments.remove(PLAIN) == () and not world.home.exists()


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    exit_code = app.main(["env", *arguments])
    said = capsys.readouterr()
    return exit_code, said.out, said.err


def test_the_commands_make_show_check_and_remove(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code, out, _ = _run(capsys, "create", PLAIN, TORCH)
    assert exit_code == 0
    assert out.split() == [str(environments.status(name).env_dir) for name in (PLAIN, TORCH)]
    exit_code, out, _ = _run(capsys, "list", "--json")
    shown = {row["name"]: row["state"] for row in json.loads(out)["result"]["environments"]}
    assert shown == {"data": "ready", "main": "ready", "flow": "absent", "fvd": "absent"}
    assert _run(capsys, "check")[:2] == (0, f"{PLAIN}: works\n{TORCH}: works\n")
    assert _run(capsys, "python", PLAIN)[1].strip() == str(environments.status(PLAIN).python)
    assert _run(capsys, "remove", "all")[0] == 0
    assert _run(capsys, "check")[:2] == (0, "no environment has been made yet\n")


def test_check_repairs_on_request_and_else_ends_with_code_3(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    python = environments.ensure(PLAIN, Recorder())
    next(python.parent.parent.glob("lib/*/site-packages/tiny.py")).unlink()
    exit_code, out, err = _run(capsys, "check", PLAIN)
    assert exit_code == EXIT_ENVIRONMENT and "No module named 'tiny'" in out
    assert f"i2v env check {PLAIN} --repair" in err
    assert _run(capsys, "check", PLAIN, "--repair")[0] == 0
    assert environments.check(PLAIN).problems == ()


def test_use_adopts_and_undoes(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    users = environments.ensure(OTHER_TORCH, Recorder())
    assert _run(capsys, "use", TORCH, str(users))[:2] == (0, f"{TORCH} is {users}\n")
    assert read_json(world.home / "envs.json")["adopted"] == {TORCH: str(users)}
    assert _run(capsys, "use", TORCH)[0] == EXIT_USAGE
    assert _run(capsys, "use", TORCH, "--default")[0] == 0
    assert read_json(world.home / "envs.json")["adopted"] == {}


def test_a_build_of_torch_for_an_environment_without_torch_is_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code, _, err = _run(capsys, "create", PLAIN, "--torch", "cpu")
    assert exit_code == EXIT_USAGE and "no torch" in err
    exit_code, _, err = _run(capsys, "create", TORCH, "--torch", "gpu")
    assert exit_code == EXIT_USAGE and "cu126" in err
