"""Feature networks that look at whole clips: I3D in PyTorch and in TensorFlow, and DTI3D.

Shapes: B clips, T frames, D feature size.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.events import EXIT_ENVIRONMENT, UserError
from pipelines.features import generated_weights, tensorflow_i3d
from pipelines.features.i3d import I3d
from pipelines.features.i3d_checkpoint import i3d_state, num_classes
from pipelines.features.i3d_inputs import SIZE_PX, dynamic_texture_clips, resize_as_tensorflow1
from pipelines.files import atomic_folder, fingerprint
from pipelines.metrics import weights
from pipelines.metrics.batching import clips_at_once
from pipelines.metrics.config import StartFrame, VideoProtocol
from pipelines.metrics.scenes import Clip, Frames, MakeExtractor, Resources

_MIN_FRAMES = 9
LONG = 32
"""Frames of the longer of DTI3D's two networks."""
_MIN_LOOPED = 6
"""Three times over they make the 16 frames of DTI3D."""
_MOST_AT_ONCE = 8
_BYTES_PER_FRAME = 24 * 2**20
"""What one frame of 224 px takes inside the network, roughly."""

Resize = Callable[[Tensor], Tensor]


def _interpolated(frames: Tensor, align_corners: bool) -> Tensor:
    return F.interpolate(frames, (SIZE_PX,) * 2, mode="bilinear", align_corners=align_corners)


RESIZES: dict[str, Resize] = {
    "tensorflow1": resize_as_tensorflow1,
    "half-pixel": partial(_interpolated, align_corners=False),
    "corners": partial(_interpolated, align_corners=True),
}


class Clipping:
    """Which frames of a video a protocol looks at."""

    def __init__(self, protocol: VideoProtocol, *, min_frames: int) -> None:
        self.num_frames, self.stride = protocol.num_frames, protocol.stride
        self.start_frame: StartFrame = protocol.start_frame
        self._min_frames = min_frames

    def __call__(self, clip: Clip) -> Frames:
        """uint8 T H W 3. Raises UserError, naming the video, when there are too few frames."""
        frames = clip.frames
        puts_first = self.start_frame == "put first" or (
            self.start_frame == "put first in real videos" and clip.is_real
        )
        if puts_first:
            if clip.start is None:
                raise UserError(
                    f"the start frame of '{clip.name}' is not known, and the protocol needs it",
                    {"to fix": "choose a protocol without it, such as plain fvd"},
                )
            frames = np.concatenate([clip.start[None], frames])
        frames = frames[:: self.stride][: self.num_frames]
        needed = max(self._min_frames, self.num_frames or 0)
        if len(frames) < needed:
            raise UserError(
                f"video '{clip.name}' has too few frames for the protocol ({len(frames)})",
                {"needs": needed, "to fix": "make longer videos, or choose another protocol"},
            )
        return frames


