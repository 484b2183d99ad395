"""3 x 3 x 3 convolutions (padding 1) of frames, with fewer products than taps suggest.

A convolution in time and space is a sum of 2D convolutions of single frames, one for each tap in
time. Where frames repeat, or neighbouring results share their inputs, fewer of these are enough
when mixtures of frames meet mixtures of taps (Winograd, 1980): the same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv3d_input, conv3d_weight

from pipelines.nn.packed_convolution import PackedConv

Weights = Sequence[Tensor]


class Form(NamedTuple):
    """A way to do the convolution in a step with gradients, frames in torch's own layout.

    split: its weight, C' C 3 3 3, as what `apply` takes.
    apply: frames B C T H W, weights, bias (C' or None) -> B C' T H W, or B C' 2T H W where every
    frame stands for two.
    """

    split: Callable[[Tensor], Weights]
    apply: Callable[[Tensor, Weights, Tensor | None], Tensor]


def training_form(num_frames: int, *, is_repeated: bool) -> Form:
    """The form for a step with gradients. num_frames: T of the input.

    is_repeated: every frame stands for two.
    """
    if num_frames == 1:
        return REPEATED_SINGLE if is_repeated else SINGLE
    return REPEATED_TAPS if is_repeated else PLAIN


def _conv_plain(x: Tensor, weights: Weights, bias: Tensor | None) -> Tensor:
    return F.conv3d(x, weights[0], bias, padding=1)


def _conv_single(x: Tensor, weights: Weights, bias: Tensor | None) -> Tensor:
    """Of a single frame: its first and last tap fall on the padding."""
    return F.conv2d(x.squeeze(2), weights[0], bias, padding=1).unsqueeze(2)


def _split_repeated_single(weight: Tensor) -> Weights:
    first, middle, last = weight.unbind(2)
    return (torch.cat((middle + last, first + middle)),)


def _conv_repeated_single(x: Tensor, weights: Weights, bias: Tensor | None) -> Tensor:
    """Of a single frame, there twice: one tap of each copy falls on the padding."""
    both = F.conv2d(x.squeeze(2), weights[0], None if bias is None else bias.repeat(2), padding=1)
    return torch.stack(both.chunk(2, dim=1), dim=2)


def _split_repeated_taps(weight: Tensor) -> Weights:
    first, middle, last = weight.unbind(2)
    even = torch.stack((first, middle + last), dim=2)
    odd = torch.stack((first + middle, last), dim=2)
    return (torch.cat((even, odd)),)


def _conv_repeated_taps(x: Tensor, weights: Weights, bias: Tensor | None) -> Tensor:
    """Of frames that are all there twice, given once: two taps for each copy instead of three."""
    num_frames, both_bias = x.shape[2], None if bias is None else bias.repeat(2)
    even, odd = F.conv3d(x, weights[0], both_bias, padding=1).chunk(2, dim=1)
    # with two taps and padding on both sides there is one frame too many: the last, the first
    return torch.stack((even[:, :, :num_frames], odd[:, :, -num_frames:]), dim=3).flatten(2, 3)


PLAIN = Form(lambda weight: (weight,), _conv_plain)
SINGLE = Form(lambda weight: (weight[:, :, 1],), _conv_single)
REPEATED_SINGLE = Form(_split_repeated_single, _conv_repeated_single)
REPEATED_TAPS = Form(_split_repeated_taps, _conv_repeated_taps)


class Plan(NamedTuple):
    """2D convolutions of mixtures of frames, whose results mix to those of the one in time.

    taps: P 3, the weight of each product as a mixture of the three taps.
    counts: how many mixtures of frames meet each of these weights; R in all.
    gather: R T, those mixtures.  scatter: T' R, every resulting frame as a mixture of products.
    """

    taps: Tensor
    counts: tuple[int, ...]
    gather: Tensor
    scatter: Tensor


@cache
def sampling_plan(num_frames: int, *, is_repeated: bool) -> Plan:
    """The plan with the fewest products whose mixtures cost no digits that matter.

    num_frames: T of the input.  is_repeated: every frame stands for two, which makes T' = 2T.
    """
    if is_repeated:
        return _plan(_repeated_terms(num_frames), num_frames, 2 * num_frames)
    if num_frames == 2:
        return _plan(_TWO, num_frames, num_frames)
    tile = next(each for each in _TILES if num_frames % len(each.scatter) == 0)
    return _plan(_tiled_terms(num_frames, tile), num_frames, num_frames)


class Term(NamedTuple):
    """One product. taps: factors of the three.  reads: frame -> factor.  writes: result -> factor.

    Frames outside are 0, results outside are not wanted: a plan leaves out what is only there.
    """

    taps: tuple[float, ...]
    reads: Mapping[int, float]
    writes: Mapping[int, float]


class Tile(NamedTuple):
    """Some neighbouring results of a filter with three taps: scatter (taps w * gather x).

    gather reads the frames from one before the first result's place to one after the last's.
    """

    taps: Sequence[tuple[float, ...]]
    gather: Sequence[Sequence[float]]
    scatter: Sequence[Sequence[float]]


# four results from six products: what polynomials are at 0, 1, -1, 2, -2 and infinity says it all
_FOUR = Tile(
    taps=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    gather=(
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    scatter=(
        (1, 1, 1, 1, 1, 0),
        (0, 1, -1, 2, -2, 0),
        (0, 1, 1, 4, 4, 0),
        (0, 1, -1, 8, -8, 1),
    ),
)
# two results from four products: at 0, 1, -1 and infinity
_PAIR = Tile(
    taps=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    gather=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
    scatter=((1, 1, 1, 0), (0, 1, -1, 1)),
)
_ONE = Tile(
    taps=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    gather=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    scatter=((1, 1, 1),),
)
_TILES = (_FOUR, _PAIR, _ONE)
# two frames with nothing around them: three products for both
_TWO = (
    Term((0, 1, 0), {0: 1, 1: 1}, {0: 1, 1: 1}),
    Term((0, -1, 1), {1: 1}, {0: 1}),
    Term((1, -1, 0), {0: 1}, {1: 1}),
)


def _tiled_terms(num_frames: int, tile: Tile) -> Iterable[Term]:
    """Tile after tile."""
    writes = list(zip(*tile.scatter, strict=True))
    for first in range(0, num_frames, len(tile.scatter)):
        for taps, reads, written in zip(tile.taps, tile.gather, writes, strict=True):
            yield Term(
                taps,
                dict(enumerate(reads, start=first - 1)),
                dict(enumerate(written, start=first)),
            )


def _repeated_terms(num_frames: int) -> Iterable[Term]:
    """Of frames that are all there twice, given once: five products for every four results.

    The first copy of frame t is w0 x[t-1] + (w1 + w2) x[t], the second (w0 + w1) x[t] + w2 x[t+1].
    Around every other frame two of each share (w0 + w1 + w2) x[t]; the rest meets differences of
    neighbours.
    """
    for t in range(-1, num_frames + 1, 2):
        before, after = {t - 1: 1.0, t: -1.0}, {t: 1.0, t + 1: -1.0}
        copy = 2 * t  # the results from the second copy of t - 1 to the first of t + 1
        yield Term((1, 1, 1), {t: 1.0}, {copy - 1: 1.0, copy: 1.0, copy + 1: 1.0, copy + 2: 1.0})
        yield Term((1, 1, 0), before, {copy - 1: 1.0})
        yield Term((1, 0, 0), before, {copy: 1.0})
        yield Term((0, 0, 1), after, {copy + 1: -1.0})
        yield Term((0, 1, 1), after, {copy + 2: -1.0})


def _plan(terms: Iterable[Term], num_frames: int, num_results: int) -> Plan:
    """Terms with the same taps beside each other."""
    products: dict[tuple[float, ...], list[Tensor]] = {}
    for taps, reads, writes in terms:
        mixture = torch.zeros(num_frames + num_results, dtype=torch.float64)
        for place, factor in reads.items():
            if 0 <= place < num_frames:
                mixture[place] = factor
        for place, factor in writes.items():
            if 0 <= place < num_results:
                mixture[num_frames + place] = factor
        if mixture[:num_frames].any() and mixture[num_frames:].any():
            products.setdefault(taps, []).append(mixture)
    rows = torch.stack([row for each in products.values() for row in each])
    return Plan(
        torch.tensor(list(products), dtype=torch.float64),
        tuple(len(each) for each in products.values()),
        rows[:, :num_frames].contiguous(),
        rows[:, num_frames:].t().contiguous(),
    )


def pays_in_training(x: Tensor, num_results: int) -> bool:
    """Whether `planned_conv` is faster than a plain one. num_results: channels.

    Mixing weights costs the same however many places there are, mixing frames however many
    channels result; on a GPU and in 16 bits it was not measured.
    """
    is_measured = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    num_places = x.numel() // x.shape[1]
    return is_measured and num_places >= 4096 and min(x.shape[1], num_results) >= 64


class PlannedConv3d(nn.Conv3d):
    """A 3 x 3 x 3 convolution (stride 1, padding 1) that goes by a plan where that is faster.

    Its gradient cannot be differentiated again.
    """

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool = True) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C T H W."""
        if x.shape[2] > 1 and pays_in_training(x, self.out_channels):
            return planned_conv(x, self.weight, self.bias)
        return super().forward(x)


def planned_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, is_repeated: bool = False
) -> Tensor:
    """The convolution by its plan, with gradients. x: B C T H W.  Returns B C' T' H W."""
    made: Tensor = _PlannedTraining.apply(x, weight, is_repeated)
    return made if bias is None else made + bias.view(-1, 1, 1, 1)


