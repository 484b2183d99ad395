"""A KL term whose weight follows the KL: of behavior and shape-pose (spec: behavior, 3.1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pipelines.behavior.config import KlControlConfig
from pipelines.nn.whole_batch import mean_over_parts

_WEIGHT, _UPDATES = "kl_weight", "kl_updates"


class KlControl:
    """The weight grows while the KL is above a bound, and shrinks below."""

    def __init__(self, config: KlControlConfig) -> None:
        self.config, self._weight, self._num_updates = config, config.initial, 0

    @classmethod
    def restored(cls, config: KlControlConfig, scalars: Mapping[str, float]) -> KlControl:
        """As it was when its scalars were kept; new where there are none."""
        control = cls(config)
        control._weight = scalars.get(_WEIGHT, config.initial)
        control._num_updates = int(scalars.get(_UPDATES, 0))
        return control

    @property
    def weight(self) -> float:
        """For the step at hand."""
        return 1.0 if self.config.is_fixed else self._weight

    @property
    def scalars(self) -> dict[str, float]:
        """All that must be kept between two steps."""
        return {_WEIGHT: self._weight, _UPDATES: float(self._num_updates)}

    def update(self, kl: float, *, share: float = 1.0) -> None:
        """After a step whose KL was this. share: of the training that is done, for a scaling."""
        kl = float(mean_over_parts(torch.tensor(kl, dtype=torch.float64)))
        # the published code sets the bound only after its first step
        bound = self._bound(share) if self._num_updates > 0 else 0.0
        self._weight = max(0.0, self._weight - self.config.step * (bound - kl))
        self._num_updates += 1

    def _bound(self, share: float) -> float:
        parts = {"none": 1.0, "ascend": min(share, 1.0), "descend": max(1 - share, 0.0)}
        return self.config.largest_information * parts[self.config.scaling]
