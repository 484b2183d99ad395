"""How good the renderer is on held-out people, always the same ones, while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pipelines.clips.rules import Clip
from pipelines.metrics.psnr import frame_psnr
from pipelines.metrics.ssim import WINDOW_PX, frame_ssim
from pipelines.shape_pose.baseline import BaselineVunet
from pipelines.shape_pose.data import Arrays, People
from pipelines.shape_pose.networks import ShapePoseNet
from pipelines.shape_pose.steps import Batch, as_batch

_BATCH, _MEAN_OF = 8, 256
_CAP_DB = 100.0

Net = ShapePoseNet | BaselineVunet


class HeldOut:
    """Held-out people in their own appearance, and in that of another picture of them."""

    def __init__(self, people: People, device: torch.device) -> None:
        self.people, self._device = people, device
        self._mean = mean_image(people) if people.held_out else None

    def batches(self, *, limit: int | None = None) -> Iterator[tuple[Batch, Batch]]:
        """Pictures, and other pictures of the same people."""
        clips = self.people.held_out[:limit]
        partners = self.people.partners(clips)
        for n in range(0, len(clips), _BATCH):
            yield self._batch(clips[n : n + _BATCH]), self._batch(partners[n : n + _BATCH])

    def mean(self) -> Tensor:
        """The mean picture of the training data, 3 S S in [0, 1]: what anybody can guess."""
        assert self._mean is not None
        return self._mean.to(self._device)

    def _batch(self, clips: Sequence[Clip]) -> Batch:
        arrays: Arrays = self.people.load(clips)
        tensors = {name: torch.from_numpy(each).to(self._device) for name, each in arrays.items()}
        return as_batch(tensors, self.people.config.network)


def mean_image(people: People) -> Tensor:
    """Mean of some training pictures spread over an epoch, 3 S S in [0, 1]."""
    total = people.sampler.clips_per_epoch
    places = np.unique(np.linspace(0, total - 1, min(_MEAN_OF, total)).astype(int))
    images = people.load([people.sampler.at(int(n)) for n in places], has_figure=False)["image"]
    return torch.from_numpy(images.mean(axis=0) / 255).float().movedim(-1, 0)


@torch.no_grad()
def render(net: Net, appearance: Tensor, figure: Tensor) -> Tensor:
    """Pictures of people in postures, B 3 S S about [-1, 1], without chance: zeros for noise."""
    zeros = [appearance.new_zeros(())] * 2
    if isinstance(net, BaselineVunet):
        return net.render(
            figure, [figure.new_zeros(1)] * 8, net.encode(appearance, zeros).codes
        ).image
    return net.render(figure, net.encode(appearance, zeros).codes)


@torch.no_grad()
def validate(net: Net, held_out: HeldOut) -> dict[str, float]:
    """Similarity of reconstructions and of people in the appearance of another picture of them.

    val_psnr_mean: what the mean picture of the training data would have.
    """
    if not held_out.people.held_out:
        return {}
    values: dict[str, list[Tensor]] = {}
    was_training = net.training
    net.eval()
    for batch, partner in held_out.batches():
        real = _unit(batch.image)
        pictures = {
            "val_psnr": _unit(render(net, batch.appearance, batch.figure)),
            "val_psnr_transfer": _unit(render(net, partner.appearance, batch.figure)),
            "val_psnr_mean": held_out.mean().expand_as(real),
        }
        for name, made in pictures.items():
            found = frame_psnr(real, made).clamp(max=_CAP_DB)
            values.setdefault(name, []).append(found)
        if real.shape[-1] >= WINDOW_PX:
            ssim = frame_ssim(real, pictures["val_psnr"])
            values.setdefault("val_ssim", []).append(ssim)
            values.setdefault("val_dissimilarity", []).append(1 - ssim)
    net.train(was_training)
    return {name: float(torch.cat(each).mean()) for name, each in values.items()}


def _unit(images: Tensor) -> Tensor:
    return ((images + 1) / 2).clamp(0, 1)
