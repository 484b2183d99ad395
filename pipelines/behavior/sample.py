"""Jobs that make motion: many futures of a posture, one's behaviour from another's posture.

The arithmetic is in inference.py. A folder of videos holds skeletons, beside each a .npz with its
poses (`joints_...` T J A with the posture first, and fps); rendered videos lie in a folder beside.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.behavior.baseline import BaselineModel, load_model
from pipelines.behavior.config import SampleRequest, TransferRequest
from pipelines.behavior.drawing import Look, draw_skeletons, look_at
from pipelines.behavior.inference import BehaviorModel
from pipelines.behavior.pose_files import Poses, read_poses, too_few
from pipelines.behavior.rendering import Painter, open_painter
from pipelines.engines.items import Items
from pipelines.events import Work
from pipelines.io.sample_writer import GRID_COLUMNS, SampleWriter, sample_writer, scene_names
from pipelines.training.device import prepare_device
from pipelines.training.generators import torch_generator

RENDERED_SUFFIX = "-rendered"
_DEFAULT_FPS = 25.0

Request = SampleRequest | TransferRequest
Model = BehaviorModel | BaselineModel


@dataclass
class Motion:
    """A motion that was made. joints: 1+T J A, the posture first."""

    scene: str
    joints: np.ndarray
    number: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def sample(request: SampleRequest, work: Work) -> dict[str, Any]:
    """Write `num` futures of each posture. Same seed, same poses.

    An MT-VAE goes on from several poses; the video then begins with the last of them.
    """
    model = _opened(request, work)
    postures = _targets(request, model)
    scenes = scene_names([each.name for each in postures])

    @lru_cache(maxsize=1)
    def codes_of(number: int) -> torch.Tensor:
        return _drawn_codes(request, model, number)

    def made(place: int) -> np.ndarray:
        number, drawn = divmod(place, request.num)
        return _continued(model, postures[number], codes_of(number)[drawn], request.frames)

    total = len(postures) * request.num
    shared = Items(request, total, made, model.checkpoints, work, unit="motions")
    if request.shard:
        return shared.make_shard()
    shared.spread(sample)
    motions = [
        Motion(scenes[place // request.num], joints, place % request.num)
        for place, joints in enumerate(shared.in_order())
    ]
    look = look_at([m.joints for m in motions], view=request.view, camera=postures[0].camera)
    facts = {
        "seed": request.seed,
        "prior": request.prior,
        "temperature": request.temperature,
        "num": request.num,
        "targets": list(request.target),
    }
    rows = [[m for m in motions if m.scene == scene][:GRID_COLUMNS] for scene in scenes]
    result = _written(request, model, motions, look, work, facts=facts, rows=rows)
    shared.clear()
    return result


def _drawn_codes(request: SampleRequest, model: Model, number: int) -> torch.Tensor:
    """The behaviours of a posture's futures, N Z; drawn together, as their last bits ask for."""
    generators = [torch_generator(request.seed, "behaviour", number, n) for n in range(request.num)]
    noise = torch.stack([torch.randn(model.noise_size, generator=each) for each in generators])
    return model.draw(request.temperature * noise.to(model.device), prior=request.prior)


def transfer(request: TransferRequest, work: Work) -> dict[str, Any]:
    """Write what is done in the source from each posture; of two sources also what lies between."""
    model = _opened(request, work)
    sources = [
        read_poses(each, model.wanted, request.data_root).at_fps(model.fps)
        for each in request.source
    ]
    for text, each in zip(request.source, sources, strict=True):
        _require_length(text, each, model.num_read)
    postures = _targets(request, model)
    scenes = scene_names([each.name for each in postures])
    codes = _codes(request, model, sources)
    motions = []
    for number, (scene, posture) in enumerate(zip(scenes, postures, strict=True)):
        for step, code in enumerate(codes):
            joints = _continued(model, posture, code, request.frames)
            motions.append(Motion(scene, joints, step if len(codes) > 1 else None))
        work.progress("transfer", number + 1, len(postures), "postures")
    shown = [
        Motion(f"source {each.name}", _lengthened(each.joints, request.frames + 1))
        for each in sources
    ]
    sequences = [m.joints for m in (*motions, *shown)]
    look = look_at(sequences, view=request.view, camera=postures[0].camera or sources[0].camera)
    facts = {
        "source": list(request.source),
        "targets": list(request.target),
        "codes": [each.tolist() for each in codes],
    }
    made = [[m for m in motions if m.scene == scene][:GRID_COLUMNS] for scene in scenes]
    return _written(request, model, motions, look, work, facts=facts, rows=[shown, *made])


