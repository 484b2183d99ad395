"""cinn: training steps of all stages and sampling, at the published sizes, with peak memory.

Processor time, of networks with random weights; every value comes from a process of its own.
`--against DIR`: a checkout of the published code, whose processes then take turns with ours.

Where the time goes: the benchmark `profile` says it. Products are counted per clip of 64 px: 190 G
multiplications as published, 90 G by the plans of pipelines.nn.time_convolutions. A third to a half
of a published step on a CPU is the system's, which fills the pages of new tensors with zeros; ours
keeps what it frees. What is timed here is the first step; with one clip of 64 px the first four
took 11.5, 14.7, 10.1 and 10.5 s, the second one as the optimizers' state was new. Channels last
took 1.25 times the fourth's time, unlike at 32 px.
Tried and left out: torch's group norm and batch norm on channels-last frames, slower than means and
squares frame by frame; a gradient of its own for spectral norm, little gain and less exact; huge
pages, no gain once freed memory is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from torch import Tensor

from pipelines.cinn.config import FamilyConfig
from pipelines.cinn.inference import Model, sample_video
from pipelines.cinn.networks import build_autoencoder, build_embedder, build_flow, build_stage1
from pipelines.cinn.sampling_decoder import SamplingDecoder, for_sampling
from pipelines.cinn.steps import (
    AutoencoderOptimizers,
    Stage1Optimizers,
    autoencoder_step,
    flow_step,
    stage1_step,
)
from pipelines.nn.spectral_norm import fold_spectral_norm
from pipelines.training.device import choose_device, keep_freed_memory
from pipelines.training.optim import build_adam
from tests.benchmarks.cinn_published import Published, perceptual
from tests.benchmarks.rows import Apart, Measurement, Settings, apart, cpu_clock, interleaved

_PRESETS = {"bair": 10, "landscape": 7}
"""Preset -> clips in a batch of stage 1."""
_ROOT = Path(__file__).resolve().parents[2]
_STEP_AIM, _SAMPLING_AIM = 1.5, 2.0
_SAME = 1e-4
"""What two programs' frames in -1 to 1 may differ by and still be the same: rounding."""


class Work(NamedTuple):
    """What a process measures. what: a stage, or the number of clips to sample."""

    preset: str
    what: str
    precision: str
    device: str
    is_quick: bool
    repeats: int = 1
    warmups: int = 0
    against: Path | None = None


def measure_sampling(settings: Settings) -> Iterator[Measurement]:
    """From start frames and residuals to 16 frames each."""
    for preset in ("bair",) if settings.quick else tuple(_PRESETS):
        for batch in ("1", "8"):
            work = _work(settings, preset, batch)._replace(repeats=settings.repeats, warmups=1)
            name, note = f"{preset}, sampling, batch {batch}", _note(settings)
            yield from _rows(name, sampling_seconds, work, settings, _SAMPLING_AIM, 1, note)
            half = apart(sampling_seconds, work._replace(precision="bf16"))
            yield _seconds(f"{name}, bf16", [half], f"{note}; products of convolutions in bf16")
        if settings.against is not None:
            compared = apart(largest_difference, _work(settings, preset, "2"), settings.against)
            yield Measurement(
                f"{preset}, sampling, largest difference from the published code's frames",
                [compared.result],
                "of -1 to 1",
                at_most=_SAME,
                peak_mb=compared.peak_mb,
                note="the same weights, start frames and residuals",
            )


def measure_steps(settings: Settings) -> Iterator[Measurement]:
    """One update of each stage on the published batch."""
    for preset in ("bair",) if settings.quick else tuple(_PRESETS):
        for stage in ("1", "ae", "2"):
            work, note = _work(settings, preset, stage), f"first step; {_note(settings)}"
            has_3d = stage != "ae"
            if has_3d and work.device == "cpu":
                note += "; bf16 is refused on a CPU: torch's bf16 gradient of Conv3d is wrong there"
            name = f"{preset}, stage {stage}, training step"
            yield from _rows(name, step_seconds, work, settings, _STEP_AIM, settings.repeats, note)
            if not has_3d or work.device != "cpu":
                half = apart(step_seconds, work._replace(precision="bf16"))
                yield _seconds(f"{name}, bf16", [half], note)


