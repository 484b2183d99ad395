"""Metrics: Frechet distances, frame metrics, diversity, and the feature networks behind them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.features.i3d import I3d
from pipelines.features.i3d_checkpoint import i3d_state, num_classes
from pipelines.features.i3d_inputs import dynamic_texture_clips, fvd_clips, logging_fvd_clips
from pipelines.features.inception_average import AverageInception, average_inception_state
from pipelines.features.inception_fid import FidInception, fid_inception_state
from pipelines.features.lpips import Lpips, TrunkName, lpips_state, total
from pipelines.features.vgg import Vgg16, diversity_maps, vgg16_state
from pipelines.metrics import frechet, psnr, ssim
from pipelines.metrics.spread import mean_over_pairs, mean_squared_difference
from tests.parity.harness import Adapter, Case, CaseError, Result, built


def key(document: Mapping[str, Any]) -> str:
    """Which computation a case is."""
    for start in ADAPTERS:
        if document["network"].startswith(start):
            return start
    return str(document["network"])


def _frechet(case: Case) -> Result:
    sets = {name: _activations(case, name) for name in case.config["order"] if name != "same"}
    real, _ = sets["deficient"]
    sets["same"] = (real, real)
    pairs = [sets[name] for name in case.config["order"]]
    found = [frechet.distance(first, second) for first, second in pairs]
    values = np.array([each.value for each in found])
    biased = [frechet.distance(first, second, is_biased=True).value for first, second in pairs]
    by_moments = [
        frechet.distance_of_moments(
            first.mean(0), np.cov(first, rowvar=False), second.mean(0), np.cov(second, rowvar=False)
        ).value
        for first, second in pairs
    ]
    return {
        "tfgan": values,
        "tfgan_trace_term": np.array([each.trace_term for each in found]),
        "eigh": np.array(by_moments),
        "stylegan_v": np.array(biased),
    }


def _activations(case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
    mix = case.inputs[f"mix_{name}"].numpy()
    scale = 1 / np.sqrt(1 + np.arange(len(mix)))
    mix = (mix * scale[:, None]).astype(np.float32).astype(np.float64)
    real, fake = (
        (case.inputs[f"{kind}_{name}"].numpy().astype(np.float64) @ mix).astype(np.float32)
        for kind in ("real", "fake")
    )
    return real.astype(np.float64), fake.astype(np.float64)


def _ssim_psnr(case: Case) -> Result:
    real, fake = _videos(case)
    by_step = [(real[:, t], fake[:, t]) for t in range(real.shape[1])]
    all_real, all_fake = real.flatten(0, 1), fake.flatten(0, 1)
    return {
        "ii2v_ssim": ssim.batch_ssim(all_real, all_fake),
        "ii2v_ssim_frames": torch.stack([ssim.batch_ssim(*pair) for pair in by_step]),
        "ii2v_psnr": psnr.batch_psnr(all_real, all_fake),
        "ii2v_psnr_frames": torch.stack([psnr.batch_psnr(*pair) for pair in by_step]),
        "skimage_ssim": ssim.frame_ssim(all_real, all_fake),
        "skimage_psnr": psnr.frame_psnr(all_real, all_fake),
        "srvp_ssim": ssim.ssim_map(all_real, all_fake).mean((1, 2, 3)).view(real.shape[:2]).mean(1),
        "srvp_psnr": psnr.channel_psnr(all_real, all_fake).view(real.shape[:2]).mean(1),
    }


def _videos(case: Case) -> tuple[Tensor, Tensor]:
    """Real and fake, B T C H W in [0, 1], made as the case's config says."""
    raw, noise = case.inputs["real"], case.inputs["noise"]
    padded = F.pad(raw.flatten(0, 1), (2, 2, 2, 2), mode="replicate")
    smooth = (2 * F.avg_pool2d(padded, 5, stride=1)).clamp(-1, 1).view_as(raw) * 0.6
    return (smooth + 1) / 2, (0.9 * smooth + 0.15 * noise + 0.05 + 1) / 2


def _i3d_network(case: Case) -> I3d:
    settings = case.config
    state = case.state()
    pool_frames = 4 if settings.get("length", 16) > 16 else 2
    make = partial(
        I3d,
        num_classes=num_classes(state),
        pool_frames=settings.get("final_pool", (pool_frames,))[0],
    )
    network = built(make, i3d_state(state, eps=settings.get("batch_norm_eps")))
    network.pack()
    return network


@torch.no_grad()
def _i3d(case: Case) -> Result:
    network = _i3d_network(case)
    seen: dict[str, Tensor] = {}
    for name, block in network.blocks.items():
        block.register_forward_hook(lambda *args, name=name: seen.update({name: args[2]}))
    found = network(case.inputs["clip"])
    return {
        **seen,
        "logits": found.logits,
        "logits_tf": found.logits,
        "probabilities": found.logits.softmax(dim=1),
        "avg_pool": found.pooled,
    }


@torch.no_grad()
def _dti3d(case: Case) -> Result:
    found = _i3d_network(case)(case.inputs["clip"])
    return {"representation": found.pooled.flatten(2), "logits": found.step_logits}


def _fvd_preprocess(case: Case) -> Result:
    clips = {name: fvd_clips(_bytes_first(x)) for name, x in case.inputs.items()}
    return {name: clip.permute(0, 2, 3, 4, 1) for name, clip in clips.items()}


