"""poke: every network and loss, a whole training step, pokes from flow, sampling, frame metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from pipelines.features.inception_average import AverageInception, average_inception_state
from pipelines.features.vgg19 import LOSS_MAPS, STYLE_MAPS, Vgg19Loss, vgg19_state
from pipelines.metrics import frechet, psnr, ssim
from pipelines.poke import checkpoint, losses, pokes
from pipelines.poke.config import FamilyConfig
from pipelines.poke.discriminators import PatchDiscriminator, TemporalDiscriminator
from pipelines.poke.inference import from_bytes, prepare_published, to_bytes
from pipelines.poke.networks import (
    PokeModel,
    Schedule,
    SingleScaleModel,
    explicit_layout,
    poke_strengths,
    published_layout,
)
from pipelines.poke.sampling_form import for_sampling
from pipelines.poke.steps import Batch, Draws, Networks, Optimizers, poke_step
from tests.parity.harness import Case, CaseError, Result, Weights, built

Outputs = dict[str, Any]
Place = tuple[int, int]


def key(document: Mapping[str, Any]) -> str:
    """The computation of a case."""
    return str(document["call"])


# Networks


def _expect(settings: Mapping[str, Any], **known: Any) -> None:
    """Settings that exist in the published code and have one value in any published model."""
    for name, value in known.items():
        if settings.get(name, value) != value:
            raise CaseError(f"{name} = {settings[name]!r} is not a published setting")


def _size_px(value: Any) -> int:
    """64 or [64, 64]."""
    return int(value[0] if isinstance(value, list) else value)


def _model(weights: Case | Weights) -> PokeModel:
    settings = weights.config.get("architecture", {})
    _expect(settings, reparameterize_poke=False)
    size_px, deep = _size_px(weights.config["spatial_size"]), settings.get("nf_deep", 512)
    has_skips = settings.get("use_skip_model", True)
    if settings.get("layers"):
        layout = explicit_layout(settings["layers"], deep=deep)
    else:
        smallest_px = settings.get("min_spatial_size", 16)
        layout = published_layout(size_px, deep=deep, smallest_px=smallest_px, has_skips=has_skips)
    make = partial(
        PokeModel if has_skips else SingleScaleModel,
        layout,
        norm=settings.get("norm_layer", "in"),
        spectral_decoder=settings.get("spectnorm_decoder", False),
        sees_image=settings.get("poke_and_img", False),
        ignores_poke=settings.get("zeroflow_baseline", False),
        num_cells=settings.get("n_gru_layers", 2),
    )
    return built(make, checkpoint.model_state(weights.state()))


def _strengths(config: Mapping[str, Any]) -> list[float]:
    architecture, call = config.get("architecture", {}), config["call"]
    schedule: Schedule = "every-step"
    if call.get("poke_jump"):
        schedule = "jump"
    elif architecture.get("poke_scale"):
        schedule = "there-and-back" if call.get("invert_poke") else "linear"
    elif not architecture.get("poke_every_t", True):
        schedule = "once"
    return poke_strengths(schedule, call["len"], num_zero=call.get("n_zero_frames", 0))


def _patch(weights: Case | Weights) -> PatchDiscriminator:
    settings = weights.config["gan"]
    make = partial(
        PatchDiscriminator,
        num_layers=settings.get("n_layers", 3),
        num_deep=settings.get("deep_layers", 1) if settings.get("deep_disc") else 0,
        channels_in=6 if settings.get("pixel_dynamics") else 3,
    )
    return built(make, checkpoint.patch_discriminator_state(weights.state()))


def _temporal(weights: Case | Weights) -> TemporalDiscriminator:
    settings = weights.config["gan_temp"]
    _expect(settings, num_classes=1)
    make = partial(
        TemporalDiscriminator,
        num_frames=weights.config["sequence_length"],
        is_per_frame=settings.get("patch_temp_disc", False),
        sees_poke=settings.get("conditional", False),
    )
    return built(make, checkpoint.temporal_discriminator_state(weights.state()))


def _vgg(weights: Case | Weights) -> Vgg19Loss:
    network = Vgg19Loss()
    network.load_state_dict(vgg19_state(weights.state()))
    return network


# Forward passes


@torch.no_grad()
def _run_video(case: Case) -> Result:
    model = _model(case)
    images, poke = case.inputs["image"], case.inputs["poke"]
    video, code, states = model(images, poke, _strengths(case.config))
    last = {f"state_last_{i}": state for i, state in enumerate(states[-1])}
    return {"video": video, "delta": code, "state_last": states[-1][-1], **last}


@torch.no_grad()
def _run_reconstruction(case: Case) -> Result:
    drawn, states = _model(case).reconstruct(case.inputs["image"])
    return {"reconstruction": drawn, **{f"state_{i}": each for i, each in enumerate(states)}}


@torch.no_grad()
def _run_end_to_end(case: Case) -> Result:
    settings, size_px = case.config["poke"], _size_px(case.config["spatial_size"])
    rgb = case.inputs["image_bgr"].numpy()[..., ::-1]
    image = from_bytes(prepare_published(rgb, size_px))
    places = torch.tensor([[[settings["row"], settings["col"]]]])
    values = torch.tensor([[[settings["dx"], settings["dy"]]]])
    poke = pokes.poke_map(places, values, size_px=size_px, patch_px=settings["size"])
    video, _, _ = for_sampling(_model(case))(image[None], poke, _strengths(case.config))
    return {"network_image": image, "video": video, "video_uint8": to_bytes(video)}


# Discriminators and losses


def _run_discriminator(case: Case) -> Result:
    is_temporal = "gan_temp" in case.config
    critic: nn.Module = _temporal(case) if is_temporal else _patch(case)
    critic.train(case.config["train_mode"])
    shown = (case.inputs["cond"],) if "cond" in case.inputs else ()
    real, fake = case.inputs["real"], case.inputs["fake"]
    if is_temporal:
        real, fake = real.transpose(1, 2), fake.transpose(1, 2)
    real = real.contiguous().requires_grad_()
    real_logits, _ = critic(real, *shown)
    penalty = losses.gradient_penalty(real_logits, real)
    outputs: Outputs = {"pred_real": real_logits, "gradient_penalty_per_sample": penalty}
    outputs |= _penalty_gradients(case, critic, penalty)
    with torch.no_grad():
        fake_logits, fake_features = critic(fake, *shown)
        _, real_features = critic(real, *shown)
    outputs |= {f"feature_real_{i}": each for i, each in enumerate(real_features)}
    buffers = critic.state_dict()
    rename = checkpoint.temporal_discriminator_key
    for name in case.wanted:
        if name.startswith("after/"):
            outputs[name] = buffers[rename(name.removeprefix("after/"))]
    return outputs | {
        "pred_fake": fake_logits,
        "loss_real_hinge": losses.hinge_real(real_logits),
        "loss_fake_hinge": losses.hinge_fake(fake_logits),
        "loss_gen_hinge": losses.hinge_generator(fake_logits),
        "feature_matching_l1": losses.feature_matching(fake_features, real_features),
    }


def _penalty_gradients(case: Case, critic: nn.Module, penalty: Tensor) -> Outputs:
    wanted = [name for name in case.wanted if name.startswith("gp_grad/")]
    if not wanted:
        return {}
    penalty.mean().backward()
    is_temporal = isinstance(critic, TemporalDiscriminator)
    convert = (
        checkpoint.temporal_discriminator_state
        if is_temporal
        else checkpoint.patch_discriminator_state
    )
    gradients = {name: p.grad for name, p in critic.named_parameters()}
    found = {}
    for name in wanted:
        (ours,) = convert({name.removeprefix("gp_grad/"): torch.empty(0)})
        found[name] = gradients[ours]
    return found


@torch.no_grad()
def _run_vgg(case: Case) -> Result:
    network = _vgg(case)
    real, fake = case.inputs["target"], case.inputs["prediction"]
    terms = [term.mean() for term in network.terms(real, fake)]
    named = zip(("input", *LOSS_MAPS), terms, strict=True)
    maps = zip(LOSS_MAPS, network.maps(real, LOSS_MAPS), strict=True)
    styles = (network.maps(images, STYLE_MAPS) for images in (fake, real))
    return {
        **{f"feature_{name}": each for name, each in maps},
        **{f"term_{name}": term for name, term in named},
        "perceptual_loss": network(real, fake).mean(),
        "style_loss": losses.style(*styles),
    }


def _run_small_losses(case: Case) -> Result:
    given = case.inputs
    lists = [[given[name] for name in sorted(given) if name[0] == kind] for kind in "ab"]
    pixel = losses.pixel_dynamics(*(given[f"x{i}"] for i in range(4)))
    return {
        "latent_dynamics_loss": losses.latent_dynamics(*lists),
        "pixel_dynamics_loss": pixel,
        "pixel_dynamics_loss_per_pixel": pixel,
        "kl_loss": losses.kl_divergence(given["a0"], given["b0"]),
    }


# A whole training step


_TERMS = {
    "loss_dis": "static",
    "vgg_loss_dyn": "perceptual",
    "latent_loss_dyn": "latent",
    "loss_disc_patch": "critic_patch",
    "p_true_patch": "believed_real_patch",
    "p_fake_patch": "believed_fake_patch",
    "loss_gp_patch": "penalty_patch",
    "loss_gen_patch": "generator_patch",
    "loss_fmap_patch": "matching_patch",
    "loss_disc_temp": "critic_temporal",
    "p_true_temp": "believed_real_temporal",
    "p_fake_temp": "believed_fake_temporal",
    "loss_gp_temp": "penalty_temporal",
    "loss_gen_temp": "generator_temporal",
    "loss_fmap_temp": "matching_temporal",
    "loss_dyn": "loss",
}


class _Watched(Adam):
    """An optimizer without effect that keeps the gradients of a network at its first update."""

    def __init__(self, watched: nn.Module, updated: Sequence[nn.Module]) -> None:
        super().__init__([p for each in updated for p in each.parameters()], lr=0.0)
        self.gradients: dict[str, Tensor] = {}
        self._watched = watched
        self.register_step_pre_hook(self._keep)

    def _keep(self, *_: object) -> None:
        named = self._watched.named_parameters()
        self.gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}


def _run_train_step(case: Case) -> Result:
    by_name = {each.name: each for each in case.networks}
    model = _model(by_name["SkipSequenceModel"]).train()
    networks = Networks(
        model,
        _patch(by_name["PatchDiscriminator"]).train(),
        _temporal(by_name["TemporalDiscriminator"]).train(),
    )
    parts = (model.poke_encoder, model.cells, model.decoder)
    optimizers = Optimizers(
        static=_Watched(model, (model.image_encoder, model.decoder)),
        moving=_Watched(model, parts),
        patch=_Watched(networks.patch, (networks.patch,)),
        temporal=_Watched(networks.temporal, (networks.temporal,)),
    )
    wants_encoder = "shape_enc_grad_norm" in case.wanted
    log = poke_step(
        networks,
        optimizers,
        Batch(case.inputs["images"], case.inputs["poke"]),
        config=FamilyConfig(),
        step=FamilyConfig().temporal.start_step or 0,
        draws=Draws(*(torch.tensor(case.config[f"{kind}_indices"]) for kind in ("true", "fake"))),
        perceptual=_vgg(by_name["PerceptualVGG"]),
        through_encoder=wants_encoder,
    )
    outputs: Outputs = {theirs: log[ours] for theirs, ours in _TERMS.items()}
    for kind, optimizer in (("static", optimizers.static), ("dynamic", optimizers.moving)):
        assert isinstance(optimizer, _Watched)
        for name in case.wanted:
            if name.startswith(f"{kind}_grad/"):
                published = name.partition("/")[2]
                outputs[name] = checkpoint.published_entry(optimizer.gradients, published)
    if wants_encoder:
        # the static update is over when the moving loss reaches the encoder: what it left is known
        static, both = optimizers.static, optimizers.moving
        assert isinstance(static, _Watched) and isinstance(both, _Watched)
        added = [
            both.gradients[name] - static.gradients[name]
            for name in both.gradients
            if name.startswith("image_encoder.")
        ]
        outputs["shape_enc_grad_norm"] = torch.stack([each.norm() for each in added]).norm()
    return outputs


# Pokes from flow


def _run_candidates(case: Case) -> Result:
    flow = _flow(case)
    places = pokes.candidates(flow, margin_px=_margin(case), foreground=_mask(case, "mask"))
    return {"candidate_map": places[0].float()}


def _run_flow_and_poke(case: Case) -> Result:
    config, flow = case.config, _flow(case)
    margin_px, mask = _margin(case), _mask(case, "mask")
    size_px = _size_px(config["spatial_size"])
    draws = np.random.RandomState(config["numpy_seed"])
    outputs: Outputs = {"flow": flow[0]}
    if config.get("mask_from_flow"):
        outputs["foreground_mask"] = pokes.moving_foreground(flow)[0].float()
        masks = [case.inputs[f"mask_{each}"] > 0 for each in ("start", "mid", "tgt")]
        outputs["weights"] = pokes.box_weights(torch.stack(masks))
    if config.get("length") == -1:
        where = pokes.background_places(flow, margin_px=margin_px, foreground=mask)
        source = pokes.strong_places(flow, margin_px=margin_px)
        outputs["n_candidates"] = torch.stack((where.sum(), source.sum()))
        taken = pokes.pick(source, _uniform(draws, source))
        places = pokes.pick(where, _uniform(draws, where))
    else:
        where = pokes.candidates(flow, margin_px=margin_px, foreground=mask)
        outputs["n_candidates"] = where.sum().view(1)
        draws.randint(1, min(config["n_pokes"], int(where.sum())) + 1)
        taken = places = pokes.pick(where, _uniform(draws, where))
    values = pokes.values_at(flow, taken)
    keeps_patch = not config["equal_poke_val"]
    poke = pokes.poke_map(
        places,
        values,
        size_px=size_px,
        patch_px=config["poke_size"],
        flow=flow if keeps_patch else None,
    )
    row, column = places[0, 0].tolist()
    half = config["poke_size"] // 2
    patch = flow[0, :, row - half : row + half + 1, column - half : column + half + 1]
    return outputs | {
        "poke": poke[0],
        "poke_position_row_col": places[0, 0],
        "poke_value_xy": patch.flatten(1) if keeps_patch else values[0].T,
    }


def _flow(case: Case) -> Tensor:
    config, raw = case.config, case.inputs["raw_flow"]
    size_px = _size_px(config["spatial_size"])
    scale = size_px / 256 if config["scale_poke_to_res"] else 1.0
    return pokes.resize_flow(raw[None].float(), size_px, scale=scale)


def _margin(case: Case) -> int:
    return int(case.config["poke_size"])


def _mask(case: Case, name: str) -> Tensor | None:
    return case.inputs[name][None].float() if case.config.get("filter_flow") else None


def _uniform(draws: np.random.RandomState, places: Tensor) -> Tensor:
    """The uniform number that picks what the published draw of one index picks."""
    count = int(places.sum())
    return torch.tensor([[(draws.randint(count, size=1).item() + 0.5) / count]])


def _run_patches(case: Case) -> Result:
    weights = case.inputs["weights"].float()
    return {"patches": pokes.crop_to_weights(case.inputs["video"], weights)}


# Metrics


@torch.no_grad()
def _run_inception(case: Case) -> Result:
    network = built(AverageInception, average_inception_state(case.state()))
    return {"features": network(case.inputs["image"])}


def _run_metrics(case: Case) -> Result:
    real = case.inputs["real"]
    fake = 0.75 * real + 0.25 * case.inputs["noise"]
    real, fake = (real + 1) / 2, (fake + 1) / 2
    steps = [(real[:, t], fake[:, t]) for t in range(real.shape[1])]
    features = [case.inputs[name].double().numpy() for name in ("feat_real", "feat_fake")]
    return {
        "ssim": _ssim(real.flatten(0, 1), fake.flatten(0, 1)),
        "psnr": _psnr(real, fake),
        "ssim_per_frame": torch.stack([_ssim(*pair) for pair in steps]),
        "psnr_per_frame": torch.stack([_psnr(*pair) for pair in steps]),
        "fid": frechet.distance(*features).value,
    }


def _range(real: Tensor, fake: Tensor) -> Tensor:
    return torch.maximum(real.max() - real.min(), fake.max() - fake.min()).double()


def _ssim(real: Tensor, fake: Tensor) -> Tensor:
    return ssim.ssim_map(real, fake, data_range=_range(real, fake)).mean()


def _psnr(real: Tensor, fake: Tensor) -> Tensor:
    error = psnr.squared_error(real, fake).mean()
    return psnr.decibels(error, data_range=_range(real, fake))


ADAPTERS: dict[str, Callable[[Case], Result]] = {
    "video": _run_video,
    "recon": _run_reconstruction,
    "end_to_end": _run_end_to_end,
    "disc": _run_discriminator,
    "vgg": _run_vgg,
    "small_losses": _run_small_losses,
    "train_step": _run_train_step,
    "candidates": _run_candidates,
    "flow_and_poke": _run_flow_and_poke,
    "patches": _run_patches,
    "fid_inception": _run_inception,
    "metrics": _run_metrics,
}