def _rows(
    name: str,
    function: Callable[[Work], list[float]],
    work: Work,
    settings: Settings,
    aim: float,
    rounds: int,
    note: str,
) -> Iterator[Measurement]:
    """Ours; with published code also its own, in turns, and what lies between them."""
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(apart(function, work))
        if settings.against is not None:
            published = work._replace(against=settings.against)
            theirs.append(apart(function, published, is_ours=False))
    yield _seconds(f"{name}, fp32", ours, note)
    if theirs:
        yield _seconds(f"{name}, fp32, published code", theirs, note)
        mine, others = (sorted(_values(each)) for each in (ours, theirs))
        yield Measurement(
            f"{name}, over the published code",
            [other / own for other, own in zip(others, mine, strict=True)],
            "x",
            at_least=aim,
            peak_mb=max(each.peak_mb for each in ours),
            note="processor time, smallest to smallest and so on",
        )
        yield Measurement(
            f"{name}, peak memory over the published code's",
            [each.peak_mb / other.peak_mb for each, other in zip(ours, theirs, strict=True)],
            "x",
            at_most=1.0,
            peak_mb=max(each.peak_mb for each in ours),
            note="of the whole process",
        )


def _values(processes: Sequence[Apart]) -> list[float]:
    return [value for each in processes for value in each.result]


def _seconds(name: str, processes: Sequence[Apart], note: str) -> Measurement:
    peak = max(each.peak_mb for each in processes)
    return Measurement(name, _values(processes), "s", peak_mb=peak, note=note)


def _work(settings: Settings, preset: str, what: str) -> Work:
    device = choose_device(settings.device).type
    return Work(preset, what, "fp32", device, settings.quick)


def _note(settings: Settings) -> str:
    batch = "batches of 1 or 2" if settings.quick else "published batches"
    threads = f"{torch.get_num_threads()} thread(s)"
    return f"{batch}; {choose_device(settings.device).type}; {threads}; processor time"


def step_seconds(work: Work) -> list[float]:
    """Processor time of training steps."""
    batch = None
    if work.is_quick:
        batch = 1 if work.what == "1" else 2
    step = stepper(work.preset, work.what, batch, device=work.device, against=work.against)
    return _timed(step, work)


def stepper(
    preset: str,
    stage: str,
    batch: int | None = None,
    *,
    device: str = "cpu",
    against: Path | None = None,
) -> Callable[[], object]:
    """One update of a stage, each time on the same batch. batch: clips or images; as published.

    against: a checkout of the published code, to update its networks instead.
    """
    config, place = _config(preset), choose_device(device)
    published = None if against is None else Published(against, place)
    if published is None:
        keep_freed_memory()  # as every training of ours does
    make: Callable[[FamilyConfig, Tensor], Callable[[], object]]
    if stage == "1":
        usual, make = _PRESETS[preset], published.stage1_stepper if published else _stage1_stepper
    elif stage == "ae":
        usual = config.ae.batch_size
        make = published.autoencoder_stepper if published else _autoencoder_stepper
    else:
        usual = config.stage2.batch_size
        make = published.flow_stepper if published else _flow_stepper
    clip = _clip(config, batch or usual, place)
    return make(config, clip[:, 0] if stage == "ae" else clip)


def sampler(preset: str, batch: int) -> Callable[[], object]:
    """From start frames and residuals to 16 frames each, on the CPU."""
    config, place = _config(preset), choose_device("cpu")
    start, residual = _drawn(config, batch, place)
    keep_freed_memory()
    model = _model(config, place)
    model = replace(model, decoder=for_sampling(model.decoder))  # type: ignore[arg-type]
    return partial(sample_video, model, start, residual, 16)


def sampling_seconds(work: Work) -> list[float]:
    """Processor time from start frames and residuals to 16 frames each."""
    config, device = _config(work.preset), choose_device(work.device)
    start, residual = _drawn(config, int(work.what), device)
    if work.against is not None:
        return _timed(Published(work.against, device).sampler(config, start, residual), work)
    keep_freed_memory()  # as every sampling of ours does
    model, half = _model(config, device), work.precision != "fp32"
    if half and device.type == "cpu":
        decoder = fold_spectral_norm(model.decoder)
        decoder = SamplingDecoder(decoder, dtype=torch.bfloat16)  # type: ignore[arg-type]
        work = work._replace(precision="fp32")  # of all else, which is little
    else:
        decoder = for_sampling(model.decoder)  # type: ignore[arg-type]
    model = replace(model, decoder=decoder)
    return _timed(lambda: sample_video(model, start, residual, 16), work)