def _codes(request: TransferRequest, model: Model, sources: Sequence[Poses]) -> list[torch.Tensor]:
    """The behaviour of one source; of two: theirs and those between."""
    found = []
    for number, each in enumerate(sources):
        generator = torch_generator(request.seed, "source", number)
        noise = torch.randn((1, model.noise_size), generator=generator)
        clip = model.scaled(each.joints[: model.num_read])[None]
        found.append(model.encode(clip, noise.to(model.device) if request.draw else None)[0])
    if len(found) == 1:
        return found
    shares = np.linspace(0, 1, request.num_steps)
    return [model.between(found[0], found[1], float(share), path=request.path) for share in shares]


def _opened(request: Request, work: Work) -> Model:
    device = prepare_device(request.device)
    return load_model(request.run_dir, device, data_root=request.data_root, warn=work.warning)


def _targets(request: Request, model: Model) -> list[Poses]:
    """The poses to go on from. Where a model needs several they are as far apart as it learned."""
    found = [read_poses(each, model.wanted, request.data_root) for each in request.target]
    if model.num_given == 1:
        return found
    found = [each.at_fps(model.fps) for each in found]
    for text, each in zip(request.target, found, strict=True):
        _require_length(text, each, model.num_given)
    return found


def _continued(model: Model, given: Poses, code: torch.Tensor, num_frames: int) -> np.ndarray:
    """1+T J A, a given pose and what follows it.

    One at a time: in a batch the last bits would depend on what else is in it.
    """
    poses = model.continued(code[None], model.scaled(given.joints)[None], num_frames)[0]
    last = given.joints[model.num_given - 1]
    return np.concatenate([last[None], model.joints(poses)])


def _require_length(text: str, source: Poses, num_frames: int) -> None:
    if len(source.joints) < num_frames:
        raise too_few(text, len(source.joints), num_frames)


def _lengthened(joints: np.ndarray, num_frames: int) -> np.ndarray:
    """Cut to a length, or the last pose repeated up to it."""
    return joints[np.minimum(np.arange(num_frames), len(joints) - 1)]


def _written(
    request: Request,
    model: Model,
    motions: Sequence[Motion],
    look: Look,
    work: Work,
    *,
    facts: dict[str, Any],
    rows: Sequence[Sequence[Motion]],
) -> dict[str, Any]:
    """The folder of skeletons, and the folder of rendered videos where one is asked for."""
    kind = "sample" if isinstance(request, SampleRequest) else "transfer"
    fps = request.fps or model.fps or _DEFAULT_FPS
    meta = _meta(request, model) | facts
    painter = open_painter(request, model.wanted.num_joints, model.device, work)
    with sample_writer(request.out_dir, kind=kind, fps=fps) as writer:
        write_motions(writer, motions, look, model, size_px=request.size_px)
        _add_grid(writer, rows, lambda each: draw_skeletons(look.places(each), request.size_px))
        writer.finish(meta)
    folders = [request.out_dir]
    if painter is not None:
        folders.append(request.out_dir.with_name(request.out_dir.name + RENDERED_SUFFIX))
        _write_rendered(folders[-1], motions, look, painter, work, kind=kind, fps=fps, meta=meta)
    for folder in folders:
        work.artifact(folder / "grid.mp4", "grid")
        work.artifact(folder / "grid.png", "grid")
    found: dict[str, Any] = {"samples": str(request.out_dir), "videos": len(motions)}
    return found | ({"rendered": str(folders[1])} if painter else {})


