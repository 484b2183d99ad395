"""Metrics without a network: the Frechet distance, SSIM and PSNR in their published variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.metrics import frechet, psnr, ssim
from tests.parity.harness import Adapter, Case, Result


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
    errors = psnr.squared_error(real, fake)
    return {
        "ii2v_ssim": _measured_range_ssim(all_real, all_fake),
        "ii2v_ssim_frames": torch.stack([_measured_range_ssim(*pair) for pair in by_step]),
        "ii2v_psnr": _measured_range_psnr(all_real, all_fake),
        "ii2v_psnr_frames": torch.stack([_measured_range_psnr(*pair) for pair in by_step]),
        "skimage_ssim": ssim.frame_ssim(all_real, all_fake),
        "skimage_psnr": psnr.frame_psnr(all_real, all_fake),
        "srvp_ssim": ssim.ssim_map(all_real, all_fake).mean((1, 2, 3)).view(real.shape[:2]).mean(1),
        "srvp_psnr": psnr.decibels(errors.mean((3, 4))).mean((1, 2)),
    }


def _videos(case: Case) -> tuple[Tensor, Tensor]:
    """Real and fake, B T C H W in [0, 1], made as the case's config says."""
    raw, noise = case.inputs["real"], case.inputs["noise"]
    padded = F.pad(raw.flatten(0, 1), (2, 2, 2, 2), mode="replicate")
    smooth = (2 * F.avg_pool2d(padded, 5, stride=1)).clamp(-1, 1).view_as(raw) * 0.6
    return (smooth + 1) / 2, (0.9 * smooth + 0.15 * noise + 0.05 + 1) / 2


def _measured_range(real: Tensor, fake: Tensor) -> Tensor:
    return torch.maximum(real.max() - real.min(), fake.max() - fake.min()).double()


def _measured_range_ssim(real: Tensor, fake: Tensor) -> Tensor:
    return ssim.ssim_map(real, fake, data_range=_measured_range(real, fake)).mean()


def _measured_range_psnr(real: Tensor, fake: Tensor) -> Tensor:
    error = psnr.squared_error(real, fake).mean()
    return psnr.decibels(error, data_range=_measured_range(real, fake))


ADAPTERS: dict[str, Adapter] = {
    "Frechet distance between two sets": _frechet,
    "SSIM and PSNR variants": _ssim_psnr,
}
