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
    "cinn": Benchmark("cinn:measure", "main", "cinn: training steps and sampling, with memory"),
    "generated": Benchmark("generated:measure", "data", "frames per second of generated data"),
    "flow_networks": Benchmark(
        "flow_networks:measure", "flow", "FlowNet2 and RAFT, speed and memory"
    ),
    "flow_stage": Benchmark(
        "flow_stage:measure", "flow", "DIS pairs per second, alone and in the whole stage"
    ),
    "packed_index": Benchmark(
        "packed_index:measure", "data", "opening a prepared variant of 100,000 videos"
    ),
}
