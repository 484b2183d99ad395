"""The networks that answer a poke (spec: poke, 2.2, 2.3 and 3).

An image becomes a pyramid of states, a poke one code; a hierarchy of recurrent cells moves the
pyramid one step per frame, and a decoder draws each moved pyramid. Nothing here is random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log2, sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipelines.poke.blocks import ConvBlock, ConvGru, Norm, ResidualBlock

States = list[Tensor]
"""A pyramid, the deepest map first: bottleneck, then the encoder's stages from deep to shallow."""

Cell = Any
"""A ConvGru, or what computes as one does: has `drive`, and is called with drive and state."""

Schedule = Literal["every-step", "once", "jump", "linear", "there-and-back"]

SMALLEST_WIDTH = 32
"""Channels of the first stage, unless the layout says otherwise."""


@dataclass(frozen=True)
class Layout:
    """Sizes of a model.

    widths: channels of the encoder's stages, which halve the image one after the other.
    poke_widths: the same of the poke encoder, which must end at the same size.
    deep: channels of the bottleneck and of the poke's code.
    poke_bottlenecks: residual blocks at the end of the poke encoder.
    """

    widths: tuple[int, ...]
    poke_widths: tuple[int, ...]
    deep: int
    poke_bottlenecks: int = 2

    @property
    def depths(self) -> tuple[int, ...]:
        """Channels of the stages from deep to shallow."""
        return self.widths[::-1]


