"""From a trained model, an image and a motion to frames; the one place with the inference procedure
of a job (spec: completion, D). The arithmetic is in inference.py.

Other families render through `load`:
    animator = load(run_dir, device, warn=print)
    frames = animator.frames(pictures)              uint8 N H W 3 -> N C S S in [0, 1]
    keypoints = animator.find(frames)               value N K 2, jacobian N K 2 2 (or None)
    source = animator.source(frames[:1])            of one image, or of N
    video = animator.video(source, keypoints)       uint8 N S S 3
    for frame in animator.stream(source, keypoints): ...    the same, frame by frame
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.files import sha256
from pipelines.fomm.best_frame import best_frame
from pipelines.fomm.config import FamilyConfig, ModelConfig, TransferRequest, check_size
from pipelines.fomm.folding import for_sampling
from pipelines.fomm.generator import Generated, OcclusionAwareGenerator
from pipelines.fomm.inference import (
    Source,
    as_frames,
    encode,
    find_keypoints,
    render,
    taken,
    to_bytes,
)
from pipelines.fomm.keypoints import KeypointDetector, Keypoints, transfer_motion
from pipelines.fomm.networks import build_generator, build_keypoint_detector
from pipelines.fomm.visualisation import visualised
from pipelines.io.images import IMAGE_SUFFIXES, fit_image, read_image
from pipelines.io.sample_folders import frame_paths
from pipelines.io.sample_writer import sample_writer, scene_names, still
from pipelines.io.sound import add_sound
from pipelines.io.video import VIDEO_SUFFIXES, probe, read_video, write_mp4
from pipelines.training.beginning import settings_of
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta, load_weights
from pipelines.training.device import prepare_device
from pipelines.training.run_folder import Run, load_run, require_checkpoint

FAMILY = "fomm"
VISUAL_NAME = "keypoints.mp4"
"""Beside the result: keypoints, occlusion and the motion of each keypoint."""

_BATCH = 8
_DEFAULT_FPS = 10.0


@dataclass(frozen=True)
class Animator:
    """A trained model, ready to find keypoints and to move images by them.

    checkpoint: where its weights are from: path, step, sha256.
    """

    run: Run
    config: FamilyConfig
    detector: KeypointDetector
    generator: OcclusionAwareGenerator
    device: torch.device
    checkpoint: dict[str, Any]

    @property
    def size_px(self) -> int:
        """Height and width of images and videos."""
        return self.config.model.size_px

    @property
    def num_channels(self) -> int:
        """3, or 1 of a grey model."""
        return self.config.model.num_channels

    @property
    def num_keypoints(self) -> int:
        """Keypoints per frame."""
        return self.config.model.num_keypoints

    @property
    def has_jacobian(self) -> bool:
        """Whether keypoints come with their jacobians."""
        return self.config.model.keypoints.has_jacobian

    def frames(self, pictures: np.ndarray | Sequence[np.ndarray], *, fit: Any = "squash") -> Tensor:
        """Pictures, uint8 H W 3 (or H W 1) each, as N C S S in [0, 1] on the device."""
        fitted = [self._fitted(each, fit) for each in pictures]
        return as_frames(torch.from_numpy(np.stack(fitted)).to(self.device), self.num_channels)

    def find(self, frames: Tensor, *, batch_size: int = _BATCH) -> Keypoints:
        """Keypoints of frames, N C S S in [0, 1]: N K 2 in [-1, 1], and N K 2 2 or None."""
        return find_keypoints(self.detector, frames.to(self.device), batch_size=batch_size)

    def source(self, frames: Tensor, keypoints: Keypoints | None = None) -> Source:
        """Images to move, 1 C S S or N C S S in [0, 1]. keypoints: theirs, when known already."""
        frames = frames.to(self.device)
        return encode(self.generator, frames, keypoints or self.find(frames))

    def render(
        self, source: Source, driving: Keypoints, *, batch_size: int = _BATCH
    ) -> Iterator[Generated]:
        """Batch after batch, the frames with all that led to them (dense motion, occlusion).

        source: of one image for all, or of N for N driving keypoints.
        """
        driving = driving.map(lambda each: each.to(self.device))
        return render(self.generator, source, driving, batch_size=batch_size)

    def stream(
        self, source: Source, driving: Keypoints, *, batch_size: int = 1
    ) -> Iterator[np.ndarray]:
        """The frames one by one, uint8 S S 3, each as soon as it is made."""
        for made in self.render(source, driving, batch_size=batch_size):
            yield from to_bytes(made.frames)

    def video(self, source: Source, driving: Keypoints, *, batch_size: int = _BATCH) -> np.ndarray:
        """All frames: uint8 N S S 3."""
        return np.stack(list(self.stream(source, driving, batch_size=batch_size)))

    def picture(self, image: np.ndarray, *, fit: Any = "squash") -> np.ndarray:
        """An image, uint8 H W 3, as the model sees it: uint8 S S 3."""
        return to_bytes(self.frames([image], fit=fit)[0])

    def reconstruct(self, pictures: np.ndarray) -> np.ndarray:
        """A video made again from its first frame and each frame's own keypoints.

        pictures: uint8 T H W 3.  Returns uint8 T-1 S S 3: the frames after the first.
        """
        frames = self.frames(pictures)
        keypoints = self.find(frames)
        first = taken(keypoints, slice(0, 1))
        return self.video(self.source(frames[:1], first), taken(keypoints, slice(1, None)))

    def _fitted(self, picture: np.ndarray, fit: Any) -> np.ndarray:
        if picture.shape[:2] == (self.size_px, self.size_px):
            return picture
        image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
        fitted = np.asarray(fit_image(image, self.size_px, fit=fit))
        return fitted[..., None] if fitted.ndim == 2 else fitted


def load(
    run_dir: Path,
    device: torch.device,
    *,
    warn: Callable[[str], None],
    size_px: int | None = None,
    grid_align_corners: bool | None = None,
) -> Animator:
    """The model of a run, from its best sound checkpoint.

    warn: told about damaged checkpoints that are passed over.  size_px: height and width to work
    at in place of those of the training; keypoints are then found in as small an image as before.
    grid_align_corners: sampling convention in place of the run's.
    Raises UserError when the folder is no such run or has no checkpoint that can be used.
    """
    run = load_run(run_dir, family=FAMILY)
    config = settings_of(run, FamilyConfig)
    if size_px is not None:
        config = config.model_copy(update={"model": at_size(config.model, size_px)})
    if grid_align_corners is not None:
        model = config.model.model_copy(update={"grid_align_corners": grid_align_corners})
        config = config.model_copy(update={"model": model})
    newest = require_checkpoint(run, warn=warn)
    # built for real: the blur kernels are computed and are in no checkpoint
    with torch.random.fork_rng(devices=[]):
        detector, generator = build_keypoint_detector(config.model), build_generator(config.model)
    load_weights(newest, {"keypoint_detector": detector, "generator": generator})
    detector, generator = (for_sampling(each.to(device)) for each in (detector, generator))
    meta = checkpoint_meta(newest)
    digest = meta["files"][WEIGHTS_NAME]["sha256"]
    about = {"path": str(newest), "step": meta["step"], "sha256": digest}
    return Animator(run, config, detector, generator, device, about)


def at_size(model: ModelConfig, size_px: int) -> ModelConfig:
    """The settings for images of another size: what is scaled down stays as small as it was.

    Raises UserError for a size that the networks cannot take.
    """

    def scaled(part: Any) -> Any:
        factor = part.scale_factor * model.size_px / size_px
        return part.model_copy(update={"scale_factor": factor})

    generator = model.generator
    changed = model.model_copy(
        update={
            "size_px": size_px,
            "keypoints": scaled(model.keypoints),
            "generator": generator.model_copy(
                update={"dense_motion": scaled(generator.dense_motion)}
            ),
        }
    )
    try:
        check_size(changed)
        factors = (changed.keypoints.scale_factor, changed.generator.dense_motion.scale_factor)
        if any(factor > 1 or (1 / factor) % 1 for factor in factors):
            raise ValueError("it must be the size that keypoints are found at, times 1, 2, 3, ...")
    except ValueError as error:
        small = model.size_px * model.keypoints.scale_factor
        raise UserError(
            f"the model cannot work at {size_px} px",
            {"reason": error, "to fix": f"choose {small:g}, or 2, 4 or 8 times that"},
            EXIT_USAGE,
        ) from error
    return changed


def transfer(request: TransferRequest, work: Work) -> dict[str, Any]:
    """Move the source image as the driving video moves: mp4, gif, grids, keypoints, meta.json."""
    animator = load(
        request.run_dir,
        prepare_device(request.device),
        warn=work.warning,
        size_px=request.size_px,
        grid_align_corners=request.grid_align_corners,
    )
    picture, pictures, fps = _read_inputs(request, animator, work)
    source = animator.source(animator.frames([picture], fit=request.fit))
    driving = animator.frames(pictures, fit=request.fit)
    found = animator.find(driving)
    chosen = _chosen_frame(request, source, found, work)
    moved = transfer_motion(
        source.keypoints,
        found,
        taken(found, slice(chosen, chosen + 1)),
        adapt_scale=request.adapt_scale and request.relative,
        relative_movement=request.relative,
        relative_jacobian=request.relative,
    )
    start, real = to_bytes(source.image[0]), to_bytes(driving)
    made: list[np.ndarray] = []
    drawn: list[np.ndarray] = []
    for each in animator.render(source, moved):
        part = slice(len(made), len(made) + len(each.frames))
        made += list(to_bytes(each.frames))
        drawn += list(
            visualised(
                source=start,
                source_keypoints=source.keypoints.value,
                driving=real[part],
                driving_keypoints=found.value[part],
                moved_keypoints=moved.value[part],
                made=each,
            )
        )
        work.progress("transfer", len(made), len(real), "frames")
    (scene,) = scene_names([request.source.stem])
    video = np.stack(made)
    with sample_writer(request.out_dir, kind="transfer", fps=fps) as writer:
        writer.add(scene, video, start=start)
        writer.add_grid(
            [[still(start, len(video)), real, video]], [("driving", real), (scene, video)]
        )
        write_mp4(writer.folder / VISUAL_NAME, drawn, fps)
        has_sound = _with_sound(request, writer.folder / writer.entries[0]["file"])
        writer.finish(_meta(request, animator, chosen, len(video)) | {"has_sound": has_sound})
    for name in ("grid.mp4", "grid.png", VISUAL_NAME):
        work.artifact(request.out_dir / name, "grid")
    grid = str(request.out_dir / "grid.mp4")
    return {"samples": str(request.out_dir), "grid": grid, "videos": 1, "best_frame": chosen}


def _read_inputs(
    request: TransferRequest, animator: Animator, work: Work
) -> tuple[np.ndarray, list[np.ndarray], float]:
    """The image, the driving frames, all uint8 H W 3, and frames per second of the result."""
    is_image = request.source.suffix.lower() in IMAGE_SUFFIXES
    picture = (
        read_image(request.source) if is_image else read_video(request.source, max_frames=1)[0]
    )
    pictures, fps = read_driving(request.driving, animator.size_px, request)
    if animator.num_channels == 3:
        for path, each in ((request.source, picture), (request.driving, pictures[0])):
            if (each == each[..., :1]).all():
                work.warning(f"{path.name} is grey, the model was trained on colour")
    height, width = picture.shape[:2]
    if (height, width) != (animator.size_px, animator.size_px):
        note = ", aspect ratio not kept" if request.fit == "squash" and height != width else ""
        work.log(
            f"{request.source.name}: {width} x {height} px, "
            f"resized to {animator.size_px} x {animator.size_px}{note}"
        )
    return picture, pictures, request.fps or fps or _DEFAULT_FPS


def _first_picture(path: Path) -> np.ndarray:
    """An image, or the first frame of a video: uint8 H W 3."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return read_image(path)
    first: np.ndarray = read_video(path, max_frames=1)[0]
    return first


