"""The conditioning image autoencoder (spec: cinn, 2.5).

Its encoder's posterior mean of a start frame is the condition of the flow; its decoder serves its
training only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.instance_norm import InstanceNorm2d
from pipelines.nn.training_convolutions import convolved, doubled_and_convolved

_SEED_PX = 4  # size of the decoder's first map
# channels around the decoder's blocks, as multiples of its width; blocks -> widths
_DECODER_WIDTHS = {
    2: (16, 4, 1),
    3: (16, 8, 4, 1),
    4: (16, 16, 8, 4, 1),
    5: (16, 16, 8, 4, 2, 1),
}
_ATTENTION_BEFORE_BLOCK = 4
_STAGE_DEPTHS = (3, 4, 6, 3)  # ResNet-50
_EXPANSION = 4


class ImageEncoder(nn.Module):
    """A ResNet-50 whose last layer gives a Gaussian over the embedding.

    Images enter as they are, in [-1, 1], without ImageNet's normalisation.
    """

    def __init__(
        self,
        *,
        size_px: int = 64,
        embedding_size: int = 64,
        norm: Literal["instance", "batch"] = "instance",
        width: int = 64,
    ) -> None:
        """norm: instance has no parameters and no state.  width: channels of the first layer."""
        super().__init__()
        self.conv = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.norm = _norm(norm, width)
        self.stages = nn.ModuleList()
        map_px, channels = size_px // 4, width
        for i, depth in enumerate(_STAGE_DEPTHS):
            # instance norm needs more than one value: a small image is not halved to one pixel
            can_halve = norm == "batch" or map_px > 2
            stride = 2 if i > 0 and can_halve else 1
            map_px //= stride
            blocks = []
            for j in range(depth):
                inner, first = width * 2**i, j == 0
                blocks.append(Bottleneck(channels, inner, stride=stride if first else 1, norm=norm))
                channels = inner * _EXPANSION
            self.stages.append(nn.Sequential(*blocks))
        self.to_moments = nn.Linear(channels, 2 * embedding_size)
        self._initialize()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: B 3 S S in [-1, 1].  Returns mean and log-variance (in [-30, 10]), B E each."""
        x = F.relu(self.norm(self.conv(images)), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in self.stages:
            x = stage(x)
        mean, log_variance = self.to_moments(x.mean(dim=(2, 3))).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 10.0)

    def embed(self, images: Tensor) -> Tensor:
        """The condition of the flow: the posterior mean, B E."""
        return self(images)[0]

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 convolutions and a shortcut."""

    def __init__(self, channels_in: int, inner: int, *, stride: int, norm: str) -> None:
        super().__init__()
        channels_out = inner * _EXPANSION
        self.conv1 = nn.Conv2d(channels_in, inner, 1, bias=False)
        self.norm1 = _norm(norm, inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.norm2 = _norm(norm, inner)
        self.conv3 = nn.Conv2d(inner, channels_out, 1, bias=False)
        self.norm3 = _norm(norm, channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
                _norm(norm, channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        main = F.relu(self.norm1(self.conv1(x)), inplace=True)
        main = F.relu(self.norm2(self.conv2(main)), inplace=True)
        return F.relu(self.norm3(self.conv3(main)) + self.shortcut(x), inplace=True)


def _norm(kind: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else InstanceNorm2d(channels)


class ImageDecoder(nn.Module):
    """A BigGAN generator.

    The code's first part is the seed; every block is conditioned on a chunk of the rest and on a
    class embedding, itself a soft choice made from the code.
    """

    def __init__(
        self,
        *,
        size_px: int = 64,
        embedding_size: int = 64,
        width: int = 96,
        class_hidden: int = 2000,
        num_classes: int = 1000,
        class_embedding_size: int = 128,
    ) -> None:
        """size_px: 16, 32, 64 or 128.  width: channels of the last block."""
        super().__init__()
        num_blocks = num_decoder_blocks(size_px)
        widths = [width * multiple for multiple in _DECODER_WIDTHS[num_blocks]]
        self.chunks = code_chunks(embedding_size, num_blocks)
        self._seed_shape = (_SEED_PX, _SEED_PX, widths[0])
        self.to_classes = _class_network(embedding_size, class_hidden, num_classes)
        self.class_embedding = nn.Linear(num_classes, class_embedding_size, bias=False)
        self.seed = FixedSpectralLinear(self.chunks[0], prod(self._seed_shape))
        self.blocks = nn.ModuleList(
            GeneratorBlock(before, after, condition_size=chunk + class_embedding_size)
            for chunk, (before, after) in zip(self.chunks[1:], pairwise(widths), strict=True)
        )
        has_attention = num_blocks > _ATTENTION_BEFORE_BLOCK
        self.attention = SelfAttention(widths[_ATTENTION_BEFORE_BLOCK]) if has_attention else None
        self.norm = nn.BatchNorm2d(width, eps=1e-4)
        self.to_image = FixedSpectralConv2d(width, 3, 3)

    @property
    def last_weight(self) -> nn.Parameter:
        """The weight at which the losses' gradients are compared (adaptive weight)."""
        return self.to_image.weight

    def forward(self, code: Tensor) -> Tensor:
        """code: B E.  Returns images, B 3 S S in (-1, 1)."""
        classes = self.class_embedding(F.softmax(self.to_classes(code), dim=1))
        seed, *chunks = code.split(self.chunks, dim=1)
        x = self.seed(seed).view(-1, *self._seed_shape).permute(0, 3, 1, 2)
        for i, (block, chunk) in enumerate(zip(self.blocks, chunks, strict=True)):
            if i == _ATTENTION_BEFORE_BLOCK and self.attention is not None:
                x = self.attention(x)
            x = block(x, torch.cat((chunk, classes), dim=1))
        return torch.tanh(self.to_image(F.relu(self.norm(x), inplace=True)))


