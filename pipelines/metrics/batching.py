"""How much is computed at once: as much as a share of the free memory allows."""

from __future__ import annotations

import os

import torch

_SHARE = 4
"""A quarter of what is free."""
_MOST_CPU, _MOST_GPU = 8, 64


def clips_at_once(device: torch.device, bytes_each: int) -> int:
    """Clips, or frames, of a batch that needs about so many bytes for each of them."""
    if device.type == "cuda":
        free, most = torch.cuda.mem_get_info(device)[0], _MOST_GPU
    else:
        free, most = _free_bytes(), _MOST_CPU
    return max(1, min(most, free // _SHARE // max(bytes_each, 1)))


def _free_bytes() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2 * 2**30  # not known on this system
