"""The published poke code beside ours: same weights, same inputs, the same order of updates.

Its training step is a part of a program that wants data, a graphics card and a logging service;
here its networks, losses and discriminator updates are called in the order in which that program
calls them. What its modules import but the step does not need is replaced by empty stand-ins.
"""

from __future__ import annotations

import importlib
import logging
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from pipelines.features.vgg19 import Vgg19Loss, vgg19_state
from pipelines.poke import checkpoint
from pipelines.poke.build import build_model, build_networks, build_optimizers
from pipelines.poke.config import FamilyConfig
from pipelines.poke.inference import answer_video
from pipelines.poke.sampling_form import for_sampling
from pipelines.poke.steps import Batch, Draws, Networks, poke_step

Step = Callable[[], dict[str, Tensor]]

_UNUSED = ("coloredlogs", "cv2")
_LOSSES = ("static", "perceptual", "latent", "generator_patch", "generator_temporal")
"""What both steps tell of themselves."""


class Published:
    """The published modules, made to run on any device."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """folder: a checkout. Puts it on the import path of this process."""
        self._device = device
        sys.path.insert(0, str(folder))
        for name in _UNUSED:
            sys.modules.setdefault(name, types.ModuleType(name))
        torchvision.models.vgg19 = partial(_random_vgg, torchvision.models.vgg19)
        if device.type == "cpu":  # its modules ask for a GPU in so many words
            Tensor.cuda = lambda tensor, *_, **__: tensor  # type: ignore[method-assign]
            nn.Module.cuda = lambda module, *_, **__: module  # type: ignore[method-assign]
        self._networks = importlib.import_module("models.latent_flow_net")
        self._critics = importlib.import_module("models.discriminator")
        self._losses = importlib.import_module("utils.losses")

    def model(self, config: FamilyConfig) -> nn.Module:
        """Its network of the published settings, with random weights."""
        size = (config.model.size_px,) * 2
        model: nn.Module = self._networks.SkipSequenceModel(size, _architecture(config))
        return model.to(self._device)

    def sampling(self, config: FamilyConfig, image: Tensor, poke: Tensor) -> tuple[Step, Step]:
        """Our way and its way from an image and a poke to a video, with the same weights."""
        theirs = self.model(config).eval()
        model = build_model(config).to(self._device).eval().requires_grad_(False)
        model.load_state_dict(checkpoint.model_state(theirs.state_dict()))
        ours, num_frames = for_sampling(model), config.clips.num_frames

        def mine() -> dict[str, Tensor]:
            video = answer_video(ours, image, poke, num_frames, schedule="every-step")
            return {"video": video}

        @torch.no_grad()
        def other() -> dict[str, Tensor]:
            return {"video": theirs(image, image, poke, len=num_frames)[0]}

        return mine, other

    def steps(self, config: FamilyConfig, batch: Batch, *, has_critics: bool) -> tuple[Step, Step]:
        """Our update and its update, both from the same weights."""
        theirs = self.model(config).train()
        critics = {name: self._critic(config, name) for name in ("gan", "gan_temp")}
        perceptual = self._losses.PerceptualVGG().to(self._device)
        chosen = torch.randint(
            len(batch.frames) * config.clips.num_frames,
            (2, config.patch.num_frames),
            generator=torch.Generator().manual_seed(0),
        )
        networks = build_networks(config)
        networks.model.load_state_dict(checkpoint.model_state(theirs.state_dict()))
        states = [critics[name].disc.state_dict() for name in ("gan", "gan_temp")]
        networks.patch.load_state_dict(checkpoint.patch_discriminator_state(states[0]))
        networks.temporal.load_state_dict(checkpoint.temporal_discriminator_state(states[1]))
        ours_perceptual = Vgg19Loss()
        ours_perceptual.load_state_dict(vgg19_state(perceptual.vgg.state_dict()))
        mine = _our_step(
            networks, ours_perceptual, config, batch, chosen, self._device, has_critics=has_critics
        )
        other = self._step(
            theirs, critics if has_critics else {}, perceptual, config, batch, chosen
        )
        return mine, other

    def _critic(self, config: FamilyConfig, key: str) -> Any:
        trainer: Any = self._critics.GANTrainer(
            _settings(config),
            None,
            logging.getLogger("published"),
            spatial_size=config.model.size_px,
            temporal=key == "gan_temp",
            sequence_length=config.clips.num_frames,
        )
        trainer.disc.to(self._device)
        return trainer

    def _step(
        self,
        net: nn.Module,
        critics: dict[str, Any],
        vgg: nn.Module,
        config: FamilyConfig,
        batch: Batch,
        chosen: Tensor,
    ) -> Step:
        """Its iteration, for the settings that it was published with."""
        distance, latent_loss = self._losses.vgg_loss_agg, self._losses.DynamicsLoss({})
        rate = config.optimizer.learning_rate
        still = torch.optim.Adam(
            [{"params": each.parameters()} for each in (net.shape_enc, net.dec)], lr=rate
        )
        moving = torch.optim.Adam(
            [{"params": m.parameters()} for m in (net.dynamics_enc, net.fusion_block, net.dec)],
            lr=rate,
        )
        start, real = batch.frames[:, 0], batch.frames[:, 1:]
        count = real.shape[1]

        def step() -> dict[str, Tensor]:
            drawn, *_ = net(real[:, -1], start, batch.poke, len=0)
            log = {"static": distance(vgg, start, drawn)}
            still.zero_grad()
            log["static"].backward()
            still.step()
            video, _, states, _ = net(start, start, batch.poke, len=count, n_zero_frames=0)
            distances, differences = [], []
            for n in range(count):
                _, wanted, *_ = net(real[:, n], real[:, n], batch.poke, len=0)
                distances.append(distance(vgg, real[:, n], video[:, n]))
                differences.append(latent_loss(states[n], wanted, []))
            log["perceptual"] = torch.stack(distances).mean()
            log["latent"] = torch.stack(differences).mean()
            loss = config.losses.perceptual * log["perceptual"]
            loss = loss + config.losses.latent * log["latent"]
            if critics:
                pairs = zip((real, video), chosen, strict=True)
                sides = [each.flatten(0, 1)[at] for each, at in pairs]
                _, log["generator_patch"], matching = critics["gan"].train_step(*sides)
                loss = loss + config.patch.weight * log["generator_patch"]
                loss = loss + config.patch.feature_matching * matching
                clips = [each.transpose(1, 2) for each in (real, video)]
                _, log["generator_temporal"], matching = critics["gan_temp"].train_step(*clips)
                loss = loss + config.temporal.weight * log["generator_temporal"]
                loss = loss + config.temporal.feature_matching * matching
            moving.zero_grad()
            loss.backward()
            moving.step()
            return {name: value.detach().reshape(()) for name, value in log.items()}

        return step


def _our_step(
    networks: Networks,
    perceptual: Vgg19Loss,
    config: FamilyConfig,
    batch: Batch,
    chosen: Tensor,
    device: torch.device,
    *,
    has_critics: bool,
) -> Step:
    for network in vars(networks).values():
        network.to(device)
    start_step = config.temporal.start_step or 0
    update = partial(
        poke_step,
        networks,
        build_optimizers(networks, config),
        batch,
        config=config,
        step=start_step if has_critics else 0,
        draws=Draws(*chosen.to(device)),
        perceptual=perceptual.to(device).pack(),
    )

    def step() -> dict[str, Tensor]:
        log = update()
        return {name: log[name] for name in _LOSSES if name in log}

    return step


def _random_vgg(make: Callable[..., nn.Module], **_: object) -> nn.Module:
    """torchvision's network without a download."""
    torch.manual_seed(0)
    return make(weights=None)


def _architecture(config: FamilyConfig) -> dict[str, Any]:
    return {
        "nf_deep": config.model.deep,
        "min_spatial_size": config.model.smallest_px,
        "poke_and_img": False,
        "zeroflow_baseline": False,
        "poke_every_t": True,
    }


def _settings(config: FamilyConfig) -> dict[str, Any]:
    patch, temporal = config.patch, config.temporal
    return {
        "general": {"restart": False},
        "training": {
            "lr": config.optimizer.learning_rate,
            "n_epochs": 10,
            "tau": [],
            "lr_reduce": 1,
        },
        "gan": {
            "gp_weight": patch.gradient_penalty,
            "n_layers": patch.num_layers,
            "deep_layers": 1,
            "pixel_dynamics": False,
            "bce_loss": False,
        },
        "gan_temp": {
            "gp_weight": temporal.gradient_penalty,
            "patch_temp_disc": False,
            "num_classes": 1,
            "bce_loss": False,
        },
    }
