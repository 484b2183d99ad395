"""cinn: training steps of all stages and sampling, at the published sizes, with peak memory.

`--against DIR`: a checkout of the published code, whose stage-1 step and sampling then take turns
with ours. What it needs beside torch is replaced by stand-ins: the perceptual network, PSNR and
SSIM are ours on both sides, and what it logs goes nowhere.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from pipelines.cinn.config import FamilyConfig
from pipelines.cinn.inference import Model, sample_video
from pipelines.cinn.networks import build_autoencoder, build_embedder, build_flow, build_stage1
from pipelines.cinn.steps import (
    AutoencoderOptimizers,
    Stage1Optimizers,
    autoencoder_step,
    flow_step,
    stage1_step,
)
from pipelines.features.lpips import Lpips
from pipelines.nn import image_quality
from pipelines.training.device import choose_device
from pipelines.training.optim import build_adam
from tests.benchmarks.rows import Measurement, Settings, apart, interleaved, ratios, seconds

_PRESETS = {"bair": 10, "landscape": 7}
"""Preset -> clips in a batch of stage 1."""
_ROOT = Path(__file__).resolve().parents[2]
_STAGES = ("1", "ae", "2")
_PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of every preset, stage and precision; each in a process of its own, for its memory."""
    presets = ("bair",) if settings.quick else tuple(_PRESETS)
    for preset in presets:
        for precision in _PRECISIONS:
            for stage in _STAGES:
                yield _row(settings, step_seconds, preset, stage, precision)
            for batch in (1, 8):
                yield _row(settings, sampling_seconds, preset, str(batch), precision)
        if settings.against is not None:
            yield from _beside(settings, preset)


def _row(
    settings: Settings, function: Callable[..., Any], preset: str, what: str, precision: str
) -> Measurement:
    done = apart(
        function, preset, what, precision, settings.device, settings.repeats, settings.quick
    )
    sort = f"stage {what}, training step" if function is step_seconds else f"sampling, batch {what}"
    return Measurement(
        f"{preset}, {sort}, {precision}",
        done.result,
        "s",
        peak_mb=done.peak_mb,
        note=_note(settings),
    )


def _note(settings: Settings) -> str:
    batch = "batches of 1" if settings.quick else "published batches"
    return f"random weights; {batch}; 16 frames; {settings.device}"


def step_seconds(
    preset: str, stage: str, precision: str, device: str, repeats: int, quick: bool
) -> list[float]:
    """Seconds of one training step."""
    place = choose_device(device)
    step = _stepper(stage, preset, place, quick=quick)
    return seconds(_in_precision(step, precision, place), repeats=repeats)


def sampling_seconds(
    preset: str, batch: str, precision: str, device: str, repeats: int, quick: bool
) -> list[float]:
    """Seconds from start frames and residuals to 16 frames each."""
    place = choose_device(device)
    work = _sampler(_config(preset), int(batch), place)
    return seconds(_in_precision(work, precision, place), repeats=repeats)


def _in_precision(
    work: Callable[[], object], precision: str, device: torch.device
) -> Callable[[], object]:
    dtype = _PRECISIONS[precision]

    def call() -> object:
        with torch.autocast(device.type, dtype) if dtype else nullcontext():
            return work()

    return call


def _config(preset: str) -> FamilyConfig:
    text = (_ROOT / "conf" / "cinn" / f"{preset}.yaml").read_text(encoding="utf-8")
    return FamilyConfig.model_validate(yaml.safe_load(text))


def _clip(config: FamilyConfig, batch: int, device: torch.device) -> Tensor:
    size = config.stage1.size_px
    return torch.rand(batch, 17, 3, size, size, device=device) * 2 - 1


def _perceptual(device: torch.device) -> nn.Module:
    return Lpips().eval().requires_grad_(False).to(device)


def _stepper(stage: str, preset: str, device: torch.device, *, quick: bool) -> Callable[[], object]:
    """One update of a stage on a batch that stays the same."""
    config = _config(preset)
    if stage == "1":
        return _stage1_stepper(config, 1 if quick else _PRESETS[preset], device)
    if stage == "ae":
        return _autoencoder_stepper(config, 2 if quick else config.ae.batch_size, device)
    return _flow_stepper(config, 2 if quick else config.stage2.batch_size, device)


