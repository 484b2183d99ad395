"""A SLURM of one node in a folder, from the programs of Debian's slurmctld, slurmd and munge."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "sinfo")
PATIENCE_S = 60.0
NUM_CPUS = 2
_PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def is_installed() -> bool:
    """Whether all programs are there."""
    return all(shutil.which(name, path=_PLACES) for name in PROGRAMS)


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; yields the variables by which SLURM's commands find it; all ends with the block."""
    folder.mkdir(parents=True)
    key_path = folder / "munge.key"
    key_path.touch(0o600)
    key_path.write_bytes(os.urandom(128))
    conf_path = folder / "slurm.conf"
    conf_path.write_text(_settings(folder))
    variables = {"SLURM_CONF": str(conf_path), "PATH": _PLACES}
    files = {
        "socket": "munge.socket",
        "pid-file": "munge.pid",
        "log-file": "munge.log",
        "seed-file": "munge.seed",
        "key-file": key_path.name,
    }
    munged = [f"--{name}={folder / value}" for name, value in files.items()]
    with ExitStack() as stack:
        for command in (
            ["munged", "--foreground", "--force", *munged],
            ["slurmctld", "-D", "-i", "-f", str(conf_path)],
            ["slurmd", "-D", "-N", socket.gethostname(), "-f", str(conf_path)],
        ):
            stack.enter_context(_running(command, folder, variables))
        _wait_until_idle(folder, variables)
        yield variables


def _settings(folder: Path) -> str:
    user, host = getpass.getuser(), socket.gethostname()
    ports = [_free_port() for _ in range(2)]
    lines = {
        "ClusterName": "one",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmUser": user,
        "SlurmdUser": user,
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder / 'munge.socket'}",
        "CredType": "cred/munge",
        "SlurmctldPort": ports[0],
        "SlurmdPort": ports[1],
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "AccountingStorageType": "accounting_storage/none",
        "MpiDefault": "none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU",
        "SlurmdParameters": "config_overrides",
        "ReturnToService": 2,
    }
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    node = f"NodeName={host} NodeAddr=127.0.0.1 CPUs={NUM_CPUS}"
    partition = f"PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP"
    return "\n".join([*(f"{k}={v}" for k, v in lines.items()), node, partition, ""])


@contextmanager
def _running(command: Sequence[str], folder: Path, variables: dict[str, str]) -> Iterator[None]:
    program = shutil.which(command[0], path=_PLACES)
    assert program is not None
    with (folder / f"{command[0]}.out").open("wb") as output:
        process = subprocess.Popen(
            [program, *command[1:]],
            env=os.environ | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_idle(folder: Path, variables: dict[str, str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        asked = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], env=os.environ | variables, capture_output=True, text=True
        )
        if asked.stdout.strip() == "idle":
            return
        if time.monotonic() > end:
            said = [(path.name, path.read_text()[-1500:]) for path in folder.glob("*.out")]
            raise RuntimeError(f"SLURM does not start: {asked.stdout} {asked.stderr} {said}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