def published_layout(
    size_px: int, *, deep: int = 512, smallest_px: int = 16, has_skips: bool = True
) -> Layout:
    """The widths that follow from the image's size, as in the published models.

    smallest_px: height and width of the bottleneck.  has_skips: False for the single-scale model.
    """
    stages = int(log2(size_px // smallest_px))
    first = max(SMALLEST_WIDTH, deep // 2**stages) if has_skips else SMALLEST_WIDTH
    return Layout(
        widths=tuple(min(first * 2**i, deep) for i in range(stages)),
        poke_widths=tuple(min(SMALLEST_WIDTH * 2**i, deep) for i in range(stages)),
        deep=deep,
    )


def explicit_layout(widths: Sequence[int], *, deep: int) -> Layout:
    """Given widths, the same for both encoders; the poke encoder then has one bottleneck less."""
    return Layout(tuple(widths), tuple(widths), deep, poke_bottlenecks=1)


class ImageEncoder(nn.Module):
    """Image to states."""

    def __init__(self, layout: Layout, *, norm: Norm = "in") -> None:
        super().__init__()
        pairs = zip((3, *layout.widths), layout.widths, strict=False)
        self.blocks = nn.ModuleList(ConvBlock(a, b, stride=2, norm=norm) for a, b in pairs)
        self.bottleneck = ResidualBlock(layout.widths[-1], layout.deep, norm=norm)

    def forward(self, images: Tensor) -> States:
        """images: B 3 S S in [-1, 1].  Returns the pyramid, B C h w each, the deepest first."""
        states, x = [], images
        for block in self.blocks:
            x = block(x)
            states.append(x)
        return [self.bottleneck(x), *states[::-1]]


class PokeEncoder(nn.Module):
    """Poke map to code.

    Instance norm takes the length of a poke out of it almost wholly: only place and direction are
    left. `is_length_aware` gives it back: the code is multiplied by the `strength` of the longest
    vector of the map. Several pokes of one map keep their lengths relative to each other either
    way.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        norm: Norm = "in",
        sees_image: bool = False,
        is_length_aware: bool = False,
        unit_px: float = 8.0,
    ) -> None:
        super().__init__()
        self.sees_image, self.is_length_aware, self.unit_px = sees_image, is_length_aware, unit_px
        widths = layout.poke_widths
        pairs = zip((5 if sees_image else 2, *widths), widths, strict=False)
        self.blocks = nn.ModuleList(ConvBlock(a, b, stride=2, norm=norm) for a, b in pairs)
        deep_in = (widths[-1], *[layout.deep] * (layout.poke_bottlenecks - 1))
        self.bottleneck = nn.Sequential(
            *(ResidualBlock(channels, layout.deep, norm=norm) for channels in deep_in)
        )

    def forward(self, poke: Tensor, images: Tensor) -> Tensor:
        """poke: B 2 S S, pixels.  images: B 3 S S.  Returns the code, B D h w.

        A map without any poke has the code 0: otherwise the norms would blow rounding errors up to
        a motion that is different on every machine.
        """
        x = torch.cat((poke, images), dim=1) if self.sees_image else poke
        for block in self.blocks:
            x = block(x)
        code = self.bottleneck(x)
        longest = torch.linalg.vector_norm(poke, dim=1).amax((1, 2)).view(-1, 1, 1, 1)
        if self.is_length_aware:
            code = code * strength(longest, unit_px=self.unit_px)
        return torch.where(longest > 0, code, torch.zeros_like(code))


def strength(length: Tensor, *, unit_px: float) -> Tensor:
    """What a poke's code is multiplied with: grows with the length, is 1 at `unit_px`.

    Never more than the square root of 2: nothing goes as far as the longest pokes wish, and a code
    larger than any of the training's would be answered by chance.
    """
    return length * sqrt(2) / torch.hypot(length, torch.full_like(length, unit_px))


class Decoder(nn.Module):
    """States to image; each stage sees what the stage before made and the state of its size."""

    def __init__(
        self, layout: Layout, *, norm: Norm = "in", spectral: bool = False, has_skips: bool = True
    ) -> None:
        super().__init__()
        depths, options = layout.depths, {"norm": norm, "spectral": spectral}
        self.has_skips = has_skips
        self.in_block = ResidualBlock(layout.deep, depths[0], **options)  # type: ignore[arg-type]
        ins = [2 * depth if has_skips else depth for depth in depths]
        outs = [*depths[1:], depths[-1]]
        self.blocks = nn.ModuleList(
            ResidualBlock(a, b, upsamples=True, **options)  # type: ignore[arg-type]
            for a, b in zip(ins, outs, strict=True)
        )
        self.to_image = nn.Conv2d(outs[-1], 3, 3, padding=1)

    def forward(self, states: States) -> Tensor:
        """states: the deepest first; without skips only that one is used.  Returns B 3 S S."""
        x = self.in_block(states[0])
        for i, block in enumerate(self.blocks):
            x = block(torch.cat((x, states[i + 1]), dim=1) if self.has_skips else x)
        return torch.tanh(self.to_image(x))


class PokeModel(nn.Module):
    """The model that is poked: hierarchical, with one recurrent cell for every state."""

    has_skips = True

    def __init__(
        self,
        layout: Layout,
        *,
        norm: Norm = "in",
        spectral_decoder: bool = False,
        sees_image: bool = False,
        is_length_aware: bool = False,
        ignores_poke: bool = False,
        num_cells: int = 2,
        unit_px: float = 8.0,
        update_bias: float = 0.0,
    ) -> None:
        """sees_image: the poke encoder is shown the image too.  ignores_poke: the baseline that is
        never poked.  num_cells: of the single-scale model only.  update_bias: see ConvGru.
        """
        super().__init__()
        self.ignores_poke = ignores_poke
        self.image_encoder = ImageEncoder(layout, norm=norm)
        self.poke_encoder = PokeEncoder(
            layout,
            norm=norm,
            sees_image=sees_image,
            is_length_aware=is_length_aware,
            unit_px=unit_px,
        )
        self.cells = self._build_cells(layout, num_cells, update_bias)
        self.decoder = Decoder(
            layout, norm=norm, spectral=spectral_decoder, has_skips=self.has_skips
        )

    def reconstruct(self, images: Tensor) -> tuple[Tensor, States]:
        """The image as the decoder sees it, and its states. images: B 3 S S in [-1, 1]."""
        states = self.image_encoder(images)
        return self.decoder(states), states

    def encode_poke(self, poke: Tensor, images: Tensor) -> Tensor:
        """The code of a poke map, B 2 S S in pixels, for an image B 3 S S."""
        return self.poke_encoder(torch.zeros_like(poke) if self.ignores_poke else poke, images)

    def initial_states(self, images: Tensor) -> States:
        """The states that the recurrence starts from."""
        return self.image_encoder(images)

    def moved(
        self,
        code: Tensor,
        states: States,
        strengths: Sequence[float],
        *,
        cells: Sequence[Cell] | None = None,
    ) -> Iterator[States]:
        """The states after each step. strengths: how much of the poke each step feels.

        cells: what computes as the cells do, in place of them.
        """
        first, *others = self.cells if cells is None else cells
        drive = first.drive(code)
        for strength in strengths:
            x = first(drive if strength == 1 else strength * drive, states[0])
            moved = [x]
            for cell, state in zip(others, states[1:], strict=True):
                x = cell(cell.drive(x), state)
                moved.append(x)
            states = moved
            yield states

    def draw(self, states: States) -> Tensor:
        """The picture of one step's states, B 3 S S."""
        return self.decoder(states)

    def forward(
        self, images: Tensor, poke: Tensor, strengths: Sequence[float]
    ) -> tuple[Tensor, Tensor, list[States]]:
        """Video of an image after a poke.

        images: B 3 S S in [-1, 1].  poke: B 2 S S, pixels.  strengths: one per frame, see
        `poke_strengths`.
        Returns the frames B T 3 S S in (-1, 1), the poke's code, and the states of each frame.
        """
        code = self.encode_poke(poke, images)
        found = list(self.moved(code, self.initial_states(images), strengths))
        # drawn in one batch: the decoder does not feed back
        frames = self.draw(joined(found))
        return frames.view(len(images), len(strengths), *frames.shape[1:]), code, found

    def _build_cells(self, layout: Layout, num_cells: int, update_bias: float) -> nn.ModuleList:
        channels = (layout.deep, *layout.depths)
        inputs = (layout.deep, *channels)
        return nn.ModuleList(
            ConvGru(a, b, upsamples=i > 1, update_bias=update_bias)
            for i, (a, b) in enumerate(zip(inputs, channels, strict=False))
        )


class SingleScaleModel(PokeModel):
    """The ablation without a hierarchy: only the bottleneck moves, and nothing is skipped to it."""

    has_skips = False

    def initial_states(self, images: Tensor) -> States:
        """Every cell starts from the bottleneck."""
        return [self.image_encoder(images)[0]] * len(self.cells)

    def draw(self, states: States) -> Tensor:
        """The picture of the last cell's state."""
        return self.decoder(states[-1:])

    def _build_cells(self, layout: Layout, num_cells: int, update_bias: float) -> nn.ModuleList:
        return nn.ModuleList(
            ConvGru(layout.deep, layout.deep, update_bias=update_bias) for _ in range(num_cells)
        )


def joined(steps: Sequence[States]) -> States:
    """The states of T steps as one pyramid: B*T C h w each, clip after clip."""
    return [torch.stack(level, dim=1).flatten(0, 1) for level in zip(*steps, strict=True)]


def poke_strengths(schedule: Schedule, num_frames: int, *, num_zero: int = 0) -> list[float]:
    """How much of the poke each step feels; negative: the reverse of it.

    num_zero: steps at the end that feel nothing, in the schedules `jump` and `linear`.
    """
    reach, half = num_frames - num_zero, num_frames // 2
    if schedule == "every-step":
        return [1.0] * num_frames
    if schedule == "once":
        return [float(n == 0) for n in range(num_frames)]
    if schedule == "jump":
        return [float(n < reach) for n in range(num_frames)]
    if schedule == "linear":
        return [1 - n / reach if n <= reach else 0.0 for n in range(num_frames)]
    return [
        1 - n / half if n < half else (n - half) / (num_frames - half) - 1
        for n in range(num_frames)
    ]
