"""Image encoder, latent video, video generator and two discriminators (completion, G.1 to G.4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.inbetween.config import GROUP_FRAMES, NUM_FRAMES, NetworkConfig

_SLOPE = 0.2
_BATCH_NORM_EPS = 1e-3
_LAYER_NORM_EPS = 1e-12
_FIRST_NOISE, _FIRST_GATE = 0.1, -2.0
_MIXED, _FIRST_PAINTED = 3, 0.1
"""What a pixel is mixed of: first image, last image, painted; and the last one's first share."""


class ImageEncoder(nn.Module):
    """One image to a map an eighth its size; the same weights for both images."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        first, second, third = config.encoder_channels
        widths = (config.num_channels, first, first, second, second, third, third)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for i, (a, b) in enumerate(itertools.pairwise((*widths, config.latent_channels))):
            halves = i % 2 == 0 and i < 6
            self.convs.append(nn.Conv2d(a, b, 4, 2, 1) if halves else nn.Conv2d(a, b, 3, 1, 1))
            self.norms.append(_batch_norm(nn.BatchNorm2d, b, config))

    def forward(self, image: Tensor) -> Tensor:
        """image: B C H W in [-1, 1]; returns B L H/8 W/8."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            image = F.relu(norm(conv(image)))
        return image


class LatentLayer(nn.Module):
    """Mixes both images and noise into the latent video, a gate per time step and channel."""

    def __init__(self, config: NetworkConfig, *, num_frames: int) -> None:
        super().__init__()
        width = config.latent_channels
        self.num_frames = num_frames
        self.noise = nn.Linear(config.noise_size, num_frames * width)
        self.fusion = nn.Conv1d(width, 3 * width, 3, padding=1)
        self.conv1 = nn.Conv3d(width, width, 3, padding=1)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1)
        if not config.is_midnet:
            self._start_in_time()

    def _start_in_time(self) -> None:
        """First weights with which a training finds out about time.

        Evenly drawn gates let nothing of z through and say more of the noise than of when it is;
        here most of z passes, and frames differ from the first step on.
        """
        assert self.fusion.bias is not None
        with torch.no_grad():
            nn.init.normal_(self.noise.bias)
            self.noise.weight.mul_(_FIRST_NOISE)
            self.fusion.bias[: 2 * self.fusion.in_channels] = _FIRST_GATE

    def forward(self, z: Tensor, start: Tensor, end: Tensor, noise: Tensor) -> Tensor:
        """z: B L T h w.  start, end: B L h w.  noise: B N.  Returns the next z."""
        steps = self.noise(noise).unflatten(1, (self.num_frames, -1)).transpose(1, 2)
        gates = self.fusion(steps)[..., None, None]  # B 3L T 1 1
        for_start, for_end, added = gates.chunk(3, dim=1)
        for_start, for_end = for_start.sigmoid(), for_end.sigmoid()
        kept = (1 - for_start - for_end).clamp(min=0)
        mixed = for_start * start[:, :, None] + for_end * end[:, :, None] + kept * z + added
        hidden = F.leaky_relu(self.conv1(mixed), _SLOPE)
        return F.leaky_relu(z + self.conv2(hidden), _SLOPE)


class LatentVideo(nn.Module):
    """From two encoded images to a latent video whose temporal resolution grows."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.layers_per_group = config.layers_per_group
        self.layers = nn.ModuleList(
            LatentLayer(config, num_frames=num_frames)
            for num_frames in GROUP_FRAMES
            for _ in range(config.layers_per_group)
        )

    def forward(self, start: Tensor, end: Tensor, noise: Tensor) -> Tensor:
        """start, end: B L h w.  noise: B N.  Returns B L 16 h w."""
        *_, last = self.stages(start, end, noise)
        return last

    def stages(self, start: Tensor, end: Tensor, noise: Tensor) -> Iterator[Tensor]:
        """The latent after each layer."""
        z = torch.stack([start, end], dim=2)
        for i, layer in enumerate(self.layers):
            if i % self.layers_per_group == 0:
                z = z.repeat_interleave(2, dim=2)
            z = layer(z, start, end, noise)
            yield z


class VideoGenerator(nn.Module):
    """Latent video to frames, by transposed 3D convolutions."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        first, second, third = config.generator_channels
        widths = (config.latent_channels, first, first, second, second, third, third)
        channels_out = config.num_channels + (_MIXED if config.mixes_ends else 0)
        self.is_midnet = config.is_midnet
        self.deconvs, self.norms = nn.ModuleList(), nn.ModuleList()
        for i, (a, b) in enumerate(itertools.pairwise((*widths, channels_out))):
            doubles = i >= 2 and i % 2 == 0
            kernel, stride = ((3, 4, 4), (1, 2, 2)) if doubles else ((3, 3, 3), (1, 1, 1))
            self.deconvs.append(nn.ConvTranspose3d(a, b, kernel, stride, padding=1))
            if i < 6 or config.is_midnet:
                self.norms.append(_batch_norm(nn.BatchNorm3d, b, config))

    def forward(self, z: Tensor) -> Tensor:
        """z: B L T h w; returns B C T 8h 8w: colours before tanh, but midnet's as they are.

        Where ends are mixed, three channels follow the colours: `mixed` says what they mean.
        """
        for deconv, norm in zip(self.deconvs, self.norms, strict=False):
            z = F.leaky_relu(norm(deconv(z)), _SLOPE)
        return z if self.is_midnet else self.deconvs[-1](z)