class _PlannedTraining(torch.autograd.Function):
    """Keeps the frames and the weight for its gradient, not their mixtures: those are cheap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, is_repeated: bool) -> Tensor:
        plan = sampling_plan(x.shape[2], is_repeated=is_repeated)
        ctx.plan = plan
        ctx.save_for_backward(x, weight)
        made = [
            F.conv3d(frames, taps, padding=(0, 1, 1))
            for frames, taps in zip(*_mixtures(plan, x, weight), strict=True)
        ]
        return _mixed(plan.scatter, torch.cat(made, dim=2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        plan: Plan = ctx.plan
        parts = _mixed(plan.scatter.t(), gradient).split(plan.counts, dim=2)
        to_frames, to_weights = [], []
        for frames, taps, part in zip(*_mixtures(plan, x, weight), parts, strict=True):
            to_frames.append(conv3d_input(frames.shape, taps, part, padding=(0, 1, 1)))
            to_weights.append(conv3d_weight(frames, taps.shape, part, padding=(0, 1, 1)))
        to_weight = torch.einsum(
            "pt,oiphw->oithw", plan.taps.to(weight), torch.cat(to_weights, dim=2)
        )
        return _mixed(plan.gather.t(), torch.cat(to_frames, dim=2)), to_weight, None


def _mixtures(plan: Plan, x: Tensor, weight: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """For each product its mixtures of frames, B C n H W, and of taps, C' C 1 3 3."""
    taps = torch.einsum("pt,oithw->poihw", plan.taps.to(weight), weight).unsqueeze(3)
    return _mixed(plan.gather, x).split(plan.counts, dim=2), list(taps)


