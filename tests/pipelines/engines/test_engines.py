from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import prepare
from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.prepare import extract_frames
from pipelines.engines import spread
from pipelines.engines.config import Place, first_node, place_in, shard_of
from pipelines.engines.shards import own_items
from pipelines.events import UserError, Work
from tests.pipelines.engines.slow import slow_extract

NUM_VIDEOS = 5


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Some arrays of frames, of different lengths, one of them too short."""
    folder = tmp_path_factory.mktemp("clips")
    draw = np.random.Generator(np.random.PCG64(0))
    for number in range(NUM_VIDEOS):
        frames = draw.integers(0, 256, (3 + 2 * number, 20, 24, 3), dtype=np.uint8)
        np.save(folder / f"clip{number}.npy", frames)
    return folder


def extracted(root: Path, clips: Path, **options) -> dict[str, bytes]:
    """The files of the prepared variant."""
    request = ExtractRequest.model_validate(
        {
            "data_root": root,
            "name": "x",
            "source": clips,
            "variant": "small",
            "size_px": 16,
            "min_frames": 5,
            "jobs": 1,
        }
        | options
    )
    extract_frames(request, Work())
    variant = root / "x" / "prepared" / "small"
    return {
        path.relative_to(variant).as_posix(): path.read_bytes()
        for path in variant.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_shards_in_any_order_and_a_last_call_give_the_bytes_of_one_call(tmp_path, clips):
    assert extracted(tmp_path / "sharded", clips, shard="1/2") == {}
    assert extracted(tmp_path / "sharded", clips, shard="0/2") == {}
    parts = tmp_path / "sharded" / "x" / "prepared" / "small.tmp" / "parts"
    assert len(list(parts.iterdir())) == NUM_VIDEOS
    whole = extracted(tmp_path / "whole", clips)
    assert whole
    assert extracted(tmp_path / "sharded", clips) == whole


def test_a_shard_of_another_plan_does_not_touch_what_others_are_making(tmp_path, clips):
    building = tmp_path / "x" / "prepared" / "small.tmp"
    extracted(tmp_path, clips, shard="0/2")
    with prepare.held_together(building, lambda is_alone: None):
        with pytest.raises(UserError, match="being prepared by another process"):
            extracted(tmp_path, clips, shard="1/2", stride=2)
        extracted(tmp_path, clips, shard="1/2")
    assert len(list((building / "parts").iterdir())) == NUM_VIDEOS


def test_shards_have_every_item_once():
    items = list(range(11))
    shards = [own_items(items, f"{i}/3") for i in range(3)]
    assert sorted(item for shard in shards for item in shard) == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert own_items(items, None) == items


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/2", "0/0"])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(ValueError, match="must be i/n"):
        shard_of(text)


def test_the_array_job_gives_the_bytes_of_the_local_engine(tmp_path, clips, monkeypatch):
    pytest.importorskip("submitit", reason="the optional package submitit is not installed")
    # without SLURM on this machine submitit runs the array's members as processes
    expected = extracted(tmp_path / "local", clips)
    assert "index.json" in expected
    assert extracted(tmp_path / "array", clips, engine="slurm", jobs=2) == expected


def test_what_an_array_job_raises_is_told(tmp_path):
    pytest.importorskip("submitit", reason="the optional package submitit is not installed")
    jobs = spread.run_on_slurm(int, [1], num_shards=1, folder=tmp_path, cluster="local")
    with pytest.raises(UserError, match="a job of the array failed") as caught:
        list(jobs)
    assert "TypeError" in caught.value.details["reason"]


def test_a_ray_node_that_is_lost_costs_its_items_only(tmp_path, clips, monkeypatch):
    ray = pytest.importorskip("ray", reason="the optional package ray is not installed")
    from ray.cluster_utils import Cluster

    begun_path = tmp_path / "begun.txt"
    begun_path.touch()
    monkeypatch.setenv("I2V_TEST_BEGUN", str(begun_path))
    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    other = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)

    def kill_one() -> None:
        end = time.monotonic() + 60
        while other.node_id not in begun_path.read_text() and time.monotonic() < end:
            time.sleep(0.02)
        cluster.remove_node(other, allow_graceful=False)

    killer = threading.Thread(target=kill_one)
    try:
        expected = extracted(tmp_path / "local", clips)
        monkeypatch.setattr(prepare, "extract", slow_extract)
        killer.start()
        found = extracted(tmp_path / "ray", clips, engine="ray")
        killer.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert found == expected and "index.json" in expected
    begun = [line.split() for line in begun_path.read_text().splitlines()]
    assert {node for _, node in begun} == {other.node_id, *(node for _, node in begun[-1:])}
    counts = Counter(number for number, _ in begun)
    assert len(counts) == NUM_VIDEOS
    assert sorted(counts.values())[-2:] == [1, 2], "one item was redone, the lost node's"


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_whose_package_is_missing_says_what_to_install(
    tmp_path, clips, monkeypatch, engine, package
):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(UserError, match=f"--engine {engine}") as caught:
        extracted(tmp_path, clips, engine=engine)
    assert f"pip install {package}" in caught.value.details["to fix"]


TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "node7",
    "MASTER_PORT": "1234",
}
SRUN = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-09,12],cpu1",
}


def test_the_variables_of_torchrun_and_srun_say_which_process_this_is():
    assert place_in(TORCHRUN) == Place(3, 4, 1, "node7", 1234)
    found = place_in(SRUN)
    assert found is not None
    assert (found.rank, found.count, found.local_rank, found.address) == (5, 8, 1, "gpu07")
    others = place_in(SRUN | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    assert others is not None and others.port == found.port


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "3"},  # a batch script
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_a_process_on_its_own_has_no_place(variables):
    assert place_in(variables) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("a[3,5]", "a3"), ("a[01-04]b,c", "a01b"), ("", "127.0.0.1")],
)
def test_the_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first
