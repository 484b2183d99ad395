"""What bounds a step: how much of its processor time is convolutions and matrix products.

Those are what a step cannot do without. Their share of the time says how much faster it could be if
all else cost nothing; their speed beside that of the best large product that this machine makes in
the same run says how much of them is the arithmetic itself, and how much laying out weights, small
maps and few channels. Real steps and samplings of real networks, at smaller batches, on one thread;
the first one warms up and is counted, the second one is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tests.benchmarks import cinn, fomm, poke, shape_pose
from tests.benchmarks.rows import Measurement, Settings, apart, cpu_clock, interleaved

Work = Callable[[], object]

CASES: Mapping[str, Callable[[], Work]] = {
    "cinn bair, stage 1, batch 2": partial(cinn.stepper, "bair", "1", 2),
    "cinn bair, stage ae, batch 8": partial(cinn.stepper, "bair", "ae", 8),
    "cinn bair, stage 2, batch 10": partial(cinn.stepper, "bair", "2", 10),
    "cinn bair, sampling, batch 1": partial(cinn.sampler, "bair", 1),
    "cinn landscape, stage 1, batch 2": partial(cinn.stepper, "landscape", "1", 2),
    "cinn landscape, stage ae, batch 6": partial(cinn.stepper, "landscape", "ae", 6),
    "poke plants_64, training step, batch 4": partial(poke.stepper, "plants_64", True, 4),
    "poke plants_64, sampling, batch 1": partial(poke.sampler, "plants_64", 1),
    "poke plants_64, sampling, batch 8": partial(poke.sampler, "plants_64", 8),
    "shape-pose, rendering 8 frames at 256": partial(shape_pose.renderer, 256),
    "fomm kth-128, training step": partial(fomm.stepper, "kth-128"),
    "fomm bair-256, training step": partial(fomm.stepper, "bair-256"),
}
"""What is looked at: a name, and what makes the work that is then done twice."""

_QUICK = ("cinn bair, sampling, batch 1",)
_PRODUCTS = {
    *("mkldnn_convolution", "convolution_backward", "_convolution_pointwise", "convolution"),
    *("_convolution_pointwise_", "_slow_conv2d_forward", "_slow_conv2d_backward"),
    "slow_conv3d_forward",
    *("mm", "addmm", "bmm", "baddbmm", "addmv", "mv", "dot", "_linear_pointwise"),
    *("mkldnn_linear_backward_input", "_convolution"),  # the latter: transposed
}
"""Operators that multiply and add up; their own time includes laying out what they multiply."""
_NUM_OTHERS = 5
_SIZE, _CHANNELS = 1536, 256


class Profile(NamedTuple):
    """Of one step. seconds: processor time, all in all and of products.  gflop: of those.

    others: the operators that take most of the rest, with their share of the whole.
    """

    seconds: float
    product_seconds: float
    gflop: float
    others: list[tuple[str, float]]


def measure(settings: Settings) -> Iterator[Measurement]:
    """Three rows for each case, after the machine's own best."""
    best = apart(best_products, settings.repeats)
    way, speeds = max(best.result.items(), key=lambda item: max(item[1]))
    said = ", ".join(f"{each} {max(found):.0f}" for each, found in best.result.items())
    note = f"fp32, one thread, the best of: {said}"
    yield Measurement("the machine's large products", speeds, "GFLOP/s", note=note)
    for name in _QUICK if settings.quick else CASES:
        looked_at = apart(profiled, name)
        yield from _rows(name, looked_at.result, max(speeds), way, looked_at.peak_mb)


def _rows(
    name: str, found: Profile, best: float, way: str, peak_mb: float
) -> Iterator[Measurement]:
    share, speed = found.product_seconds / found.seconds, found.gflop / found.product_seconds
    rest = ", ".join(f"{each} {100 * part:.0f} %" for each, part in found.others)
    yield Measurement(
        f"{name}, products' share of the time",
        [100 * share],
        "%",
        peak_mb=peak_mb,
        note=f"of {found.seconds:.2f} s of processor time; then {rest}",
    )
    yield Measurement(
        f"{name}, speed of its products",
        [speed],
        "GFLOP/s",
        peak_mb=peak_mb,
        note=f"{found.gflop:.0f} GFLOP; {100 * speed / best:.0f} % of the machine's best ({way})",
    )
    yield Measurement(
        f"{name}, how much faster at most",
        [1 / share],
        "x",
        peak_mb=peak_mb,
        note="were all but products free; with those at the machine's best, too, "
        f"{found.seconds * best / found.gflop:.2f} x",
    )


def best_products(repeats: int) -> dict[str, list[float]]:
    """GFLOP/s of large products, by each way that torch has for them on a CPU."""
    torch.set_num_threads(1)
    a, b = torch.randn(2, _SIZE, _SIZE)
    images = torch.randn(4, _CHANNELS, 32, 32).contiguous(memory_format=torch.channels_last)
    taps = torch.randn(_CHANNELS, _CHANNELS, 3, 3).contiguous(memory_format=torch.channels_last)
    ways: dict[str, tuple[float, Work]] = {
        f"{_SIZE} x {_SIZE} matrices": (2 * _SIZE**3, partial(torch.mm, a, b)),
        f"3 x 3 convolution of {_CHANNELS} channels": (
            2 * images.numel() * taps[0].numel(),
            partial(F.conv2d, images, taps, padding=1),
        ),
    }
    with torch.no_grad():
        works = [work for _, work in ways.values()]
        taken = interleaved(works, repeats=repeats, clock=cpu_clock)
    return {
        way: [flop / 1e9 / each for each in seconds]
        for (way, (flop, _)), seconds in zip(ways.items(), taken, strict=True)
    }


def profiled(name: str) -> Profile:
    """Where the second one of two calls spends its time, by what the first one multiplied."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    work = CASES[name]()
    with Counting() as counted:
        work()
    started, begun = time.perf_counter(), time.process_time()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    seconds, passed = time.process_time() - begun, time.perf_counter() - started
    own = {each.key: each.self_cpu_time_total / 1e6 for each in seen.key_averages()}
    # the profiler's clock runs on while others have the processor
    scale = seconds / max(passed, seconds)
    products = {key for key in own if key.rpartition("::")[2].partition(".")[0] in _PRODUCTS}
    others = sorted(own.keys() - products, key=own.__getitem__, reverse=True)[:_NUM_OTHERS]
    return Profile(
        seconds,
        scale * sum(own[key] for key in products),
        counted.flop / 1e9,
        [(key.removeprefix("aten::"), scale * own[key] / seconds) for key in others],
    )


class Counting(TorchDispatchMode):
    """Adds up what convolutions and matrix products multiply, two for each multiplication.

    By torch's own formulas; its counter follows modules too, which a gradient that is itself
    differentiated does not allow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if operator in flop_registry:
            self.flop += flop_registry[operator](*args, **(kwargs or {}), out_val=found)
        elif str(operator) == "mkldnn._convolution_pointwise":
            self.flop += packed_convolution_flop(args[0], args[1], found)
        elif str(operator) == "mkldnn._linear_pointwise":
            self.flop += 2 * args[0].numel() * found.shape[-1]
        elif str(operator) == "aten.mkldnn_linear_backward_input":
            self.flop += 2 * args[2].numel() * args[0][0]
        return found


def packed_convolution_flop(x: Tensor, weight: Tensor, found: Tensor) -> int:
    """Of a convolution whose weight was laid out beforehand."""
    return 2 * found.numel() * x.shape[1] * weight.shape[2:].numel()
