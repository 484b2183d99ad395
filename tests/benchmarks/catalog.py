"""What can be measured: one line for each benchmark, data only."""

from __future__ import annotations

from typing import NamedTuple


class Benchmark(NamedTuple):
    """target: 'module:function' under tests.benchmarks.  environment: where it runs; COMMAND_LINE:
    where the program itself does.
    """

    target: str
    environment: str
    about: str


COMMAND_LINE = "cli"

BENCHMARKS = {
    "startup": Benchmark("startup:measure", COMMAND_LINE, "help, and a job with nothing to do"),
    "loader": Benchmark("loader:measure", "main", "clips per second from packed frames"),
    "extraction": Benchmark(
        "extraction:measure", "flow", "extract-frames beside one seek per frame, beside ffmpeg"
    ),
    "behavior": Benchmark(
        "behavior:measure", "main", "behavior: training steps and sampling, with memory"
    ),
    "cinn": Benchmark("cinn:measure_sampling", "main", "cinn: sampling, with memory"),
    "cinn_steps": Benchmark("cinn:measure_steps", "main", "cinn: training steps, with memory"),
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
        "training:lever_ratios", "main", "train's levers over the plain step: time and memory"
    ),
    "saving": Benchmark("training:saving", "main", "how long a checkpoint holds the training up"),
    "packed_index": Benchmark(
        "packed_index:measure", "data", "opening a prepared variant of 100,000 videos"
    ),
    "shape_pose": Benchmark(
        "shape_pose:measure", "main", "shape-pose: training step and rendering, with memory"
    ),
    "poke": Benchmark("poke:measure", "main", "poke: training steps, sampling, first frame"),
    "profile": Benchmark(
        "profile:measure", "main", "what bounds a step: its products' share of the time and speed"
    ),
    "serve": Benchmark(
        "serve:measure", "main", "the page: release of an arrow to the first frame, in a browser"
    ),
}
