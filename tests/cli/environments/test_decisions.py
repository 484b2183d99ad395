"""Decisions about environments, and the locks that ship."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from i2v_cli import environment_plan, locations
from i2v_cli.environment_plan import Plan
from i2v_cli.registry import ENVS
from pipelines.events import UserError

LOCKS = {name: (locations.envs_dir() / f"{name}.lock").read_text("utf-8") for name in ENVS}


@pytest.mark.parametrize("name", ENVS)
def test_a_lock_holds_what_is_asked_for_with_hashes_and_no_address(name: str) -> None:
    asked = environment_plan.parse_needs((locations.envs_dir() / f"{name}.in").read_text("utf-8"))
    locked = environment_plan.locked_versions(LOCKS[name])
    assert {need.package for need in asked} <= locked.keys()
    assert "://" not in LOCKS[name]
    for entry in re.split(r"^(?=[a-z0-9])", LOCKS[name], flags=re.MULTILINE)[1:]:
        assert re.match(r"[a-z0-9][\w.-]*==\S+", entry) and "--hash=sha256:" in entry, entry


def test_what_environments_share_has_one_version_everywhere() -> None:
    locked = [environment_plan.locked_versions(text) for text in LOCKS.values()]
    # One environment needs an older setuptools.
    names = {name for versions in locked for name in versions} - {"setuptools"}
    for name in names:
        found = {frozenset(versions[name]) for versions in locked if name in versions}
        assert len(found) == 1, (name, found)


def test_the_environment_without_pkg_resources_replacement_keeps_the_old_setuptools() -> None:
    (version,) = environment_plan.locked_versions(LOCKS["fvd"])["setuptools"]
    assert int(version.split(".")[0]) < 82


@pytest.mark.parametrize("name", [name for name, row in ENVS.items() if row.has_torch])
def test_another_build_of_torch_keeps_every_other_package_hashed(name: str) -> None:
    hashed, by_version = environment_plan.install_steps(LOCKS[name], "cpu")
    assert "--require-hashes" in hashed.arguments and "cpu" in by_version.arguments
    kept = environment_plan.locked_versions(hashed.requirements)
    left_out = environment_plan.locked_versions(LOCKS[name]).keys() - kept.keys()
    assert {"torch", "torchvision"} <= left_out
    assert all(re.match("torch|triton|nvidia-|cuda-", package) for package in left_out)
    assert re.fullmatch(r"torch==\S+\ntorchvision==\S+\n", by_version.requirements)


def test_the_place_depends_on_lock_python_and_torch() -> None:
    plans = [
        Plan("main", lock, python, torch, Path("/home"))
        for lock in ("a", "b")
        for python in ("3.11", "3.12")
        for torch in ("default", "cpu")
    ]
    assert len({plan.env_dir for plan in plans}) == 8
    assert plans[0].env_dir == Plan("main", "a", "3.11", "default", Path("/home")).env_dir


def test_a_module_is_named_beside_its_package_where_the_names_differ() -> None:
    needs = environment_plan.parse_needs("# text\n\nPyYAML>=6  # import yaml\nyt-dlp\n")
    assert [(need.package, need.module) for need in needs] == [
        ("pyyaml", "yaml"),
        ("yt-dlp", "yt_dlp"),
    ]


def test_a_worker_sees_the_users_variables_but_none_of_another_python() -> None:
    kept = {"PATH": "/bin", "HOME": "/root", "CUDA_VISIBLE_DEVICES": "1", "PYTORCH_ALLOC": "x"}
    kept |= {"HTTPS_PROXY": "p", "LD_LIBRARY_PATH": "/lib", "UVICORN_PORT": "1", "I2V_HOME": "h"}
    python_leaks = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "PIPENV_ACTIVE")
    leaks = (*python_leaks, "PIP_TARGET", "UV_PYTHON", "UV", "__PYVENV_LAUNCHER__")
    assert environment_plan.without_leaks(kept | dict.fromkeys(leaks, "x")) == kept


def test_the_installer_sees_the_users_package_sources_and_nothing_else_of_theirs() -> None:
    sources = {
        "UV_DEFAULT_INDEX": "mine",
        "UV_INDEX_COMPANY_PASSWORD": "secret",
        "UV_CACHE_DIR": "/cache",
        "UV_HTTP_TIMEOUT": "9",
        "SSL_CERT_FILE": "/cert",
    }
    noise = dict.fromkeys(("UV_CONSTRAINT", "UV_SYSTEM_PYTHON", "UV_PRERELEASE", "PYTHONPATH"), "x")
    seen = environment_plan.for_creation(sources | noise | {"PIP_INDEX_URL": "other"})
    assert sources.items() <= seen.items()
    assert not noise.keys() & seen.keys() and "other" not in seen.values()


def test_what_only_pip_was_told_is_passed_on() -> None:
    seen = environment_plan.for_creation({"PIP_INDEX_URL": "mine", "PIP_CERT": "/cert"})
    assert (seen["UV_DEFAULT_INDEX"], seen["SSL_CERT_FILE"]) == ("mine", "/cert")


def test_pips_folder_of_wheels_is_passed_on_only_where_there_is_no_index() -> None:
    wheels = {"PIP_FIND_LINKS": "/wheels"}
    assert "UV_FIND_LINKS" not in environment_plan.for_creation(wheels)
    seen = environment_plan.for_creation(wheels | {"PIP_NO_INDEX": "1"})
    assert (seen["UV_FIND_LINKS"], seen["UV_NO_INDEX"]) == ("/wheels", "1")


@pytest.mark.parametrize(
    ("is_usable", "is_users_choice", "expected"),
    [(True, False, "/cache"), (False, False, "/home/uv-cache"), (False, True, "/cache")],
)
def test_the_cache_is_the_users_unless_hard_links_from_it_cannot_work(
    is_usable: bool, is_users_choice: bool, expected: str
) -> None:
    chosen = environment_plan.choose_cache(
        Path("/cache"), Path("/home"), is_usable=is_usable, is_users_choice=is_users_choice
    )
    assert chosen == Path(expected)


def test_files_are_copied_only_where_they_cannot_be_linked() -> None:
    assert environment_plan.link_arguments({}, same_disk=True) == ()
    assert environment_plan.link_arguments({}, same_disk=False) == ("--link-mode", "copy")
    assert environment_plan.link_arguments({"UV_LINK_MODE": "clone"}, same_disk=False) == ()


@pytest.mark.parametrize("choice", ["default", "auto", "cpu", "cu126", "cu118", "rocm6.4", "xpu"])
def test_known_builds_of_torch_are_taken(choice: str) -> None:
    assert environment_plan.check_torch_choice(choice, ENVS["main"]) == choice


@pytest.mark.parametrize("choice", ["", "gpu", "cuda", "cu", "cpu -r /etc/passwd"])
def test_other_words_for_torch_are_refused(choice: str) -> None:
    with pytest.raises(UserError):
        environment_plan.check_torch_choice(choice, ENVS["main"])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("error: Failed to download `a==1`\n  cause: Hash mismatch for `a==1`", "was locked"),
        ("error: Failed to fetch: x\n  cause: dns error", "cannot be reached"),
        ("error: x\n  cause: tcp connect error\n  cause: Connection refused", "be reached"),
        ("error: x\n  cause: No space left on device (os error 28)", "disk filled up"),
        ("error: x\n  cause: Permission denied (os error 13)", "cannot write"),
        ("error: `a==1` has no wheels with a matching Python ABI tag", "do not exist"),
        ("thread 'main' panicked", "could not be made"),
    ],
)
def test_what_the_installer_says_becomes_a_line_with_a_way_out(said: str, message: str) -> None:
    output = f"Downloading hash-mismatch (3.1MiB)\n{said}"
    error = environment_plan.explain_failure("main", output, Path("/log"))
    assert message in error.message and error.exit_code == 3
    assert list(error.details)[-1] == "to fix" and error.details["whole log"] == "/log"
