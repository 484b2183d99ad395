"""From the files that a user got by hand to training clips, for every published video data set."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from i2v_cli import environments
from tests.e2e.conftest import ROOT, Desk

NUM_FRAMES = 17

# Videos per split (train, val, test), and what is left out, by reason.
DATASETS = {
    "bair": ((3, 2, 2), {"missing": 167}),
    "kth": ((4, 4, 2), {"missing": 95}),
    "landscape": ((2, 2, 2), {"missing": 1333}),
    "dtdb": ((4, 0, 4), {}),
    "plants": ((3, 0, 0), {"too short": 3}),
    "iper": ((2, 2, 2), {"missing": 200}),
    "taichi": ((2, 0, 1), {"missing": 1}),
}

CLIPS = """
import json, sys
from pathlib import Path
from pipelines.clips.batches import training_batches
from pipelines.clips.rules import VideoClips
from pipelines.clips.sampler import ClipSampler
from pipelines.io.packed import PackedVideos

videos, num_frames = PackedVideos(Path(sys.argv[1])), int(sys.argv[2])
rows = videos.select("train", min_frames=num_frames)
lengths = [int(videos.num_frames[row]) for row in rows]
sampler = ClipSampler(rows, lengths, VideoClips(num_frames), seed=0)
batches = training_batches(videos, sampler, batch_size=3, first_batch=0)
batch = next(batches)
batches.close()
frames = getattr(batch, "frames", batch)
print(json.dumps([list(frames.shape), float(frames.std())]))
"""


def _python(environment: str, *words: str | Path, cwd: Path) -> str:
    program = environments.ensure(environment)
    variables = environments.worker_environment() | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [program, *map(str, words)], cwd=cwd, env=variables, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("name", DATASETS)
def test_archives_got_by_hand_become_training_clips(name: str, tmp_path: Path) -> None:
    expected, left_out = DATASETS[name]
    terms = ("--accept-terms",) if name in ("iper", "taichi") else ()
    desk = Desk(tmp_path)
    saved = tmp_path / "Downloads"
    maker = "tests.pipelines.datasets.published_makers"
    _python("data", "-m", maker, name, saved, tmp_path / "making", cwd=ROOT)
    for folder in (saved, saved.with_name(f"{saved.name} of lists")):
        if folder.is_dir():
            got = desk.i2v("download", name, "--from-dir", folder, *terms, "--json")
            assert got.code == 0, got.err
    result = desk.i2v("extract-frames", name, "--size", "32", "--jobs", "1", "--json").result
    splits = result["splits"]
    assert tuple(splits[part]["videos"] for part in ("train", "val", "test")) == expected
    assert result["rejected"] == left_out
    variant_dir = Path(result["variant_dir"])
    if name == "plants":  # 0.8 of these short videos is a clip, 0.2 is not
        assert splits["train"]["frames"] == 19 + 18 + 17
    again = desk.i2v("extract-frames", name, "--size", "32", "--json").result
    assert not again["is_new"]
    for verb in ("info", "verify", "preview"):
        answer = desk.i2v("data", verb, name, "--json")
        assert answer.code == 0, answer.err
    longest = 16 if name == "kth" else NUM_FRAMES
    shape, spread = json.loads(_python("main", "-c", CLIPS, variant_dir, longest, cwd=tmp_path))
    channels = 1 if name == "kth" else 3
    assert shape == [3, longest, 32, 32, channels]
    assert spread > 1
