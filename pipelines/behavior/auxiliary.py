"""Networks beside the behavior net: classifiers and regressors (spec: 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.products import Linear

_GROUPS, _SHORTCUT_GROUPS = 4, 16


class ActionClassifier(nn.Module):
    """Which action a pose sequence shows."""

    def __init__(self, pose_size: int, num_actions: int, *, width: int = 512) -> None:
        super().__init__()
        self.rnn = nn.LSTM(pose_size, width, batch_first=True)
        self.features = nn.Linear(width, 128)
        self.output = nn.Linear(128, num_actions)

    def forward(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """poses: B T P.  Returns logits B A and features B 128."""
        hidden, _ = self.rnn(poses)
        features = F.relu(self.features(hidden[:, -1]))
        return self.output(features), features


class ResidualBlock1d(nn.Module):
    """Two convolutions over time beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels_out, stride)
        self.norm1 = nn.GroupNorm(_GROUPS, channels_out)
        self.conv2 = _conv(channels_out, channels_out, 1)
        self.norm2 = nn.GroupNorm(_GROUPS, channels_out)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or channels_in != channels_out:
            norm = nn.GroupNorm(_SHORTCUT_GROUPS, channels_out)
            self.shortcut = nn.Sequential(_conv(channels_in, channels_out, stride), norm)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C T."""
        hidden = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(hidden + (x if self.shortcut is None else self.shortcut(x)))


class VelocityClassifier(nn.Module):
    """Which action a sequence of velocities shows; sees no posture."""

    def __init__(self, pose_size: int, num_actions: int, *, num_frames: int = 49) -> None:
        """num_frames: differences between frames in a sequence."""
        super().__init__()
        self.conv = _conv(pose_size, 64, 1)
        self.norm = nn.GroupNorm(_GROUPS, 64)
        self.blocks = nn.Sequential(
            ResidualBlock1d(64, 64, stride=2),
            ResidualBlock1d(64, 64, stride=1),
            ResidualBlock1d(64, 32, stride=2),
        )
        self.output = nn.Linear(32 * -(-num_frames // 4), num_actions, bias=False)

    def forward(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """poses: B T P.  Returns logits B A and the last feature map B 32 t."""
        velocities = poses.diff(dim=1).transpose(1, 2)
        features = self.blocks(F.relu(self.norm(self.conv(velocities))))
        return self.output(features.flatten(1)), features


class PostureRegressor(nn.Module):
    """Predicts the pose of a frame from a code; it should not be able to."""

    def __init__(self, code_size: int, pose_size: int, *, num_frames: int = 50) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.code = nn.Sequential(
            Linear(code_size, 1024), nn.ReLU(), Linear(1024, 512), nn.ReLU(),
            Linear(512, 256), nn.ReLU(),
        )  # fmt: skip
        self.frame = nn.Linear(num_frames, 128)
        self.output = nn.Linear(256 + 128, pose_size)

    def forward(self, code: Tensor, frame: Tensor) -> Tensor:
        """code: B D.  frame: B, whole numbers.  Returns poses B P."""
        one_hot = F.one_hot(frame.long(), self.num_frames).to(code)
        return self.output(torch.cat([self.code(code), F.relu(self.frame(one_hot))], dim=1))


def start_posture_regressor(code_size: int, pose_size: int) -> nn.Sequential:
    """For evaluation: the first pose from a code, B D -> B P."""
    return nn.Sequential(
        Linear(code_size, 512), nn.ReLU(), Linear(512, 256), nn.ReLU(),
        nn.Linear(256, pose_size),
    )  # fmt: skip


class RealismClassifier(nn.Module):
    """Whether a pose sequence is real."""

    def __init__(self, pose_size: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(pose_size, 256, batch_first=True)
        self.output = nn.Linear(256, 1)

    def forward(self, poses: Tensor) -> Tensor:
        """poses: B T P.  Returns logits B 1."""
        _, hidden = self.rnn(poses)
        return self.output(hidden[0])


def _conv(channels_in: int, channels_out: int, stride: int) -> nn.Conv1d:
    return nn.Conv1d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