def _stage1_stepper(config: FamilyConfig, batch: int, device: torch.device) -> Callable[[], object]:
    networks = build_stage1(config.stage1)
    for network in vars(networks).values():
        network.to(device)
    adam = partial(build_adam, config=config.stage1.optimizer)
    return partial(
        stage1_step,
        networks,
        Stage1Optimizers(
            adam([networks.encoder, networks.decoder]),
            adam([networks.temporal_discriminator]),
            adam([networks.patch_discriminator]),
        ),
        _clip(config, batch, device),
        config=config.stage1,
        adversarial=True,
        perceptual=_perceptual(device),
        generator=torch.Generator().manual_seed(0),
    )


def _autoencoder_stepper(
    config: FamilyConfig, batch: int, device: torch.device
) -> Callable[[], object]:
    networks = build_autoencoder(config.ae, config.stage1.size_px)
    for network in vars(networks).values():
        network.to(device)
    return partial(
        autoencoder_step,
        networks,
        AutoencoderOptimizers(
            build_adam([networks.encoder, networks.decoder], config.ae.optimizer),
            build_adam([networks.discriminator], config.ae.optimizer),
        ),
        _clip(config, batch, device)[:, 0],
        config=config.ae,
        adversarial=True,
        perceptual=_perceptual(device),
    )


def _flow_stepper(config: FamilyConfig, batch: int, device: torch.device) -> Callable[[], object]:
    """With the frozen encoder and embedder, which are most of it."""
    encoder = build_stage1(config.stage1).encoder.to(device).eval()
    embedder = build_embedder(config.ae, config.stage1.size_px).to(device).eval()
    sizes = (config.stage1.code_size, config.ae.embedding_size)
    flow = build_flow(config.stage2, *sizes).to(device)
    optimizer = build_adam([flow], config.stage2.optimizer)
    clip = _clip(config, batch, device)

    def step() -> object:
        with torch.no_grad():
            code, _ = encoder(clip[:, 1:])
            condition = embedder.embed(clip[:, 0])
        return flow_step(flow, optimizer, code.float(), condition.float())

    return step


def _sampler(config: FamilyConfig, batch: int, device: torch.device) -> Callable[[], Tensor]:
    model = _model(config, device)
    model.decoder.fold_for_sampling()
    start = _clip(config, batch, device)[:, 0]
    residual = torch.randn(batch, config.stage1.code_size, device=device)
    return lambda: sample_video(model, start, residual, 16)


def _model(config: FamilyConfig, device: torch.device) -> Model:
    flow = build_flow(config.stage2, config.stage1.code_size, config.ae.embedding_size)
    embedder = build_embedder(config.ae, config.stage1.size_px)
    decoder = build_stage1(config.stage1).decoder
    parts = [each.to(device).eval() for each in (decoder, flow, embedder)]
    return Model(*parts)  # type: ignore[arg-type]


# The published code, taking turns with ours


def _beside(settings: Settings, preset: str) -> Iterator[Measurement]:
    device, config = choose_device(settings.device), _config(preset)
    published = Published(settings.against, device)  # type: ignore[arg-type]
    batch = 1 if settings.quick else _PRESETS[preset]
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object], float]] = {
        f"sampling, batch {n}": (_sampler(config, n, device), published.sampler(config, n), 2.0)
        for n in (1, 8)
    }
    pairs["stage 1, training step"] = (
        _stage1_stepper(config, batch, device),
        published.stepper(config, batch),
        1.5,
    )
    for name, (ours, theirs, aim) in pairs.items():
        mine, other = interleaved([ours, theirs], repeats=settings.repeats)
        title = f"{preset}, {name}, over the published code"
        yield Measurement(title, ratios(other, mine), "x", at_least=aim, note=_note(settings))