def write_motions(
    writer: SampleWriter,
    motions: Sequence[Motion],
    look: Look,
    model: Model,
    *,
    size_px: int,
) -> None:
    """Skeleton videos and, beside each, its poses."""
    for each in motions:
        frames = draw_skeletons(look.places(each.joints), size_px)
        stem = each.scene if each.number is None else f"{each.scene}-s{each.number}"
        poses = f"poses/{stem}.npz"
        (writer.folder / poses).parent.mkdir(exist_ok=True)
        write_poses(writer.folder / poses, model.wanted.array, each.joints, writer.fps)
        writer.add(
            each.scene,
            frames[1:],
            sample=each.number,
            start=frames[0],
            facts={"poses": poses, **each.facts},
        )


def write_poses(path: Path, array: str, joints: np.ndarray, fps: float) -> None:
    """A pose file that pose_files reads. joints: T J A."""
    arrays: dict[str, Any] = {array: joints, "fps": np.float64(fps)}
    np.savez_compressed(path, **arrays)


def _write_rendered(
    folder: Path,
    motions: Sequence[Motion],
    look: Look,
    painter: Painter,
    work: Work,
    *,
    kind: str,
    fps: float,
    meta: dict[str, Any],
) -> None:
    with sample_writer(folder, kind=kind, fps=fps) as writer:
        rows = []
        for number, each in enumerate(motions):
            frames = painter.paint(look.places(each.joints))
            writer.add(each.scene, frames[1:], sample=each.number, start=frames[0])
            rows.append((each, frames))
            work.progress("render", number + 1, len(motions), "videos")
        skeletons = [draw_skeletons(look.places(e.joints), painter.size_px) for e, _ in rows]
        pairs = list(zip(skeletons, rows, strict=True))[:GRID_COLUMNS]
        person = np.broadcast_to(painter.person, skeletons[0].shape)
        writer.add_grid(
            [[person, *(skeleton for skeleton, _ in pairs)], [person, *(f for _, (_, f) in pairs)]],
            [(_label(motion), frames) for motion, frames in rows],
        )
        writer.finish(meta | {"appearance": painter.appearance, "render_run": str(painter.run_dir)})


def _add_grid(writer: SampleWriter, rows: Sequence[Sequence[Motion]], draw: Any) -> None:
    videos = [[draw(each.joints) for each in row] for row in rows]
    sheet = [
        (_label(motion), video)
        for row, drawn in zip(rows, videos, strict=True)
        for motion, video in zip(row, drawn, strict=True)
    ]
    writer.add_grid(videos, sheet)


def _label(motion: Motion) -> str:
    return motion.scene if motion.number is None else f"{motion.scene} {motion.number}"


def _meta(request: Request, model: Model) -> dict[str, Any]:
    return {
        "family": "behavior",
        "run": str(request.run_dir),
        "checkpoints": model.checkpoints,
        "frames": request.frames,
        "view": request.view,
        "size_px": request.size_px,
        "device": str(model.device),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "command": shlex.join(_command(request)),
    }


def _command(request: Request) -> list[str]:
    """What to type to make the same again."""
    is_sample = isinstance(request, SampleRequest)
    words = ["i2v", "sample" if is_sample else "transfer", "behavior"]
    words += ["--run", str(request.run_dir)]
    for text in () if is_sample else request.source:  # type: ignore[union-attr]
        words += ["--source", text]
    for text in request.target:
        words += ["--target", text]
    for name in ("appearance", "render_run"):
        if getattr(request, name) is not None:
            words += [f"--{name.replace('_', '-')}", str(getattr(request, name))]
    for name in ("num", "frames", "fps", "seed", "temperature", "device"):
        value = getattr(request, name, None)
        if value is not None:
            words += [f"--{name}", str(value)]
    shown = ("view", "size_px", "prior", "num_steps", "path", "draw")
    settings = {name: getattr(request, name) for name in shown if hasattr(request, name)}
    words += [f"{name}={value}" for name, value in settings.items()]
    return [*words, "--out", str(request.out_dir)]
