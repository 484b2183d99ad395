"""poke: training steps at the published sizes, sampling, and how soon the first frame is there.

`--against DIR`: a checkout of the published code, whose step and sampling then take turns with
ours: same weights, same inputs, and the first results compared. VGG-19 has random weights on both
sides, so that nothing has to be downloaded.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import nn

from pipelines.poke.build import build_model, build_networks, build_optimizers
from pipelines.poke.config import FamilyConfig
from pipelines.poke.inference import answer, answer_video
from pipelines.poke.perceptual import build_image_loss
from pipelines.poke.sampling_form import for_sampling
from pipelines.poke.steps import Batch, Log, draw_step, poke_step
from pipelines.training.device import choose_device
from tests.benchmarks.beside import clock_of, how, prepare
from tests.benchmarks.poke_published import Published, Step
from tests.benchmarks.rows import (
    Apart,
    Measurement,
    Settings,
    apart,
    interleaved,
    ratios,
)

_PRESETS = {"plants_64": 10, "plants_128": 2}
"""Preset -> clips in a step: at 128 fewer than its 9, for the time."""
_COMPARED = {"plants_64": ((4, True),), "plants_128": ((1, True),)}
"""Preset -> batches beside the published code, and whether both discriminators take part."""
_FIRST_FRAME_S = 0.2
_AFTER_AN_UPDATE = {"generator_patch", "generator_temporal"}
"""Losses that are not compared: of critics after an update, where Adam makes a whole step of the
last bits of a gradient. Whether they are right, the parity case of a training step says."""
_SAME = 1e-3
_SIDES = ("ours", "theirs")
_ROOT = Path(__file__).resolve().parents[2]


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of both sizes; each in a process of its own, for its memory."""
    for preset, most in _PRESETS.items():
        batch = 1 if settings.quick else most
        name = _step_name(preset, batch, has_critics=True)
        yield _row(settings, name, step_seconds, preset, True, batch)
        for count in (1, 8):
            name = f"{preset}, sampling 10 frames, batch {count}"
            yield _row(settings, name, sampling_seconds, preset, count)
        at_most = _FIRST_FRAME_S if preset == "plants_64" else None
        name = f"{preset}, poke to first frame"
        yield _row(settings, name, first_frame_seconds, preset, at_most=at_most)
        if settings.against is not None:
            yield from _sampling_beside(settings, preset)
            yield from _steps_beside(settings, preset)


def _step_name(preset: str, batch: int, *, has_critics: bool) -> str:
    critics = "both discriminators" if has_critics else "no discriminators yet"
    return f"{preset}, training step, batch {batch}, {critics}"


def _row(
    settings: Settings,
    name: str,
    function: Callable[..., list[float]],
    *arguments: Any,
    at_most: float | None = None,
) -> Measurement:
    done = apart(function, *arguments, settings.device, settings.repeats)
    note = f"{how(settings.device)}; embedded perceptual network"
    return Measurement(name, done.result, "s", at_most=at_most, peak_mb=done.peak_mb, note=note)


def step_seconds(
    preset: str, has_critics: bool, batch: int, device: str, repeats: int
) -> list[float]:
    """Seconds of one training step on a batch that stays the same."""
    prepare(device)
    work = stepper(preset, has_critics, batch, device)
    return interleaved([work], repeats=repeats, clock=clock_of(device))[0]


def stepper(preset: str, has_critics: bool, batch: int, device: str = "cpu") -> Callable[[], Log]:
    """One training step after the other on a batch that stays the same."""
    place, config = choose_device(device), _config(preset)
    networks = build_networks(config)
    for network in vars(networks).values():
        network.to(place)
    size, frames = config.model.size_px, config.clips.num_frames
    return partial(
        poke_step,
        networks,
        build_optimizers(networks, config),
        Batch(
            torch.rand(batch, frames + 1, 3, size, size, device=place) * 2 - 1,
            _poke(batch, size).to(place),
        ),
        config=config,
        step=config.temporal.start_step if has_critics and config.temporal.start_step else 0,
        draws=draw_step(config, batch * frames, torch.Generator().manual_seed(0)),
        perceptual=_perceptual(config, place),
    )


def sampling_seconds(preset: str, batch: int, device: str, repeats: int) -> list[float]:
    """Seconds from images and pokes to all frames."""
    prepare(device)
    model, image, poke = _asked(preset, batch, choose_device(device))
    work = partial(answer_video, model, image, poke, 10, schedule="every-step")
    return interleaved([work], repeats=repeats, clock=clock_of(device))[0]


def sampler(preset: str, batch: int) -> Callable[[], object]:
    """From images and pokes to ten frames on a CPU."""
    asked = _asked(preset, batch, torch.device("cpu"))
    return partial(answer_video, *asked, 10, schedule="every-step")


def first_frame_seconds(preset: str, device: str, repeats: int) -> list[float]:
    """Seconds from one image and poke to the first of ten frames, on the CPU's side."""
    prepare(device)
    model, image, poke = _asked(preset, 1, choose_device(device))

    def once() -> object:
        return next(answer(model, image, poke, 10, schedule="every-step")).cpu()

    return interleaved([once], repeats=repeats, clock=clock_of(device))[0]


# The published code, taking turns with ours


class Turns(NamedTuple):
    """Seconds of each turn.  difference: largest of the first results, over their own size."""

    ours: list[float]
    theirs: list[float]
    difference: float