class TorchI3d:
    """FVD's 400 logits, or DTI3D's 1024 features, of each clip: 1 D."""

    def __init__(self, protocol: VideoProtocol, weights_name: str, resources: Resources) -> None:
        self._device, self._protocol = resources.device, protocol
        classes = 18 if protocol.network == "dti3d" else 400
        found = weights.load(weights_name, resources, partial(_generated, classes))
        self._length = LONG if weights_name == "dti3d-32" else 16
        network = _network(found, pool_frames=self._length // 8)
        if self._device.type == "cpu":
            network.pack()
        self._network = network.to(self._device, memory_format=torch.channels_last_3d)
        self.sha256 = found.sha256
        self.name = f"I3D in PyTorch, {found.source}"
        min_frames = _MIN_FRAMES
        if protocol.network == "dti3d":
            shortest = _MIN_LOOPED if protocol.loops else _MIN_FRAMES
            min_frames = LONG if self._length == LONG else shortest
        self._frames = Clipping(protocol, min_frames=min_frames)

    @torch.inference_mode()
    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns float32 1 D for each clip."""
        videos = [self._frames(each) for each in clips]
        rows: list[np.ndarray] = []
        # a packed network takes each clip in a thread; more of them would only take memory
        at_once = min(torch.get_num_threads(), _MOST_AT_ONCE)
        if self._device.type != "cpu":
            at_once = clips_at_once(self._device, len(videos[0]) * _BYTES_PER_FRAME)
        for start in range(0, len(videos), at_once):
            batch = np.stack(videos[start : start + at_once])
            frames = torch.from_numpy(batch).to(self._device).permute(0, 1, 4, 2, 3).float()
            inputs = self._inputs(frames).contiguous(memory_format=torch.channels_last_3d)
            found = self._network(inputs)
            is_pooled = self._protocol.network == "dti3d"
            features = found.pooled.flatten(1) if is_pooled else found.logits
            rows += list(features.float().cpu().numpy()[:, None])
        return rows

    def _inputs(self, frames: Tensor) -> Tensor:
        """B T 3 H W, 0..255 -> B 3 T 224 224."""
        if self._protocol.network == "dti3d":
            return dynamic_texture_clips(
                frames / 127.5 - 1, length=self._length, loops=self._protocol.loops
            )
        resized = RESIZES[self._protocol.resize](frames.flatten(0, 1))
        resized = resized.unflatten(0, frames.shape[:2]).transpose(1, 2)
        if self._protocol.network == "i3d-logging":  # given [0, 1], unlike its training
            return resized / 255
        return (2 * resized).div_(255).sub_(1)


def _network(found: weights.Weights, *, pool_frames: int) -> I3d:
    """The network with published weights. Raises UserError, naming the file, if they do not fit."""
    try:
        state, classes = i3d_state(found.state), num_classes(found.state)
    except UserError as error:
        details = {"from": found.source, **error.details}
        raise UserError(error.message, details, error.exit_code) from error
    network = I3d(num_classes=classes, pool_frames=pool_frames)
    weights.fitted(network, state, found.source)
    return network


class TensorFlowI3d:
    """The same by the published module, in a TensorFlow process of its own: 1 400."""

    def __init__(self, protocol: VideoProtocol, resources: Resources) -> None:
        if resources.tensorflow_python is None:
            raise UserError(
                "no environment with TensorFlow",
                {"run first": "i2v env create fvd"},
                EXIT_ENVIRONMENT,
            )
        module = self._module(resources)
        if (module / weights.MODULE_NAME).is_file():
            handle, cache = str(module), None
        else:  # a hub cache: TensorFlow hub finds the module there by its address
            weights.module_dir(module)
            handle, cache = weights.HUB_HANDLE, module
        digest = weights.read_state(module)
        self.sha256 = generated_weights.digest(digest)
        made_up = resources.is_generated and "i3d-tf" not in resources.weights
        source = "made-up weights: the number means nothing" if made_up else f"module {module.name}"
        self._process = _TensorFlow(resources.tensorflow_python, handle, cache)
        self.name = f"I3D in TensorFlow {self._process.version}, {source}"
        self._frames = Clipping(protocol, min_frames=_MIN_FRAMES)

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns float32 1 400 for each clip."""
        videos = [self._frames(each) for each in clips]
        at_once = clips_at_once(torch.device("cpu"), 2 * len(videos[0]) * _BYTES_PER_FRAME)
        rows: list[np.ndarray] = []
        for start in range(0, len(videos), at_once):
            rows += list(self._process.features(np.stack(videos[start : start + at_once]))[:, None])
        return rows

    @staticmethod
    def _module(resources: Resources) -> Path:
        if not resources.is_generated or "i3d-tf" in resources.weights:
            return weights.find("i3d-tf", resources)
        assert resources.tensorflow_python is not None
        if resources.cache_dir is None:
            raise UserError("no folder for made-up weights", {"to fix": "give cache_dir=FOLDER"})
        return generated_module(resources.tensorflow_python, resources.cache_dir)


class _TensorFlow:
    """The process: clips go to its input, features come from its output."""

    def __init__(self, python: Path, handle: str, cache: Path | None) -> None:
        environment = dict(os.environ)
        if cache is not None:
            environment["TFHUB_CACHE_DIR"] = str(cache)
        self._handle = handle
        self._process = subprocess.Popen(
            [str(python), "-I", str(tensorflow_i3d.__file__), "serve", handle],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.version = str(self._answer()["tensorflow"])

    def features(self, clips: np.ndarray) -> np.ndarray:
        """clips: uint8 B T H W 3.  Returns float32 B 400."""
        head = json.dumps({"shape": clips.shape}).encode() + b"\n"
        stream = self._process.stdin
        assert stream is not None
        try:
            stream.write(head + np.ascontiguousarray(clips).tobytes())
            stream.flush()
        except BrokenPipeError:
            self._answer()
        shape = self._answer()["shape"]
        data = self._output.read(int(np.prod(shape)) * 4)
        return np.frombuffer(data, np.float32).reshape(shape)

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _answer(self) -> dict[str, Any]:
        line = self._output.readline()
        if not line:
            code = self._process.wait()
            reason = f"it ended with exit code {code}; the log has what it printed"
            raise self._failed(reason)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise self._failed(answer["error"])
        return answer

    def _failed(self, reason: str) -> UserError:
        return UserError(
            "the hub module of the published FVD cannot be used",
            {"module": self._handle, "reason": reason, "run first": "i2v download weights/i3d-tf"},
        )


def generated_module(python: Path, cache_dir: Path) -> Path:
    """A hub module in the published form with made-up weights; written once."""
    variables = generated_weights.i3d_variables()
    folder = cache_dir / f"i3d-made-up-{generated_weights.digest(variables)[:12]}"
    if (folder / weights.MODULE_NAME).is_file():
        return folder
    with atomic_folder(folder) as building:
        archive = building / "weights.npz"
        np.savez(archive, **variables)  # type: ignore[arg-type]
        script = str(tensorflow_i3d.__file__)
        module = building / "module"
        command = [str(python), "-I", script, "write", str(module), str(archive)]
        code = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
        if code != 0:
            raise UserError(
                "TensorFlow could not write a module",
                {"exit code": code, "to fix": "i2v env check fvd"},
                EXIT_ENVIRONMENT,
            )
        archive.unlink()
        for part in list(module.iterdir()):
            part.rename(building / part.name)
        module.rmdir()
    return folder


def feature_name(protocol: VideoProtocol, network: str) -> str:
    """Equal for protocols that give the network the same clips, so that they share a pass."""
    keys = ("resize", "num_frames", "stride", "start_frame", "loops")
    return f"{network} {fingerprint({key: getattr(protocol, key) for key in keys})[:8]}"


def torch_i3d(protocol: VideoProtocol, weights_name: str) -> MakeExtractor:
    """How to make the PyTorch extractor of a protocol."""
    return partial(TorchI3d, protocol, weights_name)


def tensorflow_i3d_extractor(protocol: VideoProtocol) -> MakeExtractor:
    """How to make the TensorFlow extractor of a protocol."""
    return partial(TensorFlowI3d, protocol)


def _generated(classes: int) -> dict[str, Tensor]:
    return {k: torch.from_numpy(v) for k, v in generated_weights.i3d_variables(classes).items()}