def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
    """Mixtures of frames. matrix: R T.  x: B C T H W.  Returns B C R H W."""
    batch, channels, num_frames, height, width = x.shape
    values = x.reshape(batch * channels, num_frames, height * width)
    mixed = torch.bmm(matrix.to(x).expand(len(values), -1, -1), values)
    return mixed.view(batch, channels, len(matrix), height, width)


class PlannedConv(nn.Module):
    """A convolution by its sampling plan, its weights mixed once: for inference.

    Frames are B T H W C, as a CPU convolves them fastest.
    """

    def __init__(
        self,
        conv: nn.Conv3d,
        num_frames: int,
        *,
        is_repeated: bool,
        dtype: torch.dtype | None = None,
    ) -> None:
        """conv: 3 x 3 x 3, padding 1, without spectral norm.  num_frames: of what will come in.

        dtype: of the products; frames are mixed in that of the weights.
        """
        super().__init__()
        plan = sampling_plan(num_frames, is_repeated=is_repeated)
        weight = conv.weight.detach()
        self._counts = plan.counts
        self._gather = plan.gather.to(weight)
        self._products = nn.ModuleList(
            FrameConv(torch.einsum("t,oithw->oihw", taps, weight).to(dtype or weight.dtype))
            for taps in plan.taps.to(weight)
        )
        # the bias comes in as one more product, which is in every result
        self._scatter = torch.cat((plan.scatter, torch.ones(len(plan.scatter), 1)), dim=1).to(
            weight
        )
        self._bias = conv.bias.detach() if conv.bias is not None else weight.new_zeros(len(weight))

    def forward(self, x: Tensor) -> Tensor:
        """x: B T H W C.  Returns B T' H W C'."""
        num_clips, _, height, width, _ = x.shape
        values = x.flatten(2)
        mixed = values.new_empty((len(self._gather), *values[:, 0].shape))
        for clip, frames in enumerate(values):
            torch.mm(self._gather, frames, out=mixed[:, clip])
        parts = mixed.view(len(mixed) * num_clips, *x.shape[2:]).split(
            [count * num_clips for count in self._counts]
        )
        made = [product(part) for product, part in zip(self._products, parts, strict=True)]
        made.append(self._bias.expand(num_clips, height, width, -1))
        results = torch.cat(made).view(self._scatter.shape[1], num_clips, -1)
        found = results.new_empty((num_clips, len(self._scatter), results.shape[2]))
        for clip, frames in enumerate(found):
            torch.mm(self._scatter, results[:, clip], out=frames)
        return found.view(num_clips, -1, height, width, len(self._bias))