def _sampling_beside(settings: Settings, preset: str) -> Iterator[Measurement]:
    for count in (1, 8):
        done = apart(sampling_turns, preset, count, *_common(settings), settings.repeats)
        name = f"{preset}, sampling 10 frames, batch {count}, over the published code"
        yield _ratio(name, done, 2.0)
        sizes = (preset, count, *_common(settings))
        yield _memory(f"{preset}, sampling 10 frames, batch {count}", one_sampling, *sizes)


def _steps_beside(settings: Settings, preset: str) -> Iterator[Measurement]:
    for most, has_critics in _COMPARED[preset]:
        step = (preset, has_critics, 1 if settings.quick else most, *_common(settings))
        name = _step_name(*step[0:3:2], has_critics=has_critics)
        done = apart(step_turns, *step, settings.repeats)
        yield _ratio(f"{name}, over the published code", done, 1.5)
        yield _memory(name, one_step, *step)


def _common(settings: Settings) -> tuple[str, str]:
    return str(settings.against), settings.device


def _ratio(title: str, done: Apart, at_least: float) -> Measurement:
    turns: Turns = Turns(*done.result)
    note = f"one thread; random weights; first results differ by {turns.difference:.0e}"
    values = ratios(turns.theirs, turns.ours)
    return Measurement(title, values, "x", at_least=at_least, peak_mb=done.peak_mb, note=note)


def _memory(what: str, function: Callable[..., None], *arguments: object) -> Measurement:
    """Of one call for each side, in processes of their own."""
    ours, theirs = (
        apart(function, *arguments, whose, is_ours=whose == "ours").peak_mb for whose in _SIDES
    )
    title, note = f"{what}, memory over the published code's", f"{ours:.0f} of {theirs:.0f} MB"
    return Measurement(title, [ours / theirs], "x", at_most=1, peak_mb=ours, note=note)


def sampling_turns(preset: str, batch: int, against: str, device: str, repeats: int) -> Turns:
    """Image and poke to ten frames, ours and theirs."""
    return _taking_turns(*_samplers(preset, batch, against, device), repeats, device)


def one_sampling(preset: str, batch: int, against: str, device: str, whose: str) -> None:
    """The ten frames of one side, for its memory; the other's network is thrown away before."""
    sample = dict(zip(_SIDES, _samplers(preset, batch, against, device), strict=True))[whose]
    gc.collect()
    sample()


def _samplers(preset: str, batch: int, against: str, device: str) -> tuple[Step, Step]:
    place, config = choose_device(device), _config(preset)
    image, poke = _inputs(config, batch, place)
    return Published(Path(against), place).sampling(config, image, poke)


def step_turns(
    preset: str, has_critics: bool, batch: int, against: str, device: str, repeats: int
) -> Turns:
    """One training step, ours and theirs."""
    return _taking_turns(*_steps(preset, has_critics, batch, against, device), repeats, device)


def one_step(
    preset: str, has_critics: bool, batch: int, against: str, device: str, whose: str
) -> None:
    """One training step of one side, for its memory."""
    ours, theirs = _steps(preset, has_critics, batch, against, device)
    (ours if whose == _SIDES[0] else theirs)()


def _steps(
    preset: str, has_critics: bool, batch: int, against: str, device: str
) -> tuple[Step, Step]:
    place, config = choose_device(device), _config(preset)
    size, frames = config.model.size_px, config.clips.num_frames
    clips = torch.rand(batch, frames + 1, 3, size, size, device=place) * 2 - 1
    shown = Batch(clips, _poke(batch, size).to(place))
    return Published(Path(against), place).steps(config, shown, has_critics=has_critics)


def _taking_turns(ours: Step, theirs: Step, repeats: int, device: str) -> Turns:
    """The first turn of each warms up, and must give the same numbers.

    On a CPU with one thread and by its time, so that what else runs there counts less.
    """
    prepare(device)
    mine, other = ours(), theirs()
    sizes = {name: float(value.abs().max()) for name, value in other.items()}
    difference = max(
        float((mine[name] - other[name]).abs().max()) / sizes[name]
        for name in sizes
        if name not in _AFTER_AN_UPDATE
    )
    if difference > _SAME:
        raise AssertionError(f"ours is not the published computation: off by {difference:.1e}")
    turns = interleaved([ours, theirs], repeats=repeats, warmups=0, clock=clock_of(device))
    return Turns(*turns, difference)


def _asked(preset: str, batch: int, place: torch.device) -> tuple[Any, torch.Tensor, torch.Tensor]:
    config = _config(preset)
    model = for_sampling(build_model(config).to(place).eval().requires_grad_(False))
    return model, *_inputs(config, batch, place)


def _inputs(
    config: FamilyConfig, batch: int, place: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    size = config.model.size_px
    image = torch.rand(batch, 3, size, size, device=place) * 2 - 1
    return image, _poke(batch, size).to(place)


def _poke(batch: int, size: int) -> torch.Tensor:
    poke = torch.zeros(batch, 2, size, size)
    poke[:, :, size // 2 - 1 : size // 2 + 2, size // 2 - 1 : size // 2 + 2] = size / 16
    return poke


def _perceptual(config: FamilyConfig, place: torch.device) -> nn.Module:
    return build_image_loss(config.perceptual, weights_dir=_ROOT, device=place)


def _config(preset: str) -> FamilyConfig:
    text = (_ROOT / "conf" / "poke" / f"{preset}.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(text) | {"perceptual": {"backbone": "efficientnet-lite0"}}
    return FamilyConfig.model_validate(settings)