def mixed(made: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Each pixel as the start's, the end's and a painted one in shares that add up to 1.

    made: B C+3 T H W, colours before tanh and logits of the shares, over those of a cross-fade.
    start, end: B C H W in [-1, 1].  Returns B C T H W.
    """
    painted, logits = made.split([start.shape[1], _MIXED], dim=1)
    num_frames = made.shape[2]
    late = (torch.arange(num_frames).to(made) + 0.5) / num_frames  # never 0: logarithms follow
    shares = torch.stack([1 - late, late, torch.full_like(late, _FIRST_PAINTED)])
    shares = (logits + shares.log()[:, :, None, None]).softmax(dim=1)
    of_start, of_end, of_painted = shares.split(1, dim=1)
    return of_start * start[:, :, None] + of_end * end[:, :, None] + of_painted * painted.tanh()


class Inbetweener(nn.Module):
    """The whole generator."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.is_midnet, self.mixes_ends = config.is_midnet, config.mixes_ends
        self.encoder = ImageEncoder(config)
        self.latent = LatentVideo(config)
        self.generator = VideoGenerator(config)

    def forward(self, start: Tensor, end: Tensor, noise: Tensor) -> Tensor:
        """start, end: B C H W in [-1, 1].  noise: B N, standard normal.  Returns B 16 C H W.

        The first and the last frame are the given ones, except for midnet.
        """
        z = self.latent(self.encoder(start), self.encoder(end), noise)
        made = self.generator(z)
        if self.is_midnet:
            return made.transpose(1, 2)
        video = mixed(made, start, end) if self.mixes_ends else made.tanh()
        video = video.transpose(1, 2)
        return torch.cat([start[:, None], video[:, 1:-1], end[:, None]], dim=1)


class ChannelLayerNorm(nn.Module):
    """Standardises each item over all its axes; gain and shift per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: B C and any axes after it."""
        return F.group_norm(x, 1, self.weight, self.bias, _LAYER_NORM_EPS)


class VideoDiscriminator(nn.Module):
    """Judges whole videos."""

    def __init__(self, config: NetworkConfig, *, size_px: int) -> None:
        super().__init__()
        widths = (config.num_channels, *config.discriminator_channels)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for a, b in itertools.pairwise(widths):
            self.convs.append(nn.Conv3d(a, b, 4, stride=(1, 2, 2), padding=(0, 1, 1)))
            self.norms.append(ChannelLayerNorm(b))
        side = size_px // 2 ** len(config.discriminator_channels)
        self.linear = nn.Linear(NUM_FRAMES * side**2 * widths[-1], 1)

    def forward(self, video: Tensor) -> Tensor:
        """video: B 16 C H W in [-1, 1]; returns logits, B."""
        x = video.transpose(1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            # TensorFlow's SAME for an even kernel: one frame before, two after
            x = F.leaky_relu(norm(conv(F.pad(x, (0, 0, 0, 0, 1, 2)))), _SLOPE)
        return self.linear(x.permute(0, 2, 3, 4, 1).flatten(1))[:, 0]


class Shortcut(nn.Module):
    """A way past two layers of the image discriminator: half the size, one 1 x 1 convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 1)
        self.norm = ChannelLayerNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W; returns B C' H/2 W/2."""
        return F.leaky_relu(self.norm(self.conv(F.avg_pool2d(x, 2))), _SLOPE)


class ImageDiscriminator(nn.Module):
    """Judges single frames. Its shortcuts form a chain of their own, which starts at the image."""

    def __init__(self, config: NetworkConfig, *, size_px: int) -> None:
        super().__init__()
        channels = (config.num_channels, *config.discriminator_channels)
        self.convs, self.norms, self.shortcuts = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for a, b in itertools.pairwise(channels):
            self.convs += [nn.Conv2d(a, a, 3, 1, 1), nn.Conv2d(a, b, 4, 2, 1)]
            self.norms += [ChannelLayerNorm(a), ChannelLayerNorm(b)]
            self.shortcuts.append(Shortcut(a, b))
        side = size_px // 2 ** len(config.discriminator_channels)
        self.linear = nn.Linear(side**2 * channels[-1], 1)

    def forward(self, image: Tensor) -> Tensor:
        """image: B C H W in [-1, 1]; returns logits, B."""
        x = past = image
        for i, shortcut in enumerate(self.shortcuts):
            for k in (2 * i, 2 * i + 1):
                x = F.leaky_relu(self.norms[k](self.convs[k](x)), _SLOPE)
            past = shortcut(past)
            x = x + past
        return self.linear(x.permute(0, 2, 3, 1).flatten(1))[:, 0]


def _batch_norm(
    kind: type[nn.BatchNorm2d] | type[nn.BatchNorm3d], channels: int, config: NetworkConfig
) -> nn.Module:
    return kind(channels, eps=_BATCH_NORM_EPS, track_running_stats=not config.is_midnet)
