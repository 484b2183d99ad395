"""Inception's opinion of rendered people (spec: behavior, 6.2): Inception score, FID.

Both need weights that are downloaded. Where these are not there a judge is left out, and it is said
how to get them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.inception import Inception3

from pipelines.events import UserError, Work
from pipelines.features import generated_weights
from pipelines.features.inception_fid import FidInception, fid_inception_state
from pipelines.metrics import frechet, weights
from pipelines.metrics.pose import PoseNumber
from pipelines.metrics.scenes import Resources
from pipelines.shape_pose.steps import Batch

Pictures = Mapping[str, Tensor]
"""Name -> rendered pictures, B 3 S S about [-1, 1]."""

_SIZE_PX = 299


class Judge(Protocol):
    """Looks at batch after batch, then says its numbers."""

    def add(self, batch: Batch, pictures: Pictures) -> None:
        """Look at what was rendered, and at the real pictures."""
        ...

    def numbers(self) -> list[PoseNumber]:
        """Of all pictures seen."""
        ...


def open_judges(resources: Resources, work: Work, *, has_fid: bool) -> list[Judge]:
    """Those whose weights are there; of the others it is told what they need."""
    wanted: list[Callable[[Resources], Judge]] = [InceptionScore]
    if has_fid:
        wanted.append(Fid)
    found = []
    for make in wanted:
        try:
            found.append(make(resources))
        except UserError as error:
            remedy = error.details.get("run first") or error.details.get("to fix", "")
            work.warning(f"left out: {error.message}; to measure it too: {remedy}")
    return found


class InceptionScore:
    """How sure torchvision's classifier is of each picture, and of how many things in all.

    Of the pictures cut to the box of the joints, in one split, as published.
    """

    def __init__(self, resources: Resources) -> None:
        empty = Inception3(aux_logits=False, transform_input=False, init_weights=False)
        found = weights.load("inception-v3", resources, partial(_generated, empty))
        state = {k: v for k, v in found.state.items() if not k.startswith("AuxLogits.")}
        self._network = weights.fitted(empty, state, found.source).to(resources.device)
        self._source = found.source
        self._chances: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def add(self, batch: Batch, pictures: Pictures) -> None:
        """See Judge."""
        for name, images in pictures.items():
            seen = cut_to_joints(images, batch.joints, size_px=_SIZE_PX)
            chances = self._network(seen).double().softmax(dim=1).cpu()
            self._chances.setdefault(name, []).append(chances)

    def numbers(self) -> list[PoseNumber]:
        """See Judge."""
        of_real = inception_score(torch.cat(self._chances["real"]))
        return [
            PoseNumber(
                f"Inception score of {name}",
                inception_score(torch.cat(each)),
                _unit(self._source),
                "higher",
                ("real pictures", of_real),
            )
            for name, each in self._chances.items()
            if name != "real"
        ]


class Fid:
    """The standard FID between real pictures and rendered ones."""

    def __init__(self, resources: Resources) -> None:
        empty = FidInception()
        found = weights.load("fid-inception", resources, partial(_generated, empty))
        state = fid_inception_state(found.state)
        self._network = weights.fitted(empty, state, found.source).to(resources.device)
        self._source = found.source
        self._features: dict[str, list[np.ndarray]] = {}

    @torch.no_grad()
    def add(self, batch: Batch, pictures: Pictures) -> None:
        """See Judge."""
        for name, images in pictures.items():
            found = self._network(((images + 1) / 2).clamp(0, 1)).pooled
            self._features.setdefault(name, []).append(found.cpu().numpy())

    def numbers(self) -> list[PoseNumber]:
        """See Judge."""
        real = np.concatenate(self._features["real"])
        return [
            PoseNumber(
                f"FID of {name}",
                frechet.distance(real, np.concatenate(each)).value,
                _unit(self._source),
                "lower",
            )
            for name, each in self._features.items()
            if name != "real"
        ]


def inception_score(chances: Tensor) -> float:
    """exp of the mean KL divergence of each picture's chances from those of all. chances: N K."""
    logarithms = (chances.clamp(min=1e-300)).log() - chances.mean(dim=0).clamp(min=1e-300).log()
    return float((chances * logarithms).sum(dim=1).mean().exp())


def cut_to_joints(images: Tensor, joints: Tensor, *, size_px: int) -> Tensor:
    """Each picture cut to the box of the joints that are seen, enlarged to a size again.

    images: B 3 S S.  joints: B 2J, fractions, 0 where a joint is not seen.  Returns B 3 s s.
    """
    cut = []
    for image, each in zip(images, joints.unflatten(1, (-1, 2)), strict=True):
        seen = each[(each > 0).all(dim=1)]
        if len(seen):
            x, y = (_range(values, image.shape[-1]) for values in seen.unbind(dim=1))
            image = image[:, y, x]
        size = (size_px, size_px)
        cut.append(F.interpolate(image[None], size=size, mode="bilinear", align_corners=False))
    return torch.cat(cut)


def judged(judges: Iterable[Judge], seen: Iterable[tuple[Batch, Pictures]]) -> list[PoseNumber]:
    """What all judges say of all pictures."""
    judges = list(judges)
    for batch, pictures in seen if judges else ():
        for judge in judges:
            judge.add(batch, {"real": batch.image, **pictures})
    return [number for judge in judges for number in judge.numbers()]


def _range(fractions: Tensor, size_px: int) -> slice:
    low, high = (float(each) * size_px for each in (fractions.min(), fractions.max()))
    first = min(int(low), size_px - 1)
    return slice(first, max(first + 1, min(int(high) + 1, size_px)))


def _unit(source: str) -> str:
    return "made-up weights" if "made-up" in source else ""


def _generated(network: Any) -> dict[str, Tensor]:
    """Under the published names."""
    generated_weights.fill(network)
    return {key.removeprefix("layers."): value for key, value in network.state_dict().items()}
