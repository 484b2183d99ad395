"""Decisions about isolated environments, as functions of data: no disk, no network.

`environments.py` acts on them. An environment is a folder named after what is in it, so that two
versions of this program, two Pythons or two builds of torch never share one.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from i2v_cli.registry import Environment
from pipelines.events import EXIT_ENVIRONMENT, EXIT_USAGE, UserError
from pipelines.schema import Config

DEFAULT_TORCH = "default"
HASH_LENGTH = 12
_WITH_SHARED_TORCH_GB = 0.5
_WITH_CPU_TORCH_GB = 1.5
_TORCH_CHOICE = re.compile(r"default|auto|cpu|cu\d{2,3}|rocm[\d.]+|xpu")
_TORCH_PACKAGES = re.compile(r"torch|torchvision|triton|(nvidia|cuda)-.*")

# What one interpreter or installer says to another through the environment. A worker gets none of
# it: its interpreter must see its own packages only.
_LEAKING = re.compile(
    r"(PYTHON|VIRTUAL_ENV|CONDA|_CONDA|_CE_|PIP_|PIPX_|PIPENV_|POETRY_|PDM_|HATCH_|UV_|UV$)"
    r"|__PYVENV_LAUNCHER__$"
)
# Of that, what says where the user's own packages, certificates and caches are. Creation keeps it.
_SOURCE = re.compile(
    r"UV_((DEFAULT_)?INDEX(_.*)?|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|KEYRING_PROVIDER|CREDENTIALS_DIR"
    r"|NATIVE_TLS|SYSTEM_CERTS|INSECURE_HOST|OFFLINE|CACHE_DIR|LINK_MODE|CONFIG_FILE|NO_CONFIG"
    r"|CONCURRENT_.*|HTTP_.*|REQUEST_TIMEOUT)"
)
# uv does not read pip's variables, and some users have told only pip where their packages are.
_FROM_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
}
# A folder of wheels is passed on for those who have no index at all. Beside an index it would come
# first, and what it holds may be other builds of the locked versions.
_FROM_PIP_OFFLINE = {"PIP_FIND_LINKS": "UV_FIND_LINKS", "PIP_NO_INDEX": "UV_NO_INDEX"}
_INDEX_VARIABLES = re.compile(r"UV_((DEFAULT_)?INDEX(_URL)?|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX)")


class Stamp(Config, extra="ignore"):
    """What a finished environment says about itself; written last.

    Unknown keys are let through: a newer version of this program may use the same folder.
    """

    name: str
    lock_sha256: str
    python: str
    torch: str
    created: str
    seconds: float
    size_bytes: int
    tool_version: str


@dataclass(frozen=True)
class Plan:
    """What an environment must be: its lock, its Python, its build of torch, its folder."""

    name: str
    lock: str
    python: str
    torch: str
    envs_home: Path

    @property
    def lock_sha256(self) -> str:
        """The hash of the lock file's text."""
        return hashlib.sha256(self.lock.encode()).hexdigest()

    @property
    def env_dir(self) -> Path:
        """Where it is, once it is complete."""
        identity = "\n".join((self.lock_sha256, self.python, self.torch))
        return (
            self.envs_home
            / f"{self.name}-{hashlib.sha256(identity.encode()).hexdigest()[:HASH_LENGTH]}"
        )


@dataclass(frozen=True)
class Need:
    """A package that an environment is asked for, and the module that proves it is there."""

    package: str
    module: str


@dataclass(frozen=True)
class Step:
    """One call of the installer: its arguments, and the requirements file that it reads."""

    arguments: tuple[str, ...]
    requirements: str = ""


def parse_needs(text: str) -> tuple[Need, ...]:
    """The packages of an `.in` file.

    The module has the package's name unless a comment `# import NAME` says otherwise.
    """
    needs = []
    for line in text.splitlines():
        requirement, _, comment = line.partition("#")
        match = re.match(r"[A-Za-z0-9][\w.-]*", requirement.strip())
        if match:
            module = re.search(r"\bimport ([\w.]+)", comment)
            package = match[0].lower()
            needs.append(Need(package, module[1] if module else package.replace("-", "_")))
    return tuple(needs)