class Published:
    """The published networks and step, made to run on any device and without its own logging."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """folder: a checkout. Puts it on the import path of this process."""
        self._device = device
        sys.path.insert(0, str(folder))
        quality = types.ModuleType("pytorch_lightning.metrics.functional")
        quality.psnr, quality.ssim = image_quality.psnr, image_quality.ssim  # type: ignore[attr-defined]
        perceptual = types.ModuleType("stage2_cINN.AE.modules.LPIPS")
        perceptual.LPIPS = lambda: _perceptual(device)  # type: ignore[attr-defined]
        logger = types.ModuleType("wandb")
        logger.log = lambda *_, **__: None  # type: ignore[attr-defined]
        for stand_in in (
            quality,
            perceptual,
            logger,
            *(types.ModuleType(f"pytorch_lightning{rest}") for rest in ("", ".metrics")),
        ):
            sys.modules[stand_in.__name__] = stand_in
        if device.type == "cpu":  # its modules ask for a GPU in so many words
            Tensor.cuda = lambda tensor, *_, **__: tensor  # type: ignore[method-assign]
            nn.Module.cuda = lambda module, *_, **__: module  # type: ignore[method-assign]

    def sampler(self, config: FamilyConfig, batch: int) -> Callable[[], Tensor]:
        """Embed, invert the flow, decode: as its Model.forward does, in eval mode without grad."""
        generator = importlib.import_module("stage1_VAE.modules.decoder").Generator
        flow_class = importlib.import_module("stage2_cINN.modules.flow_blocks").ConditionalFlow
        stage1, flow_config = config.stage1, config.stage2
        decoder = generator(self._decoder(config)).to(self._device).eval()
        flow = flow_class(
            in_channels=stage1.code_size,
            embedding_dim=config.ae.embedding_size,
            hidden_dim=flow_config.hidden_width,
            hidden_depth=flow_config.hidden_depth,
            n_flows=flow_config.num_flows,
            conditioning_option="None",
            control=False,
        )
        flow = flow.to(self._device).eval()
        # its embedder is torchvision's network: ours is the same arithmetic
        embedder = build_embedder(config.ae, stage1.size_px).to(self._device).eval()
        start = _clip(config, batch, self._device)[:, 0]
        residual = torch.randn(batch, stage1.code_size, device=self._device)

        @torch.no_grad()
        def sample() -> Tensor:
            code = flow(residual, embedder.embed(start), reverse=True).view(batch, -1)
            video: Tensor = decoder(start, code)
            return video

        return sample

    def stepper(self, config: FamilyConfig, batch: int) -> Callable[[], object]:
        """Its stage-1 update."""
        modules = {
            name: importlib.import_module(f"stage1_VAE.modules.{name}")
            for name in ("decoder", "resnet3D", "patch_disc", "loss")
        }
        stage1 = config.stage1
        shared = {"res_type_encoder": "resnet18", "deterministic": False}
        encoder = modules["resnet3D"].Encoder(
            {
                **shared,
                "use_max_pool": False,
                "z_dim": stage1.code_size,
                "channels": list(stage1.encoder_channels),
                "stride_t": list(stage1.encoder_stride_time),
                "stride_s": list(stage1.encoder_stride_space),
            }
        )
        temporal = modules["resnet3D"].Discriminator(
            {
                **shared,
                "use_max_pool": True,
                "channels": list(stage1.temporal_channels),
                "stride_t": [2, 2, 2, 2],
                "stride_s": list(stage1.temporal_stride_space),
                "spectral_norm": True,
            }
        )
        patch = modules["patch_disc"].NLayerDiscriminator(
            {"in_channels": 3, "ndf": 64, "n_layers": 3, "use_actnorm": True, "spectral_norm": True}
        )
        decoder = modules["decoder"].Generator(self._decoder(config))
        networks = [each.to(self._device).train() for each in (decoder, encoder, temporal, patch)]
        groups = ([*decoder.parameters(), *encoder.parameters()], temporal.parameters())
        adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.9), weight_decay=1e-5)
        optimizers = [adam(group) for group in (*groups, patch.parameters())]
        training = {
            "w_kl": stage1.weight_kl,
            "GAN_Loss": "hinge",
            "w_coup_t": 1,
            "w_fmap_t": 10,
            "w_coup_s": 1,
            "subsample_length": 12,
            "w_recon": stage1.weight_reconstruction,
            "w_GP": 10,
            "w_percep": stage1.weight_perceptual,
            "pretrain": 0,
        }
        options = types.SimpleNamespace(Training=training, Data={"sequence_length": 17})
        update = modules["loss"].Backward(options).to(self._device)
        clip, log = _clip(config, batch, self._device), types.SimpleNamespace(append=lambda _: None)
        # its gradient penalty marks a part of the clip as wanting a gradient: each time a new one
        return lambda: update(*networks, clip.clone(), optimizers, 1, log)

    def _decoder(self, config: FamilyConfig) -> dict[str, Any]:
        stage1 = config.stage1
        return {
            "channel_factor": stage1.decoder_width,
            "z_dim": stage1.code_size,
            "upsample_s": list(stage1.decoder_upsample_space),
            "upsample_t": list(stage1.decoder_upsample_time),
            "spectral_norm": True,
        }