def _bytes_first(videos: Tensor) -> Tensor:
    """B T H W C of a case, in 0..256 -> B T C H W bytes."""
    return videos.floor().to(torch.uint8).permute(0, 1, 4, 2, 3)


def _fvd_tf(case: Case) -> Result:
    videos = (((each + 1) * 127.5).floor().to(torch.uint8) for each in _real_and_fake(case))
    real, fake = _logits(case, [fvd_clips(each) for each in videos])
    value = frechet.distance(real, fake).value
    return {"real_embedding": real, "fake_embedding": fake, "fvd": value}


def _logging_fvd(case: Case) -> Result:
    videos = (_whole_batches(case, each) for each in _real_and_fake(case))
    real, fake = _logits(case, [logging_fvd_clips(each) for each in videos])
    value = frechet.distance(real, fake).value
    return {"real_activations": real, "fake_activations": fake, "fvd": value}


def _dtfvd(case: Case) -> Result:
    length = case.config["length"]
    network = _i3d_network(case)
    activations = []
    for videos in _real_and_fake(case):
        clips = dynamic_texture_clips(_whole_batches(case, videos), length=length)
        with torch.no_grad():
            activations.append(network(clips).pooled.flatten(1))
    real, fake = activations
    value = frechet.distance(real, fake).value
    return {"real_activations": real, "fake_activations": fake, "dtfvd": value}


def _real_and_fake(case: Case) -> tuple[Tensor, Tensor]:
    """B T C H W in [-1, 1], the second made as the case's config says."""
    formula = "fake = clamp(0.7 * real + 0.3 * noise, -1, 1)"
    if case.config["videos"] != formula:
        raise CaseError(f"videos are made as '{case.config['videos']}', not as '{formula}'")
    real, noise = case.inputs["real"], case.inputs["noise"]
    return real, (0.7 * real + 0.3 * noise).clamp(-1, 1)


def _whole_batches(case: Case, videos: Tensor) -> Tensor:
    batch_size = min(case.config["batch_size"], len(videos))
    return videos[: len(videos) // batch_size * batch_size]


@torch.no_grad()
def _logits(case: Case, clips: list[Tensor]) -> list[Tensor]:
    network = _i3d_network(case)
    return [network(each).logits for each in clips]


@torch.no_grad()
def _fid_inception(case: Case) -> Result:
    if not case.config.get("resize_input", True):
        raise CaseError("images that are not resized are not what this project computes")
    images = case.inputs["images"]
    if not case.config.get("normalize_input", True):
        images = (images + 1) / 2  # such a network is given [-1, 1]
    found = built(FidInception, fid_inception_state(case.state()))(images)
    return {
        "pool3": found.pooled,
        "block0": found.first_pool,
        "block1": found.second_pool,
        "block2": found.before_last,
    }


@torch.no_grad()
def _fid_ii2v(case: Case) -> Result:
    has_maxima = "torchvision 0.7" in case.document["network"]
    make = partial(AverageInception, has_maxima=has_maxima)
    network = built(make, average_inception_state(case.state("v3.")))
    frames = case.inputs["frames"]
    if not case.config.get("normalize_range", True):
        frames = 2 * frames - 1
    return {"features": network(frames)}


@torch.no_grad()
def _lpips(case: Case) -> Result:
    trunks: dict[str, TrunkName] = {"vgg": "vgg16", "alex": "alexnet"}
    trunk = trunks[case.config["net"]]
    network = built(partial(Lpips, trunk), lpips_state(case.state(), trunk))
    terms = network.terms(case.inputs["in0"], case.inputs["in1"])
    layers = {f"layer{number}": term for number, term in enumerate(terms)}
    return {"value": total(terms), **layers}


@torch.no_grad()
def _diversity_vgg(case: Case) -> Result:
    network = built(Vgg16, vgg16_state(case.state()))
    videos = (2 * case.inputs["videos"]).clamp(-1, 1)
    terms = []
    for realisations in videos:
        maps = [diversity_maps(network, each) for each in realisations]
        pairs = itertools.permutations(maps, 2)
        terms.append([mean_squared_difference(*pair) for pair in pairs])
    return {"terms": torch.tensor(terms), "score": torch.tensor(terms).double().mean()}


def _diversity_i3d(case: Case) -> Result:
    instances = case.inputs["embed"].numpy()
    values = [mean_over_pairs(list(each), _squared) for each in instances]
    return {"score": np.mean(values)}


def _squared(first: np.ndarray, second: np.ndarray) -> float:
    return mean_squared_difference([first], [second])[0]


ADAPTERS: dict[str, Adapter] = {
    "DTFVD for": _dtfvd,
    "FVD pipeline of": _fvd_tf,
    "PyTorch FVD used for logging": _logging_fvd,
    "preprocess() of": _fvd_preprocess,
    "DTI3D for": _dti3d,
    "I3D (Inception-v1": _i3d,
    "I3D in the layout of": _i3d,
    "Frechet distance between two sets": _frechet,
    "SSIM and PSNR variants": _ssim_psnr,
    "InceptionV3 for FID": _fid_inception,
    "FIDInceptionModel of": _fid_ii2v,
    "LPIPS v0.1": _lpips,
    "VGG-16 diversity score": _diversity_vgg,
    "I3D diversity score": _diversity_i3d,
}
