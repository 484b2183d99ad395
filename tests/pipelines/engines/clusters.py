"""Machines for the tests of engines: fixtures for the conftest.py of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import pytest

from tests.pipelines.engines import slurm

ENGINES = ("ray", "slurm")
MEMORY = 80_000_000
"""Bytes of a node's store."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of a Ray cluster on this machine, which Ray finds by its variable."""
    pytest.importorskip("ray", reason="the optional package ray is not installed")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": MEMORY}
    # its processes would wait for all others of a busy machine
    with mock.patch.dict(os.environ, {"RAY_worker_niceness": "0"}):
        made = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        try:
            made.add_node(**node)
            made.wait_for_nodes()
            os.environ["RAY_ADDRESS"] = made.address
            yield made
        finally:
            made.shutdown()


@pytest.fixture(scope="module")
def array(tmp_path_factory) -> Iterator[None]:
    """A SLURM of this machine; where it is not installed, submitit's processes in its place."""
    pytest.importorskip("submitit", reason="the optional package submitit is not installed")
    with ExitStack() as stack:
        variables = {"I2V_SLURM": "cluster=local"}
        if slurm.is_installed():
            variables = stack.enter_context(slurm.slurm(tmp_path_factory.mktemp("slurm") / "one"))
        stack.enter_context(mock.patch.dict(os.environ, variables))
        yield


@pytest.fixture(params=ENGINES)
def engine(request) -> str:
    """An engine whose machines are there."""
    request.getfixturevalue("cluster" if request.param == "ray" else "array")
    return request.param