class TapByTapConv(nn.Module):
    """A convolution with few channels of its own: all taps at once, their results moved and added.

    For inference. Frames are B T H W C.
    """

    def __init__(self, conv: nn.Conv3d, *, dtype: torch.dtype | None = None) -> None:
        """conv: 3 x 3 x 3, padding 1.  dtype: of the products."""
        super().__init__()
        weight = conv.weight.detach().unbind(2)
        self._taps = FrameConv(torch.cat(weight).to(dtype or conv.weight.dtype))
        self._bias = conv.bias.detach() if conv.bias is not None else weight[0].new_zeros(())

    def forward(self, x: Tensor) -> Tensor:
        """x: B T H W C.  Returns B T H W C'."""
        made = self._taps(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        before, here, after = made.chunk(3, dim=-1)
        found = here + self._bias
        found[:, 1:] += before[:, :-1]
        found[:, :-1] += after[:, 1:]
        return found


class FrameConv(nn.Module):
    """3 x 3 convolution (padding 1) of frames N H W C, without a bias: for inference on a CPU."""

    def __init__(self, weight: Tensor) -> None:
        """weight: C' C 3 3; its type is that of the products."""
        super().__init__()
        self._dtype, self._conv = weight.dtype, PackedConv(weight)

    def forward(self, frames: Tensor) -> Tensor:
        """frames: N H W C.  Returns N H W C'."""
        made: Tensor = self._conv(frames.to(self._dtype).permute(0, 3, 1, 2))
        return made.to(frames.dtype).permute(0, 2, 3, 1)