def read_driving(
    path: Path, size_px: int, request: TransferRequest
) -> tuple[list[np.ndarray], float | None]:
    """The frames of a video file or of a folder of images, uint8 S S 3, and frames per second.

    Raises UserError with exit code 4 when it does not move: one frame, or a single image.
    """
    fps = None
    if path.is_dir():
        paths = frame_paths(path)[: request.frames]
        frames = [read_image(each, size_px=size_px, fit=request.fit) for each in paths]
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        frames = [read_image(path, size_px=size_px, fit=request.fit)]
    else:
        fps = probe(path).fps
        frames = list(read_video(path, size_px=size_px, fit=request.fit, max_frames=request.frames))
    if len(frames) < 2:
        count = "no frame" if not frames else "only one frame"
        raise UserError(
            f"the driving video '{path.name}' has {count}: there is no motion in it",
            {
                "driving": path,
                "to fix": "give a video, or a folder of its frames, as --driving",
            },
            EXIT_NO_DATA,
        )
    return frames, fps


def _with_sound(request: TransferRequest, video_path: Path) -> bool:
    """Add the driving video's sound; returns whether there is any. At another speed it is left."""
    is_video = request.driving.suffix.lower() in VIDEO_SUFFIXES
    if not (request.sound and is_video and request.fps is None):
        return False
    return add_sound(video_path, request.driving)


