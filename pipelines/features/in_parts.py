"""Distances between images, a few pairs at a time: their maps are gone before the next come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Distance = Callable[[Tensor, Tensor], Tensor]
"""(real, fake), N C H W both, -> N numbers, each of its own pair alone."""

_PIXELS_AT_ONCE = 2**16
"""As many as leave a CPU's caches some use; more at once take twice the time."""


def in_parts(distance: Distance, real: Tensor, fake: Tensor) -> Tensor:
    """distance(real, fake), of a few pairs at a time on a CPU: the same numbers in less memory.

    There the gradient to `fake` is taken on the way, and cannot be differentiated again; `real` and
    what `distance` has inside it get none.
    """
    if real.requires_grad or fake.device.type != "cpu" or not len(fake):
        return distance(real, fake)
    if torch.is_grad_enabled() and fake.requires_grad:
        found: Tensor = _GradientOnTheWay.apply(fake, real, distance)
        return found
    return torch.cat([distance(*each) for each in _parts(real, fake)])


class _GradientOnTheWay(torch.autograd.Function):
    """Keeps the gradient of each distance, of the images' size, instead of all maps."""

    @staticmethod
    def forward(ctx: Any, fake: Tensor, real: Tensor, distance: Distance) -> Tensor:
        distances, gradients = [], []
        for real_part, fake_part in _parts(real, fake):
            with torch.enable_grad():
                seen = fake_part.detach().requires_grad_()
                found = distance(real_part, seen)
                gradients += torch.autograd.grad(found.sum(), seen)
            distances.append(found.detach())
        # as `fake` lies: else all that follows of the generator would be laid out anew
        ctx.save_for_backward(torch.empty_like(fake).copy_(torch.cat(gradients)))
        return torch.cat(distances)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (to_fake,) = ctx.saved_tensors
        return gradient.view(-1, 1, 1, 1) * to_fake, None, None


def _parts(real: Tensor, fake: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Both images of a few pairs at a time, channels last."""
    num = max(1, _PIXELS_AT_ONCE // (fake.shape[2] * fake.shape[3]))
    last = torch.channels_last
    parts = zip(real.split(num), fake.split(num), strict=True)
    return [(a.contiguous(memory_format=last), b.contiguous(memory_format=last)) for a, b in parts]
