"""What can be measured: one line for each benchmark, data only."""

from __future__ import annotations

from typing import NamedTuple


class Benchmark(NamedTuple):
    """target: 'module:function' under tests.benchmarks.  environment: where it runs."""

    target: str
    environment: str
    about: str


BENCHMARKS = {
    "loader": Benchmark("loader:measure", "main", "clips per second from packed frames"),
    "extraction": Benchmark(
        "extraction:measure", "flow", "extract-frames beside one seek per frame, beside ffmpeg"
    ),
    "behavior": Benchmark(
        "behavior:measure", "main", "behavior, shape-pose: training steps, sampling, rendering"
    ),
    "cinn": Benchmark("cinn:measure", "main", "cinn: training steps and sampling, with memory"),
    "metrics": Benchmark(
        "metrics:measure", "main", "I3D in PyTorch beside TensorFlow, Frechet distances, memory"
    ),
    "fomm": Benchmark("fomm:measure", "main", "fomm: training steps and animation, with memory"),
    "inbetween": Benchmark(
        "inbetween:measure", "main", "inbetween: training step and sampling, with memory"
    ),
    "motion": Benchmark("motion:measure", "main", "motion: training steps and motions"),
    "generated": Benchmark("generated:measure", "data", "frames per second of generated data"),
    "flow_networks": Benchmark(
        "flow_networks:measure", "flow", "FlowNet2 and RAFT, speed and memory"
    ),
    "flow_stage": Benchmark(
        "flow_stage:measure", "flow", "DIS pairs per second, alone and in the whole stage"
    ),
    "growth": Benchmark(
        "training:growth", "main", "time and memory of a step against batch, size, clip length"
    ),
    "levers": Benchmark(
        "training:levers", "main", "train's levers over the plain step: time and memory"
    ),
    "saving": Benchmark(
        "training:background_save", "main", "how long a checkpoint holds the training up"
    ),
    "packed_index": Benchmark(
        "packed_index:measure", "data", "opening a prepared variant of 100,000 videos"
    ),
    "poke": Benchmark("poke:measure", "main", "poke: training steps, sampling, first frame"),
}
