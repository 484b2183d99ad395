"""Names of stored weights -> ours. Pure functions on state dicts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_PLURAL = {"conv": "convs", "bn": "norms", "ln": "norms", "deconv": "deconvs"}


def key(stored: str) -> str:
    """`encoder.conv1.weight` -> `encoder.convs.0.weight`; `shortcut2.ln` -> `shortcuts.1.norm`."""
    ours = re.sub(r"\bshortcut(\d+)\.ln\b", r"shortcut\1.norm", stored)
    ours = re.sub(r"\bshortcut(\d+)\b", lambda found: f"shortcuts.{int(found[1]) - 1}", ours)
    if ours.startswith("latent."):  # its layers have two convolutions each, by name
        return ours
    return re.sub(
        r"\b(conv|bn|ln|deconv)(\d+)\b",
        lambda found: f"{_PLURAL[found[1]]}.{int(found[2]) - 1}",
        ours,
    )


def state(stored: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """State dict of the network whose stored names start with `prefix`, without it."""
    return {
        key(name.removeprefix(prefix)): value
        for name, value in stored.items()
        if name.startswith(prefix)
    }
