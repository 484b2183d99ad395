"""Motion frame by frame from both ends, joined where the two agree best (completion, H.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.motion.config import AutoregressiveConfig
from pipelines.motion.vectors import with_ends

State = tuple[Tensor, Tensor]


class AutoregressiveMotion(nn.Module):
    """Predicts the next frame with two GRUs that both read forward in time.

    The published model is a bidirectional GRU that is shown one frame at a time, which is the same.
    """

    def __init__(self, config: AutoregressiveConfig, *, vector_size: int) -> None:
        super().__init__()
        self.first = nn.GRU(vector_size, config.hidden_size, batch_first=True)
        self.second = nn.GRU(vector_size, config.hidden_size, batch_first=True)
        self.output = nn.Linear(2 * config.hidden_size, vector_size)

    def forward(self, frames: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """frames: B T D; returns the frame expected after each, B T D, and the state."""
        before = state or (None, None)
        first, first_state = self.first(frames, before[0])
        second, second_state = self.second(frames, before[1])
        predicted = self.output(torch.cat([first, second], dim=-1)).tanh()
        return predicted, (first_state, second_state)

    def free_run(self, start: Tensor, num_frames: int) -> Tensor:
        """Feed predictions back. start: B D; returns B T D, the start first."""
        frames, state = [start], None
        for _ in range(num_frames - 1):
            predicted, state = self(frames[-1][:, None], state)
            frames.append(predicted[:, 0])
        return torch.stack(frames, dim=1)


@dataclass(frozen=True)
class Completion:
    """sequence: B T D between the given ends.  index: B, the first frame of the backward run.

    error: B T, mean squared difference of the two runs, which is smallest at index.
    """

    sequence: Tensor
    index: Tensor
    error: Tensor


def complete(
    model: AutoregressiveMotion,
    first: Tensor,
    last: Tensor,
    num_frames: int,
    *,
    is_as_published: bool = False,
    backward_model: AutoregressiveMotion | None = None,
    fade_frames: int = 0,
) -> Completion:
    """Run from both ends, B D each, and join.

    backward_model: what runs from the last frame; None: the same model, as published, although it
    has learnt what comes after a frame, not what came before it.
    fade_frames: over which the runs are mixed around the place where they are joined.
    is_as_published: the published join takes as many frames from the end of the backward run as
    from the start of the forward one, and leaves zeros where that leaves a gap.
    """
    forward = model.free_run(first, num_frames)
    backward = (backward_model or model).free_run(last, num_frames).flip(1)
    error = (forward - backward).square().mean(-1)
    index = error.argmin(dim=1)
    frame = torch.arange(num_frames, device=first.device)
    if is_as_published:
        is_forward = (frame < index[:, None])[..., None]
        is_backward = (frame >= num_frames - index[:, None])[..., None]
        joined = torch.where(is_backward, backward, torch.where(is_forward, forward, 0.0))
    else:
        # 1 from the joint on; with a fade, a ramp whose middle is just before the joint
        share = (frame - index[:, None] + 0.5) / max(fade_frames, 1e-6) + 0.5
        joined = torch.lerp(forward, backward, share.clamp(0, 1)[..., None])
    return Completion(with_ends(joined, first, last), index, error)
