"""3 x 3 x 3 convolutions (padding 1) of frames, with fewer products than taps suggest.

A convolution in time and space is a sum of 2D convolutions of single frames, one for each tap in
time. Where frames repeat, or two neighbouring results share their inputs, some of these can be done
once: the same numbers up to rounding. The forms for sampling take and give B C T H W in the memory
layout channels-last, in which a CPU convolves fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Weights = Sequence[Tensor]


class Form(NamedTuple):
    """A way to do the convolution. split: its weight, C' C 3 3 3, as what `apply` takes.

    apply: frames B C T H W, weights, bias (C' or None) -> B C' T H W, or B C' 2T H W where every
    frame stands for two.
    """

    split: Callable[[Tensor], Weights]
    apply: Callable[[Tensor, Weights, Tensor | None], Tensor]


def training_form(num_frames: int, *, is_repeated: bool) -> Form:
    """The form for a step with gradients. num_frames: T of the input.

    is_repeated: every frame stands for two.
    """
    if not is_repeated:
        return PLAIN
    return REPEATED_SINGLE if num_frames == 1 else REPEATED_TAPS


def sampling_form(num_frames: int, *, is_repeated: bool) -> Form:
    """The form with the fewest products; it takes more copies of its input than training can keep.

    num_frames, is_repeated: as for training_form.
    """
    if num_frames == 1:
        return REPEATED_SINGLE if is_repeated else SINGLE
    if is_repeated:
        return REPEATED
    return PAIRED if num_frames % 2 == 0 else PLAIN


class FoldedConv(nn.Module):
    """A convolution in a form, its weights split once: for inference."""

    def __init__(self, conv: nn.Conv3d, form: Form) -> None:
        super().__init__()
        self._form = form
        self.weights = nn.ParameterList(
            nn.Parameter(each, requires_grad=False) for each in form.split(conv.weight.detach())
        )
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """x: B C T H W."""
        return self._form.apply(x, list(self.weights), self.bias)


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


def _split_repeated(weight: Tensor) -> Weights:
    first, _, last = weight.unbind(2)
    return weight.sum(dim=2), torch.cat((-first, last))


def _conv_repeated(x: Tensor, weights: Weights, bias: Tensor | None) -> Tensor:
    """Of frames that are all there twice, given once.

    Of three taps two always fall on the same frame. With the changes from frame to frame, the first
    copy is w x - w_first (x - before) and the second w x + w_last (after - x): three products for
    two results instead of six.
    """
    num_clips, num_frames = x.shape[0], x.shape[2]
    whole = _clips(F.conv2d(_frames(x), weights[0], bias, padding=1), num_clips)
    changes = _empty_like(x, num_frames + 1)
    changes[:, :, 0] = x[:, :, 0]
    torch.sub(x[:, :, 1:], x[:, :, :-1], out=changes[:, :, 1:-1])
    torch.neg(x[:, :, -1], out=changes[:, :, -1])
    changed = _clips(F.conv2d(_frames(changes), weights[1], padding=1), num_clips)
    since, until = changed.chunk(2, dim=1)
    made = _empty_like(whole, 2 * num_frames)
    torch.add(whole, since[:, :, :-1], out=made[:, :, ::2])
    torch.add(whole, until[:, :, 1:], out=made[:, :, 1::2])
    return made


def _split_paired(weight: Tensor) -> Weights:
    first, middle, last = weight.unbind(2)
    outer = first + last
    return first, (outer + middle) / 2, (outer - middle) / 2, last


def _conv_paired(x: Tensor, weights: Weights, bias: Tensor | None) -> Tensor:
    """Of an even number of frames: four products for two results instead of six.

    Winograd's minimal filtering F(2, 3), in time alone.
    """
    num_clips, num_frames = x.shape[0], x.shape[2]
    first, second = x[:, :, ::2], x[:, :, 1::2]  # of each pair
    outer = [_empty_like(x, num_frames // 2) for _ in range(2)]
    torch.neg(second[:, :, 0], out=outer[0][:, :, 0])
    torch.sub(second[:, :, :-1], second[:, :, 1:], out=outer[0][:, :, 1:])
    torch.sub(first[:, :, :-1], first[:, :, 1:], out=outer[1][:, :, :-1])
    outer[1][:, :, -1] = first[:, :, -1]
    parts = (outer[0], first + second, second - first, outer[1])
    a, b, c, d = (
        _clips(F.conv2d(_frames(part), weight, own, padding=1), num_clips)
        for part, weight, own in zip(parts, weights, (None, bias, None, None), strict=True)
    )
    made = _empty_like(a, num_frames)
    torch.add(a, b, out=made[:, :, ::2]).add_(c)
    torch.sub(b, c, out=made[:, :, 1::2]).sub_(d)
    return made


def _frames(x: Tensor) -> Tensor:
    """B C T H W as B*T C H W: a view where the layout is channels-last."""
    return x.transpose(1, 2).flatten(0, 1)


def _clips(frames: Tensor, num_clips: int) -> Tensor:
    """B*T C H W as B C T H W, the other way."""
    return frames.unflatten(0, (num_clips, -1)).transpose(1, 2)


def _empty_like(x: Tensor, num_frames: int) -> Tensor:
    """Room for B C `num_frames` H W in the layout channels-last."""
    batch, channels, _, height, width = x.shape
    return x.new_empty((batch, num_frames, height, width, channels)).permute(0, 4, 1, 2, 3)


PLAIN = Form(lambda weight: (weight,), _conv_plain)
SINGLE = Form(lambda weight: (weight[:, :, 1],), _conv_single)
REPEATED_SINGLE = Form(_split_repeated_single, _conv_repeated_single)
REPEATED_TAPS = Form(_split_repeated_taps, _conv_repeated_taps)
REPEATED = Form(_split_repeated, _conv_repeated)
PAIRED = Form(_split_paired, _conv_paired)
