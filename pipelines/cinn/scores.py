"""Which checkpoint is best: a metric of what a stage makes of held-out clips (spec: cinn, 3).

As published: of stage 1 the videos reconstructed from sampled codes, of the flow one sample for
each start frame; the smallest distance wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pipelines.cinn.encoder import sample_code
from pipelines.cinn.inference import Model, sample_video
from pipelines.cinn.networks import Stage1Networks
from pipelines.cinn.preview import to_bytes
from pipelines.cinn.validation import HeldOut, evaluating
from pipelines.events import UserError
from pipelines.metrics.evaluate import load_extractors, load_metric, measure
from pipelines.metrics.scenes import Clip, Scene

NONE = "none"

MakeVideos = Callable[[Tensor, Tensor, int], Tensor]
"""(clips B 1+T 3 S S, noise B Z, number of the first) -> videos B T 3 S S."""


def require_metric(name: str, device: torch.device) -> None:
    """Raise UserError, before a training starts, unless a score can be computed."""
    if name == NONE:
        return
    try:
        load_extractors([load_metric(name)], device)
    except UserError as error:
        remedy = {"or set": "score=none for this stage: the newest checkpoint is then used"}
        raise UserError(error.message, {**error.details, **remedy}, error.exit_code) from error


def score_stage1(name: str, networks: Stage1Networks, held_out: HeldOut) -> dict[str, Any]:
    """The metric of reconstructions, as checkpoints store it; nothing without held-out clips."""

    def make(clips: Tensor, noise: Tensor, _: int) -> Tensor:
        mean, log_variance = networks.encoder(clips[:, 1:])
        return networks.decoder(clips[:, 0], sample_code(mean, log_variance, noise))

    with torch.no_grad(), evaluating(vars(networks)):
        return _score(name, make, networks.encoder.to_mean.out_channels, held_out)


def score_flow(name: str, model: Model, held_out: HeldOut) -> dict[str, Any]:
    """The metric of one sample for each held-out start frame."""

    def make(clips: Tensor, noise: Tensor, first: int) -> Tensor:
        chosen = held_out.data.validation[first : first + len(clips)]
        endpoint = held_out.endpoints(chosen)
        return sample_video(model, clips[:, 0], noise, clips.shape[1] - 1, endpoint=endpoint)

    with evaluating({"flow": model.flow}):
        return _score(name, make, model.decoder.from_code.in_features, held_out)


def _score(name: str, make: MakeVideos, code_size: int, held_out: HeldOut) -> dict[str, Any]:
    if name == NONE or not held_out.data.validation:
        return {}
    scenes = list(_scenes(make, code_size, held_out))
    results = measure((name,), scenes, device=held_out.device)
    return {"metric": name, "value": float(results[0].value), "clips": len(scenes)}


def _scenes(make: MakeVideos, code_size: int, held_out: HeldOut) -> Iterator[Scene]:
    first = 0
    for clips, noise in zip(held_out.batches(), held_out.noise(code_size), strict=True):
        real, made = to_bytes(clips[:, 1:]), to_bytes(make(clips, noise, first))
        for number, (a, b) in enumerate(zip(real, made, strict=True), first):
            text = str(number)
            yield Scene(text, Clip(text, a), (Clip(text, b),), text)
        first += len(clips)
