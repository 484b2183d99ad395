"""The published cinn networks and updates, made to run on any device, to be timed beside ours.

From a checkout of the published code, which is imported as it is. What it needs beside torch and
torchvision is replaced by stand-ins: PSNR and SSIM are ours on both sides, and what it logs goes
nowhere. Its perceptual network has random weights, as ours has.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from pipelines.cinn.config import FamilyConfig
from pipelines.cinn.inference import Model
from pipelines.features.lpips import Lpips
from pipelines.nn import image_quality
from tests.pipelines.cinn import published_folder

_LOG = types.SimpleNamespace(append=lambda _: None)


def perceptual(device: torch.device) -> nn.Module:
    """Our perceptual network, with random weights."""
    return Lpips().eval().requires_grad_(False).to(device)


class Published:
    """A checkout; it is on the import path of this process from now on."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._device = device
        sys.path.insert(0, str(folder))
        quality = types.ModuleType("pytorch_lightning.metrics.functional")
        quality.psnr, quality.ssim = image_quality.psnr, image_quality.ssim  # type: ignore[attr-defined]
        logger = types.ModuleType("wandb")
        logger.log = lambda *_, **__: None  # type: ignore[attr-defined]
        downloads = types.ModuleType("stage2_cINN.AE.modules.ckpt_util")
        downloads.get_ckpt_path = lambda name: name  # type: ignore[attr-defined]
        empty = ("pytorch_lightning", "pytorch_lightning.metrics")
        for stand_in in (quality, logger, downloads, *map(types.ModuleType, empty)):
            sys.modules[stand_in.__name__] = stand_in
        # its perceptual network keeps the random weights it is made with
        trunk = torchvision.models.vgg16
        torchvision.models.vgg16 = lambda **_: trunk(weights=None)
        _module("stage2_cINN.AE.modules.LPIPS").LPIPS.load_from_pretrained = lambda _: None
        if device.type == "cpu":  # its modules ask for a GPU in so many words
            Tensor.cuda = lambda tensor, *_, **__: tensor  # type: ignore[method-assign]
            nn.Module.cuda = lambda module, *_, **__: module  # type: ignore[method-assign]

    def sampler(
        self, config: FamilyConfig, start: Tensor, residual: Tensor, weights: Model | None = None
    ) -> Callable[[], Tensor]:
        """Embed, invert the flow, decode, in eval mode without gradients.

        weights: ours, given to its networks.
        """
        decoder = _module("stage1_VAE.modules.decoder").Generator(_decoder_settings(config))
        flow, embedder = self._flow(config), self._embedder(config)
        if weights is not None:
            decoder.load_state_dict(published_folder.decoder_state(weights.decoder))
            flow.load_state_dict(published_folder.flow_state(weights.flow))
            embedder.load_state_dict(published_folder.image_encoder_state(weights.embedder))
        decoder, flow, embedder = (
            each.to(self._device).eval() for each in (decoder, flow, embedder)
        )

        @torch.no_grad()
        def sample() -> Tensor:
            embedding = embedder.encode(start).mode().reshape(len(start), -1)
            code = flow(residual, embedding, reverse=True).view(len(start), -1)
            video: Tensor = decoder(start, code)
            return video

        return sample

    def stage1_stepper(self, config: FamilyConfig, clip: Tensor) -> Callable[[], object]:
        """Its stage-1 update. clip: B 17 3 S S."""
        stage1, resnet = config.stage1, _module("stage1_VAE.modules.resnet3D")
        shared = {"res_type_encoder": "resnet18", "deterministic": False}
        encoder = resnet.Encoder(_encoder_settings(config))
        temporal = resnet.Discriminator(
            {
                **shared,
                "use_max_pool": True,
                "channels": list(stage1.temporal_channels),
                "stride_t": [2, 2, 2, 2],
                "stride_s": list(stage1.temporal_stride_space),
                "spectral_norm": True,
            }
        )
        decoder = _module("stage1_VAE.modules.decoder").Generator(_decoder_settings(config))
        networks = [
            each.to(self._device).train() for each in (decoder, encoder, temporal, _patch())
        ]
        groups = (
            [*decoder.parameters(), *encoder.parameters()],
            *(each.parameters() for each in networks[2:]),
        )
        adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.9), weight_decay=1e-5)
        optimizers = [adam(group) for group in groups]
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
        update = _module("stage1_VAE.modules.loss").Backward(options).to(self._device)
        # its gradient penalty marks a part of the clip as wanting a gradient: each time a new one
        return lambda: update(*networks, clip.clone(), optimizers, 1, _LOG)

    def autoencoder_stepper(self, config: FamilyConfig, images: Tensor) -> Callable[[], object]:
        """Its image autoencoder's update. images: B 3 S S."""
        network = _module("stage2_cINN.AE.modules.AE").BigAE(_autoencoder_settings(config))
        network, discriminator = (each.to(self._device).train() for each in (network, _patch()))
        optimizers = [
            torch.optim.Adam(each.parameters(), lr=2e-4) for each in (network, discriminator)
        ]
        settings = {"w_kl": config.ae.weight_kl, "pretrain": 0}
        update = _module("stage2_cINN.AE.modules.loss").Loss(settings).to(self._device)
        return lambda: update(images, network, discriminator, optimizers, 1, _LOG)

    def flow_stepper(self, config: FamilyConfig, clip: Tensor) -> Callable[[], object]:
        """Its stage-2 update: the encoder is run with gradients, as there. clip: B 17 3 S S."""
        encoder = _module("stage1_VAE.modules.resnet3D").Encoder(_encoder_settings(config))
        encoder = encoder.to(self._device).eval()
        embedder, flow = (
            each.to(self._device).train() for each in (self._embedder(config), self._flow(config))
        )
        loss_of = _module("stage2_cINN.modules.loss").FlowLoss()
        optimizer = torch.optim.Adam(flow.parameters(), lr=1e-5, betas=(0.9, 0.99), amsgrad=True)

        def step() -> None:
            code = encoder(clip[:, 1:].transpose(1, 2))[0]
            with torch.no_grad():
                embedding = embedder.encode(clip[:, 0]).mode().reshape(len(clip), -1)
            found = flow(code.reshape(len(clip), -1).detach(), embedding)
            optimizer.zero_grad()
            loss_of(*found, _LOG, mode="train").backward()
            optimizer.step()

        return step

    def _flow(self, config: FamilyConfig) -> nn.Module:
        flow: nn.Module = _module("stage2_cINN.modules.flow_blocks").ConditionalFlow(
            in_channels=config.stage1.code_size,
            embedding_dim=config.ae.embedding_size,
            hidden_dim=config.stage2.hidden_width,
            hidden_depth=config.stage2.hidden_depth,
            n_flows=config.stage2.num_flows,
            conditioning_option="None",
            control=False,
        )
        return flow

    def _embedder(self, config: FamilyConfig) -> nn.Module:
        network: nn.Module = _module("stage2_cINN.AE.modules.AE").ResnetEncoder(
            _autoencoder_settings(config)
        )
        return network


