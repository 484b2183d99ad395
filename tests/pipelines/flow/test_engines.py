"""The stage on other machines, or in calls of a shard each: the bytes of one call on this one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.shards import held_together
from pipelines.events import UserError, Work
from pipelines.flow.config import EstimateRequest
from pipelines.flow.estimate import estimate_flow
from tests.pipelines.engines.sharing import folder_bytes
from tests.pipelines.io.flow_makers import drifting, make_variant

NUM_TASKS = 8  # four videos, two lags


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    """Drifting textures of different lengths, on a disk that all machines share."""
    root = tmp_path_factory.mktemp("flow")
    counts = (9, 6, 5, 4)
    make_variant(root, {f"clip{n}": drifting(count, seed=n) for n, count in enumerate(counts)})
    return root


def asked(data_root: Path, **options: Any) -> EstimateRequest:
    usual = {"name": "toy", "lags": (1, 3), "workers_per_device": 2, "cores": 2}
    return EstimateRequest.model_validate({"data_root": data_root} | usual | options)


def estimated(data_root: Path, **options: Any) -> dict[str, bytes]:
    """The files of the packed flow, which is then deleted."""
    folder = Path(estimate_flow(asked(data_root, **options), Work())["flow_dir"])
    found = folder_bytes(folder)
    shutil.rmtree(folder)
    assert {"lag-1/index.json", "lag-3/index.json"} <= found.keys()
    return found


def test_flow_estimated_by_an_engine_is_the_local_one(data_root, engine):
    assert estimated(data_root, engine=engine) == estimated(data_root)


def test_shards_in_any_order_and_a_last_call_give_the_bytes_of_one_call(data_root):
    expected = estimated(data_root)
    results = [
        estimate_flow(asked(data_root, shard=shard), Work()) for shard in ("2/3", "0/3", "1/3")
    ]
    assert sum(each["num_videos"] for each in results) == NUM_TASKS
    assert not list(Path(results[0]["flow_dir"]).rglob("index.json"))
    assert estimated(data_root) == expected


def test_the_last_call_estimates_what_no_shard_has(data_root):
    expected = estimated(data_root)
    estimate_flow(asked(data_root, shard="1/4"), Work())
    assert estimated(data_root) == expected


def test_a_shard_with_other_settings_does_not_touch_what_others_are_making(data_root):
    result = estimate_flow(asked(data_root, shard="0/2"), Work())
    folder = Path(result["flow_dir"])
    before = folder_bytes(folder)
    with (
        held_together(folder, lambda is_alone: None),
        pytest.raises(UserError, match="being estimated by another process"),
    ):
        estimate_flow(asked(data_root, shard="1/2", check=True), Work())
    assert folder_bytes(folder) == before
    shutil.rmtree(folder)