class GeneratorBlock(nn.Module):
    """Doubles height and width: two convolutions after conditional batch norms, and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, *, condition_size: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(channels_in, condition_size=condition_size)
        self.conv1 = FixedSpectralConv2d(channels_in, channels_out, 3)
        self.norm2 = ConditionalBatchNorm(channels_out, condition_size=condition_size)
        self.conv2 = FixedSpectralConv2d(channels_out, channels_out, 3)
        self.shortcut = FixedSpectralConv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: B C H W.  condition: B D.  Returns B C' 2H 2W."""
        main = F.relu(self.norm1(x, condition), inplace=True)
        main = self.conv1.of_doubled(main)
        main = self.conv2(F.relu(self.norm2(main, condition), inplace=True))
        # a 1x1 convolution commutes with repeating pixels
        return main + F.interpolate(self.shortcut(x), scale_factor=2)


class ConditionalBatchNorm(nn.Module):
    """Batch norm, then scale (1 + gamma) and shift chosen by a condition."""

    def __init__(self, channels: int, *, condition_size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=1e-4, affine=False)
        self.to_gamma = FixedSpectralLinear(condition_size, channels, bias=False)
        self.to_beta = FixedSpectralLinear(condition_size, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: B C H W.  condition: B D."""
        gain = 1 + self.to_gamma(condition)[:, :, None, None]
        return torch.addcmul(self.to_beta(condition)[:, :, None, None], self.norm(x), gain)


class SelfAttention(nn.Module):
    """Every place looks at a 2x2-pooled map of all places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, values = max(1, channels // 8), max(1, channels // 2)
        self.query = FixedSpectralConv2d(channels, inner, 1, bias=False)
        self.key = FixedSpectralConv2d(channels, inner, 1, bias=False)
        self.value = FixedSpectralConv2d(channels, values, 1, bias=False)
        self.output = FixedSpectralConv2d(values, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        query = self.query(x).flatten(2).transpose(1, 2)
        key = F.max_pool2d(self.key(x), 2).flatten(2)
        value = F.max_pool2d(self.value(x), 2).flatten(2)
        attention = F.softmax(query @ key, dim=-1)
        seen = (value @ attention.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        return self.gain * self.output(seen) + x


class FixedSpectralNorm(nn.Module):
    """The decoder's own spectral norm: an iteration per forward, always from the same vector.

    Unlike `pipelines.nn.spectral_norm` the vector is never written back, training and eval do the
    same, and gradients pass through the iteration.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("vector", _unit(torch.randn(rows)))

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Input and weight of a product, one of them over an estimate of the weight's largest
        singular value: the smaller one, as dividing and its gradient pass over it many times.
        """
        matrix = weight.flatten(1)
        right = _unit(torch.mv(matrix.t(), self.vector))
        product = torch.mv(matrix, right)
        largest = torch.dot(_unit(product), product)
        if x.numel() < weight.numel():
            return x / largest, weight
        return x, weight / largest


class FixedSpectralConv2d(nn.Conv2d):
    """A 2D convolution with 'same' padding and the decoder's spectral norm."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, bias: bool = True
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2, bias=bias)
        self.norm = FixedSpectralNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        x, weight = self.norm(x, self.weight)
        return convolved(x, weight, self.bias)

    def of_doubled(self, x: Tensor) -> Tensor:
        """The same of an image whose every pixel is there twice both ways, given once: B C H W."""
        x, weight = self.norm(x, self.weight)
        return doubled_and_convolved(x, weight, self.bias)


class FixedSpectralLinear(nn.Linear):
    """A linear layer with the decoder's spectral norm."""

    def __init__(self, size_in: int, size_out: int, *, bias: bool = True) -> None:
        super().__init__(size_in, size_out, bias=bias)
        self.norm = FixedSpectralNorm(size_out)

    def forward(self, x: Tensor) -> Tensor:
        """x: B D."""
        return F.linear(*self.norm(x, self.weight), self.bias)


def _unit(vector: Tensor) -> Tensor:
    return vector / (torch.linalg.vector_norm(vector) + 1e-4)


def _class_network(size_in: int, hidden: int, num_classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise((size_in, hidden, hidden, hidden)):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers, nn.Linear(hidden, num_classes))


def num_decoder_blocks(size_px: int) -> int:
    """Doublings from the decoder's first map to an image of that size."""
    num_blocks = (size_px // _SEED_PX).bit_length() - 1
    if num_blocks not in _DECODER_WIDTHS or _SEED_PX * 2**num_blocks != size_px:
        sizes = ", ".join(str(_SEED_PX * 2**n) for n in _DECODER_WIDTHS)
        raise ValueError(f"the image autoencoder takes images of {sizes} pixels, not {size_px}")
    return num_blocks


def code_chunks(embedding_size: int, num_blocks: int) -> Sequence[int]:
    """Sizes of the parts of a code: the seed's, then one per block.

    As published 10 numbers per block, or 20 in the five-block decoder, where the embedding is large
    enough to leave the seed as much; otherwise equal parts.
    """
    chunk = 20 if num_blocks == 5 else 10
    if embedding_size < (num_blocks + 1) * chunk:
        chunk = embedding_size // (num_blocks + 1)
    if chunk == 0:
        raise ValueError(f"embedding_size must be at least {num_blocks + 1}, not {embedding_size}")
    return [embedding_size - num_blocks * chunk, *[chunk] * num_blocks]