def _module(name: str) -> Any:
    return importlib.import_module(name)


def _patch() -> nn.Module:
    settings = {"in_channels": 3, "ndf": 64, "n_layers": 3}
    network: nn.Module = _module("stage1_VAE.modules.patch_disc").NLayerDiscriminator(
        settings | {"use_actnorm": True, "spectral_norm": True}
    )
    return network


def _encoder_settings(config: FamilyConfig) -> dict[str, Any]:
    stage1 = config.stage1
    return {
        "res_type_encoder": "resnet18",
        "deterministic": False,
        "use_max_pool": False,
        "z_dim": stage1.code_size,
        "channels": list(stage1.encoder_channels),
        "stride_t": list(stage1.encoder_stride_time),
        "stride_s": list(stage1.encoder_stride_space),
    }


def _decoder_settings(config: FamilyConfig) -> dict[str, Any]:
    stage1 = config.stage1
    return {
        "channel_factor": stage1.decoder_width,
        "z_dim": stage1.code_size,
        "upsample_s": list(stage1.decoder_upsample_space),
        "upsample_t": list(stage1.decoder_upsample_time),
        "spectral_norm": True,
    }


def _autoencoder_settings(config: FamilyConfig) -> dict[str, Any]:
    return {
        "z_dim": config.ae.embedding_size,
        "in_size": config.stage1.size_px,
        "norm": {"instance": "in", "batch": "bn"}[config.ae.norm],
        "encoder_type": "resnet50",
        "deterministic": False,
        "pre_process": False,
        "pretrained": False,
        "use_actnorm_in_dec": False,
    }
