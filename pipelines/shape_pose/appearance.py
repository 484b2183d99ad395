"""What the net is shown of a person: the picture, or crops of ten parts (spec: behavior, 5.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.clips.frames import from_bytes


def as_images(stored: Tensor) -> Tensor:
    """Stored pictures, uint8 B S S 3, as B 3 S S in [-1, 1]."""
    return from_bytes(stored) * 2 - 1


def appearance_input(image: Tensor, matrices: Tensor | None, part_px: int | None) -> Tensor:
    """The input of the appearance encoder: B 3 S S, or B 30 p p of parts.

    image: B 3 S S in [-1, 1].  matrices, part_px: see crop_parts; None: the picture itself.
    """
    if matrices is None or part_px is None:
        return image
    return crop_parts(image, matrices, part_px)


def crop_parts(image: Tensor, matrices: Tensor, part_px: int) -> Tensor:
    """Ten parts cut out, B 3P p p in [-1, 1], as part_crops.crop_parts does for one picture.

    image: B 3 S S in [-1, 1].  matrices: B P 3 3; zeros: not seen, black.
    """
    batch, parts = matrices.shape[:2]
    size_px = image.shape[-1]
    is_seen = matrices.flatten(2).abs().sum(2) > 0
    eye = torch.eye(3, dtype=torch.float64, device=image.device)
    known = torch.where(is_seen[..., None, None], matrices.double(), eye)
    back = torch.linalg.inv(known)
    steps = torch.arange(part_px, dtype=torch.float64, device=image.device)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    source = torch.einsum("hwk,bpjk->bphwj", places, back)
    pixels = torch.nan_to_num(source[..., :2] / source[..., 2:], posinf=0, neginf=0)
    grid = (pixels * 2 / (size_px - 1) - 1).to(image.dtype)
    repeated = image[:, None].expand(-1, parts, -1, -1, -1).flatten(0, 1)
    found = F.grid_sample(repeated, grid.flatten(0, 1), padding_mode="border", align_corners=True)
    found = found.view(batch, parts, 3, part_px, part_px)
    return torch.where(is_seen[..., None, None, None], found, -torch.ones_like(found)).flatten(1, 2)
