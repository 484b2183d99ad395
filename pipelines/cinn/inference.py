"""Sampling and motion transfer (spec: cinn, 4).

From a start frame and a residual to a video, and from a video to the residual that is its motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.cinn.autoencoder import ImageEncoder
from pipelines.cinn.encoder import VideoEncoder
from pipelines.cinn.flow import ConditionalFlow, endpoint_code
from pipelines.cinn.sampling_decoder import Decoder


@dataclass(frozen=True)
class Model:
    """The networks of a trained model, in eval mode; only motion transfer needs `encoder`."""

    decoder: Decoder
    flow: ConditionalFlow
    embedder: ImageEncoder
    encoder: VideoEncoder | None = None


@torch.inference_mode()
def sample_video(
    model: Model,
    start: Tensor,
    residual: Tensor,
    num_frames: int,
    *,
    endpoint: Tensor | None = None,
) -> Tensor:
    """Videos of the motions that residuals describe.

    start: B 3 S S in [-1, 1].  residual: B Z, or B N Z for N motions of each start frame.
    endpoint: B 3 in [0, 1], for a controlled model.
    Returns B T 3 S S or B N T 3 S S in (-1, 1); the start frame itself is not part of it.
    """
    code = motion_code(model, start, residual, endpoint=endpoint)
    return render(model.decoder, start, code, num_frames)


@torch.inference_mode()
def motion_code(
    model: Model, start: Tensor, residual: Tensor, *, endpoint: Tensor | None = None
) -> Tensor:
    """The code that a residual becomes for a start frame, shaped like residual: B Z or B N Z."""
    found = condition(model.embedder, start, endpoint)
    found = found.repeat_interleave(_motions_each(residual), dim=0)
    return model.flow.inverse(residual.flatten(0, -2), found).view(residual.shape)


@torch.inference_mode()
def render(decoder: Decoder, start: Tensor, code: Tensor, num_frames: int) -> Tensor:
    """Decode as often as the length needs, each time from the last frame, with the same code.

    start: B 3 S S.  code: B Z or B N Z.  Returns B T 3 S S or B N T 3 S S.
    """
    codes = code.flatten(0, -2)
    # what depends on the start frame alone is computed once per start frame, not once per motion
    maps = decoder.start_maps(start)
    motions = _motions_each(code)
    if motions > 1:
        maps = [type(each)(*(m.repeat_interleave(motions, dim=0) for m in each)) for each in maps]
    pieces = [decoder.render(maps, codes)]
    while len(pieces) * decoder.num_frames < num_frames:
        pieces.append(decoder(pieces[-1][:, -1], codes))
    video = torch.cat(pieces, dim=1)[:, :num_frames]
    return video.view(*code.shape[:-1], *video.shape[1:])


@torch.inference_mode()
def encode_motion(model: Model, clip: Tensor, *, endpoint: Tensor | None = None) -> Tensor:
    """The residual of a clip: its motion, without what its start frame looks like. No randomness.

    clip: B 1+T 3 S S in [-1, 1], start frame first.  Returns B Z.
    """
    assert model.encoder is not None, "motion transfer needs the video encoder"
    mean, _ = model.encoder(clip[:, 1:])
    return model.flow(mean, condition(model.embedder, clip[:, 0], endpoint))[0]


@torch.inference_mode()
def transfer_motion(
    model: Model,
    clip: Tensor,
    starts: Tensor,
    num_frames: int,
    *,
    endpoint: Tensor | None = None,
) -> Tensor:
    """Move every start frame the way a clip moves.

    clip: 1 1+T 3 S S, start frame first.  starts: B 3 S S.  endpoint: 1 3, for a controlled model.
    Returns B T 3 S S.
    """
    residual = encode_motion(model, clip, endpoint=endpoint).expand(len(starts), -1)
    endpoint = None if endpoint is None else endpoint.expand(len(starts), -1)
    return sample_video(model, starts, residual, num_frames, endpoint=endpoint)


def condition(embedder: ImageEncoder, start: Tensor, endpoint: Tensor | None = None) -> Tensor:
    """What the flow is conditioned on. start: B 3 S S.  endpoint: B 3 in [0, 1].  Returns B E."""
    embedding = embedder.embed(start)
    if endpoint is None:
        return embedding
    return torch.cat((embedding, endpoint_code(endpoint)), dim=1)


def _motions_each(values: Tensor) -> int:
    """Motions per start frame in B Z or B N Z."""
    return values.shape[1] if values.dim() == 3 else 1
