"""How near made motions come to the true ones between the same ends, beside straight lines."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.motion.models import MotionModel
from pipelines.motion.vectors import NUMBERS_PER_KEYPOINT, interpolated
from pipelines.training.generators import torch_generator

NUM_DRAWS = 5


@torch.no_grad()
def validate(model: MotionModel, held_out: Tensor, device: torch.device) -> dict[str, float]:
    """Errors of keypoints' places in the inner frames; nothing without held-out motions, B T D.

    Distances are root mean squares, in parts of the frame's height; of a model that draws noise the
    mean of several draws, the best of them for each motion, and how far apart they lie.
    """
    if not len(held_out):
        return {}
    real = held_out.to(device)
    first, last = real[:, 0], real[:, -1]
    generator = torch_generator(model.config.train.seed, "validation")
    num_draws = NUM_DRAWS if model.draws_noise else 1
    draws = [
        model.between(first, last, model.noise(len(real), real.shape[1], generator).to(device))
        for _ in range(num_draws)
    ]
    errors = torch.stack([distance(real, made) for made in draws])
    found = {
        "val_error": float(errors.mean()),
        "val_error_linear": float(distance(real, interpolated(first, last, real.shape[1])).mean()),
    }
    if model.draws_noise:
        found["val_error_best"] = float(errors.amin(0).mean())
        apart = [distance(a, b) for k, a in enumerate(draws) for b in draws[:k]]
        found["val_diversity"] = float(torch.stack(apart).mean())
    return found


def distance(real: Tensor, made: Tensor) -> Tensor:
    """Root mean square distance of keypoints in the inner frames, of each motion.

    real, made: B T D.  Returns B, in parts of the frame's height (places lie in [-1, 1]).
    """
    num_numbers = 2 * real.shape[-1] // NUMBERS_PER_KEYPOINT
    apart = (real - made)[:, 1:-1, :num_numbers].unflatten(-1, (-1, 2)) / 2
    return apart.square().sum(-1).mean((1, 2)).sqrt()
