"""What every flow estimator offers, and opening one by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import sha256
from pipelines.flow.config import EstimateRequest


class Estimator(Protocol):
    """Estimates how pixels move from one frame to another."""

    @property
    def name(self) -> str:
        """As in the request."""
        ...

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights file, '' where there is none."""
        ...

    def flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Motion from first to second: uint8 [N H W 3] RGB each -> float32 [N 2 H W].

        Pixels, channel 0 x (right), channel 1 y (down).
        """
        ...

    def flow_both_ways(
        self, first: np.ndarray, second: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Motion from first to second, and from second to first; as two calls of `flow`."""
        ...

    def flow_along(self, frames: np.ndarray, lag: int, *, batch_size: int = 4) -> np.ndarray:
        """Motion from each frame to the one `lag` later: uint8 [T H W 3] -> float32 [T-lag 2 H W].

        As `flow` of all those pairs, batch_size at a time, without doing twice what a frame that
        is in two pairs needs once.
        """
        ...


def open_estimator(request: EstimateRequest, device: str) -> Estimator:
    """The estimator that a request names, on cpu, cuda:0, ...

    Raises UserError: exit code 4 when its weights are not there, 1 when they are another network's.
    """
    name = request.estimator
    if name == "dis":
        from pipelines.flow.dis import DisEstimator

        return DisEstimator()
    path = weights_path(request)
    assert path is not None, f"{name} estimates nothing"
    import torch

    where: Any = torch.device(device)
    if name.startswith("raft"):
        from pipelines.flow.raft import RaftEstimator

        return RaftEstimator(
            "large" if name == "raft-large" else "small", path, where, request.precision
        )
    from pipelines.flownet2.estimate import FlowNet2Estimator

    return FlowNet2Estimator(path, name, where, request.precision, is_bgr=request.is_bgr)


def weights_path(request: EstimateRequest) -> Path | None:
    """The weights file of a request; None for an estimator without weights.

    Raises UserError with exit code 4 when it is not there.
    """
    path = request.weights_file()
    if path is not None and not path.is_file():
        raise UserError(
            f"no weights for '{request.estimator}'",
            {"looked for": path, "run first": f"i2v download weights/{request.estimator}"},
            EXIT_NO_DATA,
        )
    return path


def weights_hash(request: EstimateRequest) -> str:
    """The SHA-256 of the weights file, '' for an estimator without one."""
    path = weights_path(request)
    return sha256(path) if path else ""
