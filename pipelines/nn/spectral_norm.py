"""Convolutions whose weight is divided by its largest singular value (Miyato et al., 2018).

The singular value is followed by power iteration: one iteration per forward in training mode, none
in eval mode, which uses the stored vectors. Published files store such a layer in the form of
`torch.nn.utils.spectral_norm`; `spectral_key` says where each entry goes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.full_precision import full_precision

_EPS = 1e-12
_PUBLISHED = {"weight_orig": "weight", "weight_u": "norm.left", "weight_v": "norm.right"}


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value, estimated with two stored vectors."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        self.register_buffer("left", F.normalize(torch.randn(rows), dim=0, eps=_EPS))
        self.register_buffer("right", F.normalize(torch.randn(columns), dim=0, eps=_EPS))
        self.iterate(weight)

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        """One power iteration on the weight as a matrix [out, rest]."""
        matrix = weight.flatten(1)
        right = F.normalize(torch.mv(matrix.t(), self.left), dim=0, eps=_EPS)
        self.right.copy_(right)
        self.left.copy_(F.normalize(torch.mv(matrix, right), dim=0, eps=_EPS))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight over its largest singular value; the vectors take no gradient."""
        with full_precision(weight.device):
            if self.training:
                self.iterate(weight)
            # clones: a later forward may move the vectors before the gradient is taken
            left, right = self.left.clone(), self.right.clone()
            return weight / torch.dot(left, torch.mv(weight.flatten(1), right))


class SpectralConv2d(nn.Conv2d):
    """A 2D convolution with spectral norm."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride=stride, padding=padding)
        self.norm = SpectralNorm(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        return F.conv2d(x, self.norm(self.weight), self.bias, self.stride, self.padding)


class SpectralConv3d(nn.Conv3d):
    """A 3D convolution with spectral norm."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int, int],
        *,
        stride: tuple[int, int, int] = (1, 1, 1),
        padding: int | tuple[int, int, int] = 0,
        bias: bool = True,
    ) -> None:
        super().__init__(
            channels_in, channels_out, kernel, stride=stride, padding=padding, bias=bias
        )
        self.norm = SpectralNorm(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C T H W."""
        return F.conv3d(x, self.norm(self.weight), self.bias, self.stride, self.padding)


def effective_weight(layer: nn.Conv2d | nn.Conv3d) -> Tensor:
    """The weight that a convolution convolves with; counts as a forward of its spectral norm."""
    if isinstance(layer, SpectralConv2d | SpectralConv3d):
        return layer.norm(layer.weight)
    return layer.weight


@torch.no_grad()
def fold_spectral_norm(network: nn.Module) -> nn.Module:
    """Turn every spectral-norm convolution of a network into a plain one with the same output.

    For inference: the division is done once instead of once per forward. Changes the network in
    place and returns it; it can no longer be trained or saved as before.
    """
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, SpectralConv2d | SpectralConv3d):
                setattr(parent, name, _plain(layer))
    return network


def _plain(layer: SpectralConv2d | SpectralConv3d) -> nn.Module:
    kind = nn.Conv2d if isinstance(layer, SpectralConv2d) else nn.Conv3d
    plain = kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        bias=layer.bias is not None,
        device="meta",
    )
    plain.weight = nn.Parameter(layer.norm.eval()(layer.weight), requires_grad=False)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
    return plain.train(layer.training)


def spectral_key(key: str) -> str:
    """Our name for an entry saved by `torch.nn.utils.spectral_norm`; others are unchanged."""
    stem, _, leaf = key.rpartition(".")
    return f"{stem}.{_PUBLISHED[leaf]}" if leaf in _PUBLISHED else key
