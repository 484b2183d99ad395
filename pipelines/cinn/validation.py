"""How good a stage is on held-out clips, always the same ones, while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from pipelines.cinn import losses
from pipelines.cinn.augment import prepare
from pipelines.cinn.autoencoder import ImageEncoder
from pipelines.cinn.config import FlowConfig
from pipelines.cinn.encoder import VideoEncoder, sample_code
from pipelines.cinn.endpoint import endpoints_of
from pipelines.cinn.flow import ConditionalFlow
from pipelines.cinn.inference import condition
from pipelines.cinn.networks import AutoencoderNetworks, Stage1Networks
from pipelines.cinn.steps import Perceptual
from pipelines.clips.batches import load_clips
from pipelines.clips.frames import from_bytes
from pipelines.clips.rules import Clip
from pipelines.clips.training_data import TrainingData
from pipelines.nn import image_quality
from pipelines.training.generators import torch_generator

_BATCH = 8
_CAP_DB = 100.0  # what a frame without any error counts in a mean


@dataclass(frozen=True)
class HeldOut:
    """Held-out clips as a model sees them. num_frames: per clip, start frame included."""

    data: TrainingData
    num_frames: int
    size_px: int
    device: torch.device
    seed: int
    control: FlowConfig | None = None  # of a flow that is told where clips end

    def batches(self) -> Iterator[Tensor]:
        """The clips, B 1+T 3 S S in [-1, 1]."""
        clips = self.data.validation
        for first in range(0, len(clips), _BATCH):
            yield self.load(clips[first : first + _BATCH])

    def load(self, clips: Sequence[Clip]) -> Tensor:
        """Some clips, B 1+T 3 S S in [-1, 1]."""
        frames = torch.from_numpy(load_clips(self.data.videos, clips, self.num_frames))
        return prepare(as_clips(frames.to(self.device)), self.size_px)

    def endpoints(self, clips: Sequence[Clip]) -> Tensor | None:
        """Where some clips end, B 3, for a flow that is told so."""
        if self.control is None:
            return None
        found = endpoints_of(self.data.videos, clips, self.num_frames, self.control)
        return found.to(self.device)

    def noise(self, size: int) -> Iterator[Tensor]:
        """Standard normal numbers for each batch, B Z, the same at every validation."""
        generator = torch_generator(self.seed, "validation")
        noise = torch.randn((len(self.data.validation), size), generator=generator)
        if len(noise):  # split() would give one empty part
            yield from noise.to(self.device).split(_BATCH)


def as_clips(frames: Tensor) -> Tensor:
    """Stored frames, uint8 B T H W C with C 1 or 3, as B T 3 H W in [0, 1]."""
    return from_bytes(frames.expand(*frames.shape[:-1], 3))


@torch.no_grad()
def validate_stage1(
    networks: Stage1Networks, held_out: HeldOut, perceptual: Perceptual
) -> dict[str, float]:
    """Reconstruction errors, with sampled codes, and the PSNR of a video that does not move."""
    found: list[tuple[int, dict[str, Tensor]]] = []
    code_size = networks.encoder.to_mean.out_channels
    with evaluating(vars(networks)):
        for clip, noise in zip(held_out.batches(), held_out.noise(code_size), strict=True):
            start, real = clip[:, 0], clip[:, 1:]
            mean, log_variance = networks.encoder(real)
            fake = networks.decoder(start, sample_code(mean, log_variance, noise))
            real_frames, fake_frames = real.flatten(0, 1), fake.flatten(0, 1)
            static = start.unsqueeze(1).expand_as(real).flatten(0, 1)
            values = {
                "val_l1": (fake - real).abs().mean(),
                "val_perceptual": perceptual(real_frames, fake_frames).mean(),
                "val_kl": losses.kl_divergence(mean, log_variance),
                "val_psnr": frame_psnr(real_frames, fake_frames),
                "val_ssim": image_quality.ssim(real_frames, fake_frames),
                "val_psnr_static": frame_psnr(real_frames, static),
            }
            found.append((len(clip), values))
    return _means(found)


@torch.no_grad()
def validate_autoencoder(
    networks: AutoencoderNetworks, held_out: HeldOut, perceptual: Perceptual
) -> dict[str, float]:
    """Reconstruction errors of start frames."""
    found: list[tuple[int, dict[str, Tensor]]] = []
    with evaluating(vars(networks)):
        for clip in held_out.batches():
            image = clip[:, 0]
            fake = networks.decoder(networks.encoder.embed(image))
            values = {
                "val_l1": (fake - image).abs().mean(),
                "val_perceptual": perceptual(image, fake).mean(),
                "val_psnr": frame_psnr(image, fake),
            }
            found.append((len(clip), values))
    return _means(found)


@torch.no_grad()
def validate_flow(
    flow: ConditionalFlow, encoder: VideoEncoder, embedder: ImageEncoder, held_out: HeldOut
) -> dict[str, float]:
    """The flow's loss on codes sampled from the posteriors of held-out clips."""
    found: list[tuple[int, dict[str, Tensor]]] = []
    code_size = encoder.to_mean.out_channels
    with evaluating({"flow": flow}):
        for clip, noise in zip(held_out.batches(), held_out.noise(code_size), strict=True):
            mean, log_variance = encoder(clip[:, 1:])
            code = sample_code(mean, log_variance, noise)
            seen = sum(size for size, _ in found)
            endpoint = held_out.endpoints(held_out.data.validation[seen : seen + len(clip)])
            loss, nll, _ = losses.flow_loss(*flow(code, condition(embedder, clip[:, 0], endpoint)))
            found.append((len(clip), {"val_loss": loss, "val_nll": nll}))
    return _means(found)


def frame_psnr(real: Tensor, fake: Tensor) -> Tensor:
    """Mean over frames of the PSNR in dB, data range 2. real, fake: N 3 H W in [-1, 1]."""
    error = (real - fake).square().mean((1, 2, 3))
    return (10 * torch.log10(4 / error)).clamp_max(_CAP_DB).mean()


@contextmanager
def evaluating(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """Eval mode within the block, the modes from before it afterwards."""
    modes = {name: network.training for name, network in networks.items()}
    for network in networks.values():
        network.eval()
    try:
        yield
    finally:
        for name, network in networks.items():
            network.train(modes[name])


def _means(batches: list[tuple[int, dict[str, Tensor]]]) -> dict[str, float]:
    """The mean over clips of what was found, batch by batch; nothing when there are none."""
    sizes = [size for size, _ in batches]
    names = batches[0][1] if batches else ()
    return {
        name: fmean((float(found[name]) for _, found in batches), weights=sizes) for name in names
    }
