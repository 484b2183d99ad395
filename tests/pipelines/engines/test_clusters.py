"""Ray and SLURM: their results are the local engine's, byte for byte."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.datasets import prepare
from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.prepare import extract_frames
from pipelines.engines import spread
from pipelines.events import UserError, Work
from pipelines.files import read_json
from pipelines.inbetween.sample import sample
from pipelines.inbetween.train import train
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.evaluate import evaluate
from tests.pipelines.engines.clusters import MEMORY
from tests.pipelines.engines.sharing import folder_bytes, written
from tests.pipelines.engines.slow import PATIENCE_S, extract_unless_doomed
from tests.pipelines.inbetween import tiny
from tests.pipelines.metrics.test_evaluate import make_videos
from tests.pipelines.metrics.test_measure import noisy, video

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


def extracted(root: Path, clips: Path, **options: Any) -> dict[str, bytes]:
    """The files of the prepared variant."""
    usual = {"name": "x", "source": clips, "variant": "small", "size_px": 16, "min_frames": 5}
    fields = {"data_root": root, "jobs": 1} | usual | options
    extract_frames(ExtractRequest.model_validate(fields), Work())
    return folder_bytes(root / "x" / "prepared" / "small")


@pytest.mark.usefixtures("array")
def test_frames_extracted_by_slurm_are_the_local_ones(tmp_path, clips):
    expected = extracted(tmp_path / "local", clips)
    assert "index.json" in expected
    assert extracted(tmp_path / "spread", clips, engine="slurm", jobs=2) == expected


def test_without_slurm_an_array_job_runs_as_processes_here(tmp_path, clips, monkeypatch):
    pytest.importorskip("submitit", reason="the optional package submitit is not installed")
    monkeypatch.setenv("I2V_SLURM", "cluster=local timeout_min=10")
    found = extracted(tmp_path / "spread", clips, engine="slurm", jobs=2)
    assert found == extracted(tmp_path / "local", clips)


@pytest.mark.usefixtures("cluster")
def test_videos_sampled_on_ray_are_the_local_ones(tmp_path, trained):
    ends = tiny.write_ends(tmp_path)
    request = tiny.sample_request(trained, ends, tmp_path / "out", num=3, parts=2)
    expected = written(sample, request)
    assert "meta.json" in expected
    assert written(sample, request.model_copy(update={"engine": "ray"})) == expected
    assert not (tmp_path / "out.parts").exists()


@pytest.mark.usefixtures("array")
def test_numbers_measured_by_slurm_are_the_local_ones(tmp_path):
    real = {f"clip{number}": video(number) for number in range(5)}
    make_videos(tmp_path / "real", real)
    fake = {f"{name}-s0": noisy(frames, 0.1, seed=0) for name, frames in real.items()}
    make_videos(tmp_path / "fake", fake)
    usual = {"metrics": ("psnr", "ssim", "frechet-embedded"), "device": "cpu", "parts": 2}
    found = {}
    for each in ("local", "slurm"):
        fields = {"source": tmp_path / "fake", "real": tmp_path / "real", "engine": each}
        out_path = tmp_path / f"{each}.json"
        request = EvalRequest.model_validate(usual | fields | {"out_path": out_path})
        evaluate(request, Work())
        (evaluation,) = read_json(out_path)["evaluations"]
        found[each] = evaluation["results"]
    assert found["slurm"] == found["local"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a run of inbetween."""
    root = tmp_path_factory.mktemp("trained")
    tiny.prepare_squares(root / "data")
    train(tiny.request(root, max_steps=2), Work())
    return root


def test_a_ray_node_that_is_lost_costs_its_items_only(tmp_path, clips, cluster, monkeypatch):
    doomed = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    cluster.wait_for_nodes()
    begun_path = tmp_path / "begun.txt"
    begun_path.touch()
    (tmp_path / "doomed.txt").write_text(doomed.node_id)
    expected = extracted(tmp_path / "local", clips)

    def kill() -> None:
        end = time.monotonic() + PATIENCE_S
        while doomed.node_id not in begun_path.read_text() and time.monotonic() < end:
            time.sleep(0.02)
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill)
    monkeypatch.setattr(prepare, "extract", extract_unless_doomed)
    killer.start()
    found = extracted(tmp_path / "ray", clips, engine="ray")
    killer.join()
    assert found == expected and "index.json" in expected
    begun = [line.split() for line in begun_path.read_text().splitlines()]
    (lost,) = [number for number, node in begun if node == doomed.node_id]
    counts = Counter(number for number, _ in begun)
    assert counts == {str(number): 1 + (str(number) == lost) for number in range(NUM_VIDEOS)}


def test_what_an_array_job_raises_is_told(tmp_path):
    pytest.importorskip("submitit", reason="the optional package submitit is not installed")
    jobs = spread.run_on_slurm(int, [1], num_shards=1, folder=tmp_path, cluster="local")
    with pytest.raises(UserError, match="a job of the array failed") as caught:
        list(jobs)
    assert "TypeError" in caught.value.details["reason"]