def _chosen_frame(request: TransferRequest, source: Source, driving: Keypoints, work: Work) -> int:
    """The driving frame that the image is taken to be like; its moves are counted from there."""
    if not request.relative:
        for name, is_given in (
            ("--adapt-scale", request.adapt_scale),
            ("--best-frame", request.best_frame is not None),
        ):
            if is_given:
                work.warning(f"{name} makes no difference without --relative")
    if request.best_frame == "auto":
        chosen = best_frame(source.keypoints.value, driving.value)
        work.log(f"frame {chosen} of the driving video looks most like the image")
        return chosen
    chosen = request.best_frame or 0
    if chosen >= len(driving.value):
        raise UserError(
            f"--best-frame {chosen}: the driving video has {len(driving.value)} frames",
            {"to fix": f"give 0 to {len(driving.value) - 1}, or auto"},
            EXIT_USAGE,
        )
    return chosen


def _meta(
    request: TransferRequest, animator: Animator, chosen: int, num_frames: int
) -> dict[str, Any]:
    inputs = {
        name: {"path": str(path)} | ({"sha256": sha256(path)} if path.is_file() else {})
        for name, path in (("source", request.source), ("driving", request.driving))
    }
    return {
        "family": FAMILY,
        "run": str(request.run_dir),
        "checkpoints": {"model": animator.checkpoint},
        **inputs,
        "relative": request.relative,
        "adapt_scale": request.adapt_scale,
        "best_frame": chosen,
        "frames": num_frames,
        "size_px": animator.size_px,
        "device": str(animator.device),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "command": shlex.join(_command(request)),
    }


def _command(request: TransferRequest) -> list[str]:
    """What to type to make the same again."""
    words = ["i2v", "transfer", FAMILY, "--run", str(request.run_dir)]
    words += ["--source", str(request.source), "--driving", str(request.driving)]
    words += ["--relative"] * request.relative + ["--adapt-scale"] * request.adapt_scale
    if request.best_frame is not None:
        words += ["--best-frame", str(request.best_frame)]
    for name in ("frames", "fps", "device"):
        value = getattr(request, name)
        words += [f"--{name}", str(value)] if value is not None else []
    for name in ("size_px", "grid_align_corners"):
        value = getattr(request, name)
        words += [f"{name}={str(value).lower()}"] if value is not None else []
    words += ["sound=false"] * (not request.sound)
    return [*words, f"fit={request.fit}", "--out", str(request.out_dir)]