def locked_versions(lock: str) -> dict[str, set[str]]:
    """Package -> versions in a lock; some have one for each range of Python versions."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9][\w.-]*)==([^\s;\\]+)", lock, re.MULTILINE):
        versions.setdefault(name, set()).add(version)
    return versions


def joined(lock: str, extra: str) -> str:
    """A lock with those packages of another that it does not have; one set of versions fits all."""
    known = locked_versions(lock)
    entries = re.split(r"^(?=[a-z0-9])", extra, flags=re.MULTILINE)
    return lock + "".join(entry for entry in entries if entry.split("==")[0] not in known)


def install_steps(lock: str, torch: str) -> tuple[Step, ...]:
    """How a lock is installed.

    The registry's own build of torch comes with its hashes. Another build has other files, so torch
    and what only it needs are then installed by version, and everything else with its hashes.
    `--no-build`: nothing is ever compiled on the user's machine.
    """
    hashed = ("pip", "sync", "--require-hashes", "--no-build")
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    of_torch = [entry for entry in entries if _TORCH_PACKAGES.fullmatch(entry.split("==")[0])]
    if torch == DEFAULT_TORCH or not of_torch:
        return (Step(hashed, lock),)
    rest = "".join(entry for entry in entries if entry not in of_torch)
    pins = [re.split(r"[\s;\\]", entry)[0] for entry in of_torch]
    wanted = "".join(f"{pin}\n" for pin in pins if pin.startswith(("torch==", "torchvision==")))
    by_version = ("pip", "install", "--no-build", "--torch-backend", torch, "-r")
    return (Step(hashed, rest), Step(by_version, wanted))


def check_torch_choice(choice: str, environment: Environment) -> str:
    """The choice of --torch, refused where it makes no sense."""
    if not _TORCH_CHOICE.fullmatch(choice):
        raise UserError(
            f"unknown build of torch '{choice}'",
            {"known": "default, cpu, auto, cu126 (or another CUDA version), rocm6.4, xpu"},
            EXIT_USAGE,
        )
    if choice != DEFAULT_TORCH and not environment.has_torch:
        raise UserError(
            "--torch makes no difference here: this environment has no torch",
            {"to fix": "leave --torch out"},
            EXIT_USAGE,
        )
    return choice


def stamp_problem(stamp: Stamp, plan: Plan) -> str | None:
    """What a stamp says that does not fit the plan, or None."""
    for label, found, wanted in (
        ("lock file", stamp.lock_sha256, plan.lock_sha256),
        ("Python", stamp.python, plan.python),
        ("build of torch", stamp.torch, plan.torch),
    ):
        if found != wanted:
            return f"it was made for another {label}"
    return None


def without_leaks(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that a worker may see."""
    return {name: value for name, value in variables.items() if not _LEAKING.match(name)}


