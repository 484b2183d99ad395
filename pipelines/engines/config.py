"""Which process of how many this one is, and which engine shares out a data job. Light.

torchrun and srun say it in variables. torchrun: RANK, WORLD_SIZE, LOCAL_RANK and, for the address
at which all meet, MASTER_ADDR and MASTER_PORT. srun: SLURM_PROCID, SLURM_STEP_NUM_TASKS and
SLURM_LOCALID; the nodes are in SLURM_STEP_NODELIST. `--devices` starts its processes with
torchrun's variables and DEVICE_VARIABLE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

Engine = Literal["local", "ray", "slurm"]

Parts = Annotated[
    int, Field(ge=1, le=1000, description="shards that another engine than local is given")
]

DEVICE_VARIABLE = "I2V_PROCESS_DEVICE"
_SLURM_PORTS = range(20_000, 40_000)


@dataclass(frozen=True)
class Place:
    """This process among those of one training.

    rank: its number of `count`.  local_rank: its number on this machine.  address, port: where all
    meet.  device: its device; None: chosen by local_rank.
    """

    rank: int
    count: int
    local_rank: int
    address: str
    port: int
    device: str | None = None


def place_in(variables: Mapping[str, str]) -> Place | None:
    """The place that torchrun's or srun's variables tell; None for a process on its own."""
    if int(variables.get("WORLD_SIZE", "1")) > 1 and "RANK" in variables:
        return Place(
            rank=int(variables["RANK"]),
            count=int(variables["WORLD_SIZE"]),
            local_rank=int(variables.get("LOCAL_RANK", "0")),
            address=variables.get("MASTER_ADDR", "127.0.0.1"),
            port=int(variables.get("MASTER_PORT", "29500")),
            device=variables.get(DEVICE_VARIABLE),
        )
    # not SLURM_NTASKS: that one is also set in a batch script, which is one process
    if int(variables.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in variables:
        nodes = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST", "")
        job, step = variables.get("SLURM_JOB_ID", "0"), variables.get("SLURM_STEP_ID", "0")
        offset = (int(job) * 7 + int(step)) % len(_SLURM_PORTS)
        return Place(
            rank=int(variables["SLURM_PROCID"]),
            count=int(variables["SLURM_STEP_NUM_TASKS"]),
            local_rank=int(variables.get("SLURM_LOCALID", "0")),
            address=variables.get("MASTER_ADDR") or first_node(nodes),
            port=int(variables.get("MASTER_PORT", _SLURM_PORTS[offset])),
        )
    return None


def _shard(text: str) -> str:
    shard_of(text)
    return text


Shard = Annotated[str, AfterValidator(_shard)]
"""'i/n': the i-th of n equal parts of a job's items, counted from 0."""


def shard_of(text: str) -> tuple[int, int]:
    """The two numbers of a shard. Raises ValueError."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise ValueError(f"must be i/n with i from 0 to n - 1, such as 0/4, not '{text}'")
    return int(found[1]), int(found[2])


def first_node(nodes: str) -> str:
    """The first name of SLURM's short form: 'gpu[07-09,12],cpu1' gives gpu07."""
    found = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)
    return "127.0.0.1" if found is None else "".join(part or "" for part in found.groups())
