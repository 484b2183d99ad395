from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import prepare
from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.prepare import extract_frames
from pipelines.engines.config import Place, first_node, place_in, shard_of
from pipelines.engines.shards import own_items
from pipelines.events import UserError, Work
from tests.pipelines.engines.sharing import folder_bytes

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
    return folder_bytes(root / "x" / "prepared" / "small")


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


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_whose_package_is_missing_says_what_to_install(
    tmp_path, clips, monkeypatch, engine, package
):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(UserError, match=f"--engine {engine}") as caught:
        extracted(tmp_path, clips, engine=engine)
    assert "--with cluster" in caught.value.details["run first"]


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