def largest_difference(work: Work, against: Path) -> float:
    """Between frames that both programs make with the same weights and inputs."""
    torch.manual_seed(0)
    config, device = _config(work.preset), choose_device(work.device)
    start, residual = _drawn(config, int(work.what), device)
    model = _model(config, device)
    with torch.no_grad():  # a flow is not to be sampled before its norms have seen a batch
        code = torch.randn(16, config.stage1.code_size)
        model.flow(code, model.embedder.embed(start[:1]).expand(len(code), -1))
    theirs = Published(against, device).sampler(config, start, residual, model)()
    model = replace(model, decoder=for_sampling(model.decoder))  # type: ignore[arg-type]
    return float((sample_video(model, start, residual, 16) - theirs).abs().max())


def _timed(work: Callable[[], object], settings: Work) -> list[float]:
    half = settings.precision != "fp32"

    def call() -> object:
        with torch.autocast(settings.device, torch.bfloat16) if half else nullcontext():
            return work()

    return interleaved([call], repeats=settings.repeats, warmups=settings.warmups, clock=cpu_clock)[
        0
    ]


def _config(preset: str) -> FamilyConfig:
    text = (_ROOT / "conf" / "cinn" / f"{preset}.yaml").read_text(encoding="utf-8")
    return FamilyConfig.model_validate(yaml.safe_load(text))


def _clip(config: FamilyConfig, batch: int, device: torch.device) -> Tensor:
    size = config.stage1.size_px
    return torch.rand(batch, 17, 3, size, size, device=device) * 2 - 1


def _drawn(config: FamilyConfig, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Start frames and residuals."""
    residual = torch.randn(batch, config.stage1.code_size, device=device)
    return _clip(config, batch, device)[:, 0].contiguous(), residual


def _model(config: FamilyConfig, device: torch.device) -> Model:
    flow = build_flow(config.stage2, config.stage1.code_size, config.ae.embedding_size)
    embedder = build_embedder(config.ae, config.stage1.size_px)
    decoder = build_stage1(config.stage1).decoder
    parts = [each.to(device).eval() for each in (decoder, flow, embedder)]
    return Model(*parts)  # type: ignore[arg-type]


def _stage1_stepper(config: FamilyConfig, clip: Tensor) -> Callable[[], object]:
    """One update on a batch that stays the same, as are the others."""
    networks = build_stage1(config.stage1)
    for network in vars(networks).values():
        network.to(clip.device)
    adam = partial(build_adam, config=config.stage1.optimizer)
    return partial(
        stage1_step,
        networks,
        Stage1Optimizers(
            adam([networks.encoder, networks.decoder]),
            adam([networks.temporal_discriminator]),
            adam([networks.patch_discriminator]),
        ),
        clip,
        config=config.stage1,
        adversarial=True,
        perceptual=perceptual(clip.device),
        generator=torch.Generator().manual_seed(0),
    )


def _autoencoder_stepper(config: FamilyConfig, images: Tensor) -> Callable[[], object]:
    networks = build_autoencoder(config.ae, config.stage1.size_px)
    for network in vars(networks).values():
        network.to(images.device)
    return partial(
        autoencoder_step,
        networks,
        AutoencoderOptimizers(
            build_adam([networks.encoder, networks.decoder], config.ae.optimizer),
            build_adam([networks.discriminator], config.ae.optimizer),
        ),
        images,
        config=config.ae,
        adversarial=True,
        perceptual=perceptual(images.device),
    )


def _flow_stepper(config: FamilyConfig, clip: Tensor) -> Callable[[], object]:
    """With the frozen encoder and embedder, which are most of it."""
    encoder = build_stage1(config.stage1).encoder.to(clip.device).eval()
    embedder = build_embedder(config.ae, config.stage1.size_px).to(clip.device).eval()
    sizes = (config.stage1.code_size, config.ae.embedding_size)
    flow = build_flow(config.stage2, *sizes).to(clip.device)
    optimizer = build_adam([flow], config.stage2.optimizer)

    def step() -> object:
        with torch.no_grad():
            code, _ = encoder(clip[:, 1:])
            condition = embedder.embed(clip[:, 0])
        return flow_step(flow, optimizer, code.float(), condition.float())

    return step