def for_creation(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that the installer may see: no leaks, but the user's own package sources."""
    kept = without_leaks(variables)
    kept |= {name: value for name, value in variables.items() if _SOURCE.fullmatch(name)}
    if not any(_INDEX_VARIABLES.fullmatch(name) for name in variables):
        table = _FROM_PIP_OFFLINE if variables.get("PIP_NO_INDEX") else _FROM_PIP
        for pip_name, uv_name in table.items():
            if variables.get(pip_name):
                kept[uv_name] = variables[pip_name]
    if variables.get("PIP_CERT"):
        kept.setdefault("SSL_CERT_FILE", variables["PIP_CERT"])
    # No download of interpreters, no colour codes in the log, no project settings of whatever
    # folder the command was typed in.
    return kept | {"UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1", "UV_NO_PROJECT": "1"}


def choose_cache(user_cache: Path, home: Path, *, is_usable: bool, is_users_choice: bool) -> Path:
    """The download cache: the user's own, unless hard links from it cannot work.

    is_usable: it can be written and lies on the same file system as home.
    """
    return user_cache if is_users_choice or is_usable else home / "uv-cache"


def link_arguments(variables: Mapping[str, str], *, same_disk: bool) -> tuple[str, ...]:
    """How files get from the cache into an environment: by hard links, free, where they work."""
    if same_disk or "UV_LINK_MODE" in variables:
        return ()
    return ("--link-mode", "copy")


def needed_gb(environment: Environment, torch: str, *, shares_torch: bool) -> float:
    """Disk space that creation takes, in GB. Environments share torch's files by hard links."""
    if shares_torch:
        return min(_WITH_SHARED_TORCH_GB, environment.size_gb)
    if torch == "cpu":
        return min(_WITH_CPU_TORCH_GB, environment.size_gb)
    return environment.size_gb


def short_of_space(name: str, needed: float, free: float, home: Path) -> UserError | None:
    """The error when the environment does not fit on its disk; needed and free in GB."""
    if free >= needed:
        return None
    return UserError(
        f"not enough disk space for the environment '{name}'",
        {
            "needed": f"about {needed:.1f} GB",
            "free": f"{free:.1f} GB in {home}",
            "to fix": "free some space, or set I2V_HOME to a folder on a larger disk",
        },
        EXIT_ENVIRONMENT,
    )


def cannot_write(error: OSError, home: Path) -> UserError:
    """The error for a home folder that cannot be written, or a disk that is full."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "the disk is full"
        remedy = "free some space, or set I2V_HOME to a folder on a larger disk"
    else:
        what = "cannot write to i2v's own folder"
        remedy = "set I2V_HOME to a folder you can write to"
    return UserError(
        what,
        {"folder": home, "reason": error.strerror or error, "to fix": remedy},
        EXIT_ENVIRONMENT,
    )


# Words of the installer -> what happened, what to do. The first match wins, so causes that show up
# inside messages about the network come first.
_INSTALL_FAILURES = (
    (
        r"No space left|Disk quota",
        "the disk filled up while the environment '{name}' was made",
        "free some space, or set I2V_HOME to a folder on a larger disk; then run again",
    ),
    (
        r"Hash mismatch|hash.{0,20}mismatch",
        "a download for the environment '{name}' is not the file that was locked",
        "check what answers as your package index; if it is a mirror, tell its keeper",
    ),
    (
        r"network (was|is) disabled|error sending request|dns error|Failed to fetch"
        r"|Connection (refused|reset)|timed? ?out|Could not connect",
        "the packages for the environment '{name}' cannot be reached",
        "connect to the network and run again; for a mirror set UV_DEFAULT_INDEX, "
        "or use an interpreter you have: i2v env use {name} /path/to/python",
    ),
    (
        r"Permission denied|Read-only file system",
        "cannot write while making the environment '{name}'",
        "set I2V_HOME (and UV_CACHE_DIR, if you set it) to folders you can write to",
    ),
    (
        r"No solution found|no wheels? (are|is|with)|has no wheels|no usable wheels",
        "some packages of the environment '{name}' do not exist for this Python or machine",
        "install i2v with another Python (3.11 to 3.13), "
        "or use an interpreter you have: i2v env use {name} /path/to/python",
    ),
)


def explain_failure(name: str, output: str, log_path: Path | None) -> UserError:
    """What went wrong, from what the installer said last. log_path: where the rest of it is."""
    # Its messages start with "error:"; what comes before is the list of downloads.
    start = output.rfind("error:")
    lines = output[max(start, 0) :].strip().splitlines()
    said = "\n".join(lines[:8] if start >= 0 else lines[-8:])
    details: dict[str, object] = {"installer said": said}
    if log_path:
        details["whole log"] = log_path
    message = "the environment '{name}' could not be made"
    remedy = "see above, then run again: i2v env create {name}"
    for pattern, what, to_do in _INSTALL_FAILURES:
        if start >= 0 and re.search(pattern, said, re.IGNORECASE):
            message, remedy = what, to_do
            break
    details["to fix"] = remedy.format(name=name)
    return UserError(message.format(name=name), details, EXIT_ENVIRONMENT)
