"""inbetween: the whole training graph of the unofficial implementation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.inbetween import checkpoint, losses
from pipelines.inbetween.config import LossConfig, NetworkConfig
from pipelines.inbetween.networks import ImageDiscriminator, Inbetweener, VideoDiscriminator
from tests.parity.harness import Adapter, Case, Result, built

_PARTS = ("video_disc.", "image_disc.")


def key(document: Mapping[str, Any]) -> str:
    """The computation of a case: the file it is from."""
    return next((name for name in ADAPTERS if name in document["network"]), document["network"])


def _training_graph(case: Case) -> Result:
    settings = case.config
    config = NetworkConfig(
        num_channels=settings["c_dim"],
        latent_channels=settings["latent_channels"],
        noise_size=settings["noise_dim"],
        is_midnet=True,
    )
    weights = LossConfig(weight_image=settings["alpha"], weight_gan=settings["beta"])
    model, video_judge, image_judge = _networks(case, config, settings["image_size"])
    real = case.inputs["video"]
    noise = case.inputs["u"].expand(len(real), -1)

    start, end = model.encoder(real[:, 0]), model.encoder(real[:, -1])
    stages = list(model.latent.stages(start, end, noise))
    fake = model.generator(stages[-1]).transpose(1, 2)
    outputs: dict[str, Tensor] = {
        "E_start": start,
        "E_end": end,
        **{f"z{i}": stages[i] for i in (0, 7, 15)},
        "latent": stages[-1],
        "prediction": fake.transpose(1, 2),
    }
    logits = {
        f"{judge}_logits_{kind}": _judged(judge, network, video)
        for judge, network in (("video", video_judge), ("image", image_judge))
        for kind, video in (("real", real), ("fake", fake))
    }
    outputs |= logits
    outputs |= _losses(logits, real, fake, weights)
    outputs["g_loss"].backward(retain_graph=True)
    outputs |= _gradients(case, {"": model})
    for judge in (video_judge, image_judge):
        judge.zero_grad()
    outputs["d_loss"].backward()
    return outputs | _gradients(case, dict(zip(_PARTS, (video_judge, image_judge), strict=True)))


def _networks(
    case: Case, config: NetworkConfig, size_px: int
) -> tuple[Inbetweener, VideoDiscriminator, ImageDiscriminator]:
    whole = case.state()
    inbetweener = {name: value for name, value in whole.items() if not name.startswith(_PARTS)}
    video, image = _PARTS
    return (
        built(partial(Inbetweener, config), checkpoint.state(inbetweener)).train(),
        built(partial(VideoDiscriminator, config, size_px=size_px), checkpoint.state(whole, video)),
        built(partial(ImageDiscriminator, config, size_px=size_px), checkpoint.state(whole, image)),
    )


def _judged(judge: str, network: nn.Module, video: Tensor) -> Tensor:
    if judge == "video":
        return network(video)
    frames = losses.inner_frames(video)
    return network(frames.flatten(0, 1)).view(frames.shape[:2]).t()  # as stored: frame, batch


def _losses(
    logits: Mapping[str, Tensor], real: Tensor, fake: Tensor, weights: LossConfig
) -> dict[str, Tensor]:
    squared, edges = losses.squared_error(real, fake), losses.gradient_difference(real, fake)
    gan = torch.stack(
        [losses.generator_part(logits[f"{judge}_logits_fake"]) for judge in ("video", "image")]
    ).sum()
    found = {
        "L_p": squared,
        "L_gdl": edges,
        "L_GAN": gan,
        "g_loss": weights.weight_image * (squared + edges) + weights.weight_gan * gan,
    }
    for judge, suffix in (("video", ""), ("image", "2")):
        parts = losses.discriminator_parts(
            logits[f"{judge}_logits_real"], logits[f"{judge}_logits_fake"]
        )
        found |= dict(zip((f"d_loss_real{suffix}", f"d_loss_fake{suffix}"), parts, strict=True))
    names = ("d_loss_real", "d_loss_fake", "d_loss_real2", "d_loss_fake2")
    found["d_loss"] = torch.stack([found[name] for name in names]).sum()
    return found


def _gradients(case: Case, networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Gradients that belong to these networks, given by the prefix of their stored names."""
    found = {}
    for output in case.wanted:
        stored = output.removeprefix("grad.")
        prefix = next((part for part in _PARTS if stored.startswith(part)), "")
        if output.startswith("grad.") and prefix in networks:
            parameters = dict(networks[prefix].named_parameters())
            gradient = parameters[checkpoint.key(stored.removeprefix(prefix))].grad
            assert gradient is not None
            found[output] = gradient.clone()
    return found


ADAPTERS: dict[str, Adapter] = {"midnet.py": _training_graph}
