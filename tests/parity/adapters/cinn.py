"""cinn: every network and loss, whole training steps, preprocessing, sampling and transfer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from pipelines.cinn import augment, checkpoint, inference, losses
from pipelines.cinn.autoencoder import ImageDecoder, ImageEncoder
from pipelines.cinn.config import AugmentConfig, AutoencoderConfig, Stage1Config
from pipelines.cinn.decoder import VideoDecoder
from pipelines.cinn.discriminators import PatchDiscriminator, TemporalDiscriminator
from pipelines.cinn.encoder import VideoEncoder, sample_code
from pipelines.cinn.flow import ENDPOINT_CODE_SIZE, ConditionalFlow, endpoint_code
from pipelines.cinn.networks import AutoencoderNetworks, Stage1Networks
from pipelines.cinn.sampling_decoder import for_sampling
from pipelines.cinn.steps import (
    AutoencoderOptimizers,
    Stage1Draws,
    Stage1Optimizers,
    autoencoder_step,
    flow_step,
    stage1_step,
)
from pipelines.features.lpips import Lpips, lpips_state
from pipelines.nn import image_quality
from tests.parity.harness import Case, CaseError, Result, built
from tests.parity.tracking import Rename, TrackedNetworks

Outputs = dict[str, Tensor]

_BEFORE_LAST_BLOCKS_PX = 32  # the published decoder starts from 4 x 4 and doubles three times


def key(document: Mapping[str, Any]) -> str:
    """The computation of a case."""
    return str(document["network_id"])


# Networks


def _expect(settings: Mapping[str, Any], **known: Any) -> None:
    """Settings that exist in the published code and that only have one value in any model."""
    for name, value in known.items():
        if settings.get(name, value) != value:
            raise CaseError(f"{name} = {settings[name]!r} is not a published setting")


def _encoder(case: Case, size_px: int, prefix: str = "") -> VideoEncoder:
    settings = case.config["Encoder"]
    _expect(settings, res_type_encoder="resnet18", deterministic=False, use_max_pool=False)
    make = partial(
        VideoEncoder,
        size_px=size_px,
        code_size=settings["z_dim"],
        channels=settings["channels"],
        stride_space=settings["stride_s"],
        stride_time=settings["stride_t"],
    )
    return built(make, checkpoint.encoder_state(case.state(prefix)))


def _decoder(case: Case, prefix: str = "") -> VideoDecoder:
    settings = case.config["Decoder"]
    make = partial(
        VideoDecoder,
        size_px=_BEFORE_LAST_BLOCKS_PX * prod(settings["upsample_s"]),
        code_size=settings["z_dim"],
        width=settings["channel_factor"],
        upsample_space=settings["upsample_s"],
        upsample_time=settings["upsample_t"],
        spectral=settings["spectral_norm"],
    )
    return built(make, checkpoint.decoder_state(case.state(prefix)))


def _temporal(case: Case, prefix: str = "") -> TemporalDiscriminator:
    settings = case.config["Discriminator_Temporal"]
    _expect(settings, res_type_encoder="resnet18", deterministic=False)
    make = partial(
        TemporalDiscriminator,
        channels=settings["channels"],
        stride_space=settings["stride_s"],
        stride_time=settings["stride_t"],
        has_max_pool=settings["use_max_pool"],
        spectral=settings["spectral_norm"],
    )
    return built(make, checkpoint.temporal_discriminator_state(case.state(prefix)))


def _patch(case: Case, prefix: str = "") -> PatchDiscriminator:
    settings = case.config["Discriminator_Patch"]
    _expect(settings, use_actnorm=True, spectral_norm=True)
    make = partial(
        PatchDiscriminator,
        width=settings["ndf"],
        num_layers=settings["n_layers"],
        channels_in=settings["in_channels"],
    )
    return built(make, checkpoint.patch_discriminator_state(case.state(prefix)))


def _image_encoder(case: Case, size_px: int, prefix: str = "") -> ImageEncoder:
    settings = case.config["AE"]
    _expect(settings, deterministic=False, encoder_type="resnet50", use_actnorm_in_dec=False)
    make = partial(
        ImageEncoder,
        size_px=size_px,
        embedding_size=settings["z_dim"],
        norm="batch" if settings["norm"] == "bn" else "instance",
    )
    return built(make, checkpoint.image_encoder_state(case.state(prefix)))


def _image_decoder(case: Case, prefix: str) -> ImageDecoder:
    settings = case.config["AE"]
    size_px, embedding_size = settings["in_size"], settings["z_dim"]
    make = partial(ImageDecoder, size_px=size_px, embedding_size=embedding_size)
    return built(make, checkpoint.image_decoder_state(case.state(prefix)))


def _flow(case: Case, prefix: str = "", *, is_controlled: bool = False) -> ConditionalFlow:
    settings, code_size = case.config["Flow"], case.config["Decoder"]["z_dim"]
    condition_size = case.config["Conditioning_Model"]["z_dim"]
    make = partial(
        ConditionalFlow,
        code_size=code_size,
        condition_size=condition_size + (ENDPOINT_CODE_SIZE if is_controlled else 0),
        num_flows=settings["n_flows"],
        hidden_width=settings["flow_mid_channels_factor"] * code_size,
        hidden_depth=settings["flow_hidden_depth"],
        is_controlled=is_controlled,
    )
    return built(make, checkpoint.flow_state(case.state(prefix)))


def _perceptual(case: Case, prefix: str = "") -> Lpips:
    return built(Lpips, lpips_state(case.state(prefix)))


# Single networks


def _run_encoder(case: Case) -> Result:
    frames = case.inputs["frames"]
    with torch.no_grad():
        mean, log_variance = _encoder(case, frames.shape[-1])(frames)
        z = sample_code(mean, log_variance, case.inputs["eps"])
    return {"z": z, "mu": mean, "logvar": log_variance}


def _run_decoder(case: Case) -> Result:
    start = case.inputs["start_frame"]
    decoder = _decoder(case)
    stats: list[Tensor] = []
    for block in decoder.blocks:
        block.register_forward_hook(
            lambda *args: stats.append(torch.stack((args[2].mean(), args[2].std())))
        )
    with torch.no_grad():
        video = decoder(start, case.inputs["z"])
    return {"video": video, "block_stats": torch.stack(stats)}


def _run_temporal(case: Case) -> Result:
    frames = case.inputs["frames"].requires_grad_()
    logits, features = _temporal(case)(frames)
    (gradient,) = torch.autograd.grad(logits.mean(), frames, retain_graph=True)
    penalty = losses.gradient_penalty(logits, frames, differentiable=False)
    named = {f"features_{i}": each for i, each in enumerate(features)}
    return {"logits": logits, "gradient_penalty": penalty, "grad_input": gradient, **named}


def _run_patch(case: Case) -> Result:
    with torch.no_grad():
        return {"logits": _patch(case)(case.inputs["images"])}


def _run_perceptual(case: Case) -> Result:
    with torch.no_grad():
        distance = _perceptual(case)(case.inputs["a"], case.inputs["b"])
    return {"distance": distance.view(-1, 1, 1, 1)}


def _run_image_encoder(case: Case) -> Result:
    image = case.inputs["image"]
    with torch.no_grad():
        mean, log_variance = _image_encoder(case, image.shape[-1])(image)
    return {"mean": mean[..., None, None], "logvar": log_variance[..., None, None]}


def _run_autoencoder(case: Case) -> Result:
    image = case.inputs["image"]
    encoder = _image_encoder(case, image.shape[-1], "encoder.")
    decoder = _image_decoder(case, "decoder.")
    with torch.no_grad():
        mean, log_variance = encoder(image)
        return {
            "mean": mean[..., None, None],
            "logvar": log_variance[..., None, None],
            "kl": losses.kl_divergence(mean, log_variance),
            "reconstruction": decoder(mean),
            "decoded": decoder(case.inputs["z"]),
        }


def _run_flow(case: Case) -> Result:
    return _flow_outputs(_flow(case), case, case.inputs["embedding"])


def _run_controlled_flow(case: Case) -> Result:
    start, endpoint = case.inputs["start_frame"], case.inputs["endpoint"]
    embedder = _image_encoder(case, start.shape[-1], "embedder.")
    is_controlled = case.config.get("control", True)
    flow = _flow(case, "flow.", is_controlled=is_controlled)
    with torch.no_grad():
        condition = inference.condition(embedder, start, endpoint if is_controlled else None)
    return {**_flow_outputs(flow, case, condition), "endpoint_code": endpoint_code(endpoint)}


@torch.no_grad()
def _flow_outputs(flow: ConditionalFlow, case: Case, condition: Tensor) -> Outputs:
    residual, log_det = flow(case.inputs["z"], condition)
    loss, nll, negative_log_det = losses.flow_loss(residual, log_det)
    return {
        "residual": residual[..., None, None],
        "logdet": log_det,
        "nll_loss": nll,
        "nlogdet_loss": negative_log_det,
        "loss": loss,
        "z_from_residual": flow.inverse(case.inputs["residual"], condition)[..., None, None],
        "z_roundtrip": flow.inverse(residual, condition)[..., None, None],
    }


def _run_losses(case: Case) -> Result:
    given = case.inputs
    features_a, features_b = (
        [given[name] for name in sorted(given) if name.startswith(kind)]
        for kind in ("feat_a", "feat_b")
    )
    moments = given["moments"].flatten(1).chunk(2, dim=1)
    return {
        "kl": losses.kl_divergence(given["mu"], given["logvar"]),
        "hinge_disc": losses.hinge_discriminator(given["logits_real"], given["logits_fake"]),
        "hinge_gen": losses.hinge_generator(given["logits_fake"]),
        "fmap_l1": losses.feature_matching(features_a, features_b),
        "fmap_l2": losses.feature_matching(features_a, features_b, power=2),
        "ae_kl": losses.kl_divergence(*moments),
        "psnr": image_quality.psnr(given["video_a"], given["video_b"]),
        "ssim": image_quality.ssim(given["video_a"], given["video_b"]),
        "flow_nll": losses.gaussian_nll(given["gauss"]),
    }


# Whole training steps


_STAGE1_TERMS = {
    "Loss_VAE": "loss",
    "Loss_L1": "reconstruction",
    "LPIPS": "perceptual",
    "Loss_KL": "kl",
    "Loss_GEN_S": "gan_patch",
    "Loss_GEN_T": "gan_temporal",
    "Loss_Disc_T": "discriminator_temporal",
    "Loss_Fmap_T": "feature_matching",
    "L_GP": "gradient_penalty",
    "Logits_Real_T": "logits_real_temporal",
    "Logits_Fake_T": "logits_fake_temporal",
    "Loss_Disc_S": "discriminator_patch",
    "Logits_Real_S": "logits_real_patch",
    "Logits_Fake_S": "logits_fake_patch",
    "PSNR": "psnr",
    "SSIM": "ssim",
}


def _run_stage1_step(case: Case) -> Result:
    settings, clip = case.config["Training"], case.inputs["clip"]
    _expect(settings, GAN_Loss="hinge")
    size_px = clip.shape[-1]
    networks = Stage1Networks(
        _encoder(case, size_px, "encoder."),
        _decoder(case, "decoder."),
        _temporal(case, "disc_t."),
        _patch(case, "disc_s."),
    )
    tracked = TrackedNetworks()
    tracked.add("encoder.", networks.encoder.train(), checkpoint.encoder_key)
    tracked.add("decoder.", networks.decoder.train(), checkpoint.decoder_key)
    temporal_key = checkpoint.temporal_discriminator_key
    tracked.add("disc_t.", networks.temporal_discriminator.train(), temporal_key)
    tracked.add("disc_s.", networks.patch_discriminator.train(), _patch_key(case))
    adam = {
        "lr": settings["lr"],
        "betas": (0.5, 0.9),
        "weight_decay": settings["weight_decay"],
    }
    log = stage1_step(
        networks,
        Stage1Optimizers(
            tracked.optimizer(("decoder.", "encoder."), **adam),
            tracked.optimizer(("disc_t.",), **adam),
            tracked.optimizer(("disc_s.",), **adam),
        ),
        clip,
        config=Stage1Config(
            num_frames=clip.shape[1] - 1,
            temporal_window=settings["subsample_length"],
            weight_perceptual=settings["w_percep"],
            weight_reconstruction=settings["w_recon"],
            weight_kl=settings["w_kl"],
            weight_gan_temporal=settings["w_coup_t"],
            weight_feature_matching=settings["w_fmap_t"],
            weight_gradient_penalty=settings["w_GP"],
        ),
        adversarial=case.config["epoch"] >= settings["pretrain"],
        perceptual=_perceptual(case, "lpips."),
        draws=Stage1Draws(
            case.config["window_start"],
            torch.tensor(case.config["frame_indices"]),
            case.inputs["eps"],
        ),
    )
    outputs = {f"loss:{theirs}": log[ours] for theirs, ours in _STAGE1_TERMS.items()}
    return {
        **outputs,
        "gradnorm_generator": tracked.gradient_norm("decoder.", "encoder."),
        "gradnorm_disc_t": tracked.gradient_norm("disc_t."),
        "gradnorm_disc_s": tracked.gradient_norm("disc_s."),
        **tracked.wanted(case),
    }


def _patch_key(case: Case) -> Rename:
    last = 2 + 3 * case.config["Discriminator_Patch"]["n_layers"]
    return lambda name: checkpoint.patch_discriminator_key(name, last_index=last)


_AE_TERMS = {
    "Loss": "loss",
    "Loss_recon": "reconstruction",
    "Loss_nll": "nll",
    "L_KL": "kl",
    "Loss_G": "gan",
    "L_disc": "discriminator",
    "Logits_real": "logits_real",
    "Logits_fake": "logits_fake",
    "Disc_weight": "gan_weight",
    "Disc_factor": "gan_factor",
}


def _run_autoencoder_step(case: Case) -> Result:
    settings, images = case.config["Training"], case.inputs["image"]
    networks = AutoencoderNetworks(
        _image_encoder(case, images.shape[-1], "network.encoder."),
        _image_decoder(case, "network.decoder."),
        _patch(case, "disc."),
    )
    tracked = TrackedNetworks()
    prefixes = ("network.encoder.", "network.decoder.")
    tracked.add(prefixes[0], networks.encoder.train(), checkpoint.image_encoder_key)
    tracked.add(prefixes[1], networks.decoder.train(), checkpoint.image_decoder_key)
    tracked.add("disc.", networks.discriminator.train(), _patch_key(case))
    reconstructions: list[Tensor] = []
    networks.decoder.register_forward_hook(lambda *args: reconstructions.append(args[2].detach()))
    adam = {"lr": settings["lr"], "weight_decay": settings["weight_decay"]}
    log = autoencoder_step(
        networks,
        AutoencoderOptimizers(
            tracked.optimizer(prefixes, **adam), tracked.optimizer(("disc.",), **adam)
        ),
        images,
        config=AutoencoderConfig(weight_kl=settings["w_kl"]),
        adversarial=case.config["epoch"] >= settings["pretrain"],
        perceptual=_perceptual(case, "lpips."),
    )
    outputs = {f"loss:{theirs}": log[ours] for theirs, ours in _AE_TERMS.items()}
    return {
        **outputs,
        "loss:Logvar": torch.zeros(()),  # a parameter that no optimizer moves: ours is a constant
        "reconstruction": reconstructions[0],
        "gradnorm_network": tracked.gradient_norm(*prefixes),
        "gradnorm_disc": tracked.gradient_norm("disc."),
        **tracked.wanted(case),
    }


def _run_flow_step(case: Case) -> Result:
    settings = case.config["Training"]
    flow = _flow(case).train()
    tracked = TrackedNetworks()
    tracked.add("", flow, checkpoint.flow_key)
    optimizer = tracked.optimizer(
        ("",),
        lr=settings["lr"],
        betas=(settings["beta1"], settings["beta2"]),
        weight_decay=settings["weight_decay"],
        amsgrad=settings["amsgrad"],
    )
    residuals: list[Tensor] = []
    flow.register_forward_hook(lambda *args: residuals.append(args[2][0].detach()))
    outputs: Outputs = {}
    steps = {int(name[4 : name.index(":")]) for name in case.wanted if name.startswith("step")}
    for step in range(max(steps) + 1):
        log = flow_step(flow, optimizer, case.inputs["z"], case.inputs["embedding"])
        outputs[f"step{step}:loss"] = log["loss"]
        outputs[f"step{step}:nll_loss"] = log["nll"]
        outputs[f"step{step}:nlogdet_loss"] = log["negative_log_det"]
    return {
        **outputs,
        "residual": residuals[0][..., None, None],
        "gradnorm": tracked.gradient_norm(""),
        **tracked.wanted(case),
    }


# Inference and preprocessing


def _model(case: Case, size_px: int) -> inference.Model:
    return inference.Model(
        decoder=_decoder(case, "decoder."),
        flow=_flow(case, "flow.", is_controlled=case.config.get("control", False)),
        embedder=_image_encoder(case, size_px, "embedder."),
        encoder=_encoder(case, size_px, "encoder.") if "Encoder" in case.config else None,
    )


def _run_sample(case: Case) -> Result:
    start, residual = case.inputs["start_frame"], case.inputs["residual"]
    model = _model(case, start.shape[-1])
    endpoint = case.inputs["endpoint"] if case.config.get("control") else None
    # decoder cases check the other form
    model = replace(model, decoder=for_sampling(model.decoder))
    length = case.config["length"]
    return {
        "z": inference.motion_code(model, start, residual, endpoint=endpoint),
        "video": inference.sample_video(model, start, residual, length, endpoint=endpoint),
    }


def _run_transfer(case: Case) -> Result:
    clip, starts = case.inputs["query_clip"], case.inputs["start_frames"]
    model = _model(case, clip.shape[-1])
    residual = inference.encode_motion(model, clip)
    return {
        "residual": residual[..., None, None],
        "z": inference.motion_code(model, starts, residual.expand(len(starts), -1)),
        "video": inference.transfer_motion(model, clip, starts, case.config["length"]),
    }


_CROP_MARGIN_PX = 16


def _run_preprocess(case: Case) -> Result:
    frames, size_px = case.inputs["frames"], case.config["img_size"]
    clips, settings = frames.unsqueeze(0), case.config["augmentation"]
    factors = [settings[f"{kind}_factor"] for kind in ("brightness", "contrast", "saturation")]
    draws = augment.AugmentDraws(
        flip=torch.tensor([settings["hflip"]]),
        crop=torch.tensor([settings["crop"]]),
        factors=torch.tensor([[*factors, settings["hue_factor"]]]),
        order=torch.tensor([settings["order"]]),
    )
    config = AugmentConfig(crop_margin_px=_CROP_MARGIN_PX)
    prepared = augment.prepare(clips, size_px)[0]
    return {
        "eval": prepared,
        "sampling": prepared,
        "train": augment.augment(clips, size_px, config, draws)[0],
    }


ADAPTERS: dict[str, Callable[[Case], Result]] = {
    "encoder": _run_encoder,
    "decoder": _run_decoder,
    "disc_t": _run_temporal,
    "disc_s": _run_patch,
    "lpips": _run_perceptual,
    "ae_encoder": _run_image_encoder,
    "bigae": _run_autoencoder,
    "cinn": _run_flow,
    "cinn_control": _run_controlled_flow,
    "loss_terms": _run_losses,
    "stage1_step": _run_stage1_step,
    "ae_step": _run_autoencoder_step,
    "cinn_step": _run_flow_step,
    "sample": _run_sample,
    "transfer": _run_transfer,
    "preprocess": _run_preprocess,
}
