"""Looks into a whole training step: gradients at the moment of each update, values afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from tests.parity.harness import Case

Rename = Callable[[str], str | None]
"""A published name of one network's entry -> ours."""


class TrackedNetworks:
    """The networks of a step under their published prefixes: gradients and values afterwards."""

    def __init__(self) -> None:
        self._networks: dict[str, tuple[nn.Module, Rename]] = {}
        self._gradients: dict[str, dict[str, Tensor]] = {}

    def add(self, prefix: str, network: nn.Module, rename: Rename) -> None:
        """Track a network whose published names start with `prefix`, renamed without it."""
        self._networks[prefix] = (network, rename)

    def optimizer(self, prefixes: tuple[str, ...], **settings: Any) -> Adam:
        """Adam over some of the networks, which keeps their gradients at its first update."""
        networks = [self._networks[prefix][0] for prefix in prefixes]
        adam = Adam([p for network in networks for p in network.parameters()], **settings)

        def keep(*_: object) -> None:
            for prefix in prefixes:
                self._gradients.setdefault(prefix, self._gradients_now(prefix))

        adam.register_step_pre_hook(keep)
        return adam

    def _gradients_now(self, prefix: str) -> dict[str, Tensor]:
        named = self._networks[prefix][0].named_parameters()
        return {name: p.grad.clone() for name, p in named if p.grad is not None}

    def gradient_norm(self, *prefixes: str) -> Tensor:
        """L2 norm over all gradients of some networks; 0 where there was no update."""
        found = [g.norm() for prefix in prefixes for g in self._gradients.get(prefix, {}).values()]
        return torch.stack(found).norm() if found else torch.zeros(())

    def wanted(self, case: Case) -> dict[str, Tensor]:
        """The outputs `grad:<published name>` and `after:<published name>` that a case asks for."""
        shapes = {name: shape for name, shape, _ in case.document["state"]}
        outputs = {}
        for output in case.wanted:
            kind, _, published = output.partition(":")
            if kind not in ("grad", "after"):
                continue
            prefix = max((p for p in self._networks if published.startswith(p)), key=len)
            network, rename = self._networks[prefix]
            name = rename(published.removeprefix(prefix)) or ""
            values = self._gradients[prefix] if kind == "grad" else network.state_dict()
            outputs[output] = values[name].view(shapes[published])
        return outputs
