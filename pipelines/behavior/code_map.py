"""Behaviour codes in a picture: near codes lie near each other, coloured by action (spec: 6.1).

The map is that of UMAP (McInnes, Healy & Melville, 2018): a graph of nearest neighbours, whose
weights the distances in the plane shall tell. The published code takes the package for it, whose
compiler is heavier than all else here and trails numpy's releases; for as many points as a picture
shows, the loss that it draws samples of can be computed over all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from pipelines.behavior.data import NO_ACTION
from pipelines.io.images import write_png

MAX_POINTS = 1000
"""The published plots have 20,000; all pairs of so many are no longer held in memory."""

_NEIGHBOURS, _PUSHES, _STEPS, _RATE = 15, 5, 120, 0.3
_A, _B = 1.577, 0.895
"""Of the curve 1 / (1 + a d^2b): nearly 1 up to the distance 0.1, then falling."""
_SEARCH_STEPS = 40
_EPS = 1e-4
_PAPER, _INK, _DRAWN = (250, 250, 248), (70, 70, 74), (196, 196, 200)
_COLOURS = (
    (208, 74, 48), (34, 108, 168), (66, 146, 84), (150, 84, 168), (204, 150, 30), (40, 160, 164),
    (214, 110, 160), (120, 92, 60), (112, 128, 40), (90, 90, 200), (170, 40, 80), (60, 60, 64),
    (130, 170, 220), (230, 150, 110), (140, 190, 140),
)  # fmt: skip
_SIZE_PX, _FINER, _MARGIN, _ROW_PX = 640, 3, 0.04, 22


def write_code_map(
    path: Path, codes: Tensor, actions: Sequence[int], names: Sequence[str], *, drawn: Tensor | None
) -> None:
    """A map of codes N D as a PNG; of more than MAX_POINTS a part, spread evenly.

    actions: the number of each code's action in `names`, or NO_ACTION.
    drawn: random codes, M D, shown in grey below the others.
    """
    chosen = _spread(len(codes))
    points, labels = codes[chosen], [actions[int(n)] for n in chosen]
    others = points[:0] if drawn is None else drawn[_spread(len(drawn))]
    places = embedded(torch.cat([points, others]).float().cpu())
    write_png(path, _picture(places, labels, names, has_drawn=bool(len(others))))


def embedded(points: Tensor) -> Tensor:
    """Places in a plane, N 2, whose nearness tells that of the points, N D; always the same."""
    graph = _graph(points)
    places = _first_places(graph).requires_grad_()
    optimizer = torch.optim.Adam([places], lr=_RATE)
    # for each neighbour that pulls, the package draws so many points that push
    push = (1 - graph) * (_PUSHES * graph.sum() / len(points) ** 2)
    apart = ~torch.eye(len(points), dtype=torch.bool)
    for _ in range(_STEPS):
        square = (places[:, None] - places).square().sum(2)
        near = 1 / (1 + _A * (square + _EPS) ** _B)
        pulls = graph * near.log()
        pushes = push * (1 - near).clamp(min=_EPS).log()
        loss = -((pulls + pushes) * apart).sum() / len(points)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return places.detach()


def _graph(points: Tensor) -> Tensor:
    """How sure it is that two points are neighbours, N N, symmetric.

    Each point's distances count from that of its nearest on, in a unit of its own: the one in which
    its neighbours together count as much as log2 of their number.
    """
    distances = torch.cdist(points, points).fill_diagonal_(math.inf)
    count = min(_NEIGHBOURS, len(points) - 1)
    values, numbers = distances.topk(count, largest=False)
    beyond = values - values[:, :1]
    unit = torch.ones(len(points), 1, dtype=points.dtype)
    low, high = torch.zeros_like(unit), torch.full_like(unit, math.inf)
    for _ in range(_SEARCH_STEPS):
        is_wide = (-beyond / unit).exp().sum(1, keepdim=True) > math.log2(max(count, 2))
        low, high = torch.where(is_wide, low, unit), torch.where(is_wide, unit, high)
        unit = torch.where(high.isinf(), 2 * unit, (low + high) / 2).clamp(min=1e-12)
    sure = torch.zeros_like(distances).scatter_(1, numbers, (-beyond / unit).exp())
    return sure + sure.t() - sure * sure.t()


def _first_places(graph: Tensor) -> Tensor:
    """The two slowest ways to swing of the graph, as a beginning."""
    scale = graph.sum(1).clamp(min=_EPS).rsqrt()
    found = torch.linalg.eigh(torch.eye(len(graph)) - scale[:, None] * graph * scale).eigenvectors
    first = found[:, 1:3]
    # which way an eigenvector points is chance
    first = first * torch.sign(first.gather(0, first.abs().argmax(0, keepdim=True)))
    # a little noise, so that nothing lies in the same place
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(0))
    return 10 * first / first.abs().max() + 0.1 * noise


def _spread(count: int) -> Tensor:
    return torch.linspace(0, max(count - 1, 0), min(count, MAX_POINTS)).round().long()


def _picture(
    places: Tensor, labels: Sequence[int], names: Sequence[str], *, has_drawn: bool
) -> np.ndarray:
    shown = [number for number in range(len(names)) if number in labels]
    rows = [(names[number], _colour(number)) for number in shown]
    rows += [("unknown", _INK)] if NO_ACTION in labels else []
    rows += [("random codes", _DRAWN)] if has_drawn else []
    fine, height = _SIZE_PX * _FINER, (_SIZE_PX + _ROW_PX * -(-len(rows) // 3) + 8) * _FINER
    picture = Image.new("RGB", (fine, height), _PAPER)
    pen = ImageDraw.Draw(picture)
    low, high = places.min(0).values, places.max(0).values
    extent = float((high - low).max()) or 1.0
    flat = (places - (low + high) / 2) / extent * (1 - 2 * _MARGIN) + 0.5
    colours = [_INK if label == NO_ACTION else _colour(label) for label in labels]
    dots = [(each, _DRAWN) for each in flat[len(labels) :]]
    dots += list(zip(flat[: len(labels)], colours, strict=True))
    for (x, y), colour in dots:
        _dot(pen, float(x) * fine, float(y) * fine, colour)
    for number, (name, colour) in enumerate(rows):
        x = (16 + number % 3 * _SIZE_PX // 3) * _FINER
        y = (_SIZE_PX + number // 3 * _ROW_PX + _ROW_PX // 2) * _FINER
        _dot(pen, x, y, colour)
        pen.text((x + 8 * _FINER, y), name, fill=_INK, anchor="lm", font_size=13 * _FINER)
    size = (_SIZE_PX, height // _FINER)
    return np.asarray(picture.resize(size, Image.Resampling.BOX))


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float, colour: tuple[int, int, int]) -> None:
    radius = 3 * _FINER
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


def _colour(number: int) -> tuple[int, int, int]:
    return _COLOURS[number % len(_COLOURS)]
