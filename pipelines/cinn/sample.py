"""From a trained model and still images to videos; the one place with the inference procedure of a
job (spec: cinn, 4). The arithmetic is in inference.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.cinn.augment import prepare
from pipelines.cinn.autoencoder import ImageEncoder
from pipelines.cinn.config import FamilyConfig, SampleRequest, TransferRequest
from pipelines.cinn.decoder import VideoDecoder
from pipelines.cinn.encoder import VideoEncoder
from pipelines.cinn.endpoint import asked_endpoint, last_frames_sheet
from pipelines.cinn.frozen import FAMILY, INPUT_STAGES, Warn, frozen_checkpoint, run_config
from pipelines.cinn.inference import Model, encode_motion, sample_video
from pipelines.cinn.networks import build_embedder, build_flow, build_stage1
from pipelines.cinn.preview import to_bytes
from pipelines.cinn.sampling_decoder import Decoder, for_sampling
from pipelines.clips.frames import from_bytes
from pipelines.engines.items import Items
from pipelines.events import EXIT_NO_DATA, UserError, Work
from pipelines.files import sha256
from pipelines.io.images import read_image, write_png
from pipelines.io.sample_folders import frame_paths
from pipelines.io.sample_writer import (
    GRID_COLUMNS,
    GRID_FRAMES,
    GRID_ROWS,
    SampleWriter,
    sample_writer,
    scene_names,
    still,
)
from pipelines.io.video import read_video
from pipelines.training.checkpoint import (
    WEIGHTS_NAME,
    checkpoint_meta,
    load_weights,
    networks_in,
)
from pipelines.training.device import prepare_device
from pipelines.training.generators import torch_generator
from pipelines.training.run_folder import Run, load_run, require_checkpoint

LAST_FRAMES_NAME = "last-frames.png"


@dataclass(frozen=True)
class Sampler:
    """A trained model, ready to make videos.

    checkpoints: for each part of the model, where its weights come from and their SHA-256.
    """

    run: Run
    config: FamilyConfig
    model: Model
    device: torch.device
    checkpoints: dict[str, dict[str, Any]]

    @property
    def size_px(self) -> int:
        """Height and width of images and videos."""
        return self.config.stage1.size_px

    def start(self, image: np.ndarray) -> Tensor:
        """An image, uint8 H W 3 of any size, as the model's start frame, 1 3 S S in [-1, 1].

        Resized as published: bilinear, without regard to its aspect ratio.
        """
        frame = from_bytes(torch.from_numpy(np.array(image)).to(self.device))
        return prepare(frame[None, None], self.size_px)[:, 0]

    def residual(self, seed: int, image: int, number: int) -> Tensor:
        """Standard normal numbers, 1 Z, for one sample of one image."""
        generator = torch_generator(seed, "residual", image, number)
        return torch.randn((1, self.config.stage1.code_size), generator=generator).to(self.device)

    def animate(
        self,
        start: Tensor,
        residual: Tensor,
        num_frames: int,
        *,
        endpoint: Tensor | None = None,
    ) -> np.ndarray:
        """The video of a start frame, 1 3 S S, and a residual, 1 Z: uint8 T S S 3.

        endpoint: 1 3 in [0, 1], for a controlled model.
        One video at a time: in a batch the last bits, and so some grey levels, would depend on what
        else is in it.
        """
        if endpoint is not None:
            endpoint = endpoint.to(self.device)
        video = sample_video(self.model, start, residual, num_frames, endpoint=endpoint)
        return to_bytes(video[0])


def load(run_dir: Path, device: torch.device, *, warn: Warn) -> Sampler:
    """The model of a stage-2 run, from its newest sound checkpoint.

    warn: told about damaged checkpoints that are passed over. Raises UserError when the folder is
    no such run or has no checkpoint that can be used.
    """
    run = load_run(run_dir, family=FAMILY, stage="2")
    config = run_config(run)
    sources = {name: frozen_checkpoint(run_dir, name, warn=warn) for name in INPUT_STAGES}
    newest = require_checkpoint(run, warn=warn)
    embedder = load_embedder(config, sources["ae"], device)
    encoder = None
    if "encoder" in networks_in(sources["stage1"]):  # a published model may come without
        encoder = load_encoder(config, sources["stage1"], device)
    decoder = load_decoder(config, sources["stage1"], device)
    flow = _empty(
        lambda: build_flow(config.stage2, config.stage1.code_size, config.ae.embedding_size), device
    )
    load_weights(newest, {"flow": flow})
    checkpoints = {name: _described(path) for name, path in {**sources, "stage2": newest}.items()}
    model = Model(decoder=decoder, flow=flow, embedder=embedder, encoder=encoder)
    return Sampler(run, config, model, device, checkpoints)


def load_encoder(config: FamilyConfig, checkpoint_dir: Path, device: torch.device) -> VideoEncoder:
    """The frozen video encoder of a stage 1."""
    encoder: VideoEncoder = _empty(lambda: build_stage1(config.stage1).encoder, device)
    load_weights(checkpoint_dir, {"encoder": encoder})
    return encoder


def load_decoder(config: FamilyConfig, checkpoint_dir: Path, device: torch.device) -> Decoder:
    """The video decoder of a stage 1, in the form for sampling."""
    decoder: VideoDecoder = _empty(lambda: build_stage1(config.stage1).decoder, device)
    load_weights(checkpoint_dir, {"decoder": decoder})
    return for_sampling(decoder)


def load_embedder(config: FamilyConfig, checkpoint_dir: Path, device: torch.device) -> ImageEncoder:
    """The frozen image embedder of an image autoencoder."""
    embedder: ImageEncoder = _empty(
        lambda: build_embedder(config.ae, config.stage1.size_px), device
    )
    load_weights(checkpoint_dir, {"encoder": embedder})
    return embedder


def sample(request: SampleRequest, work: Work) -> dict[str, Any]:
    """Write `num` videos of each image: mp4, gif, grids and meta.json. Same seed, same frames."""
    images = [read_image(path) for path in request.images]
    sampler = load(request.run_dir, prepare_device(request.device), warn=work.warning)
    _announce_sizes(request.images, images, sampler.size_px, work)
    control = sampler.config.stage2
    endpoints = [
        asked_endpoint(request, control, image_size=(image.shape[1], image.shape[0]))
        for image in images
    ]
    scenes = scene_names([path.stem for path in request.images])
    starts = [sampler.start(image) for image in images]
    total = len(images) * request.num

    def made(place: int) -> np.ndarray:
        number, each = divmod(place, request.num)
        residual = request.temperature * sampler.residual(request.seed, number, each)
        return sampler.animate(starts[number], residual, request.frames, endpoint=endpoints[number])

    videos = Items(request, total, made, sampler.checkpoints, work)
    if request.shard:
        return videos.make_shard()
    videos.spread(sample)
    rows: list[list[np.ndarray]] = []
    ends: list[tuple[str, np.ndarray, list[np.ndarray], Tensor]] = []
    with sample_writer(request.out_dir, kind="sample", fps=request.fps) as writer:
        for number, (scene, start) in enumerate(zip(scenes, starts, strict=True)):
            endpoint, picture = endpoints[number], to_bytes(start[0])
            rows.append([still(picture, request.frames)])
            if endpoint is not None:
                ends.append((scene, picture, [], endpoint))
            for each in range(request.num):
                video = videos[number * request.num + each]
                if ends:
                    # the endpoint is that of the first piece of a longer video
                    ends[-1][2].append(video[: sampler.config.stage1.num_frames][-1])
                writer.add(scene, video, sample=each, start=picture)
                if number < GRID_ROWS and each < GRID_COLUMNS:  # not more than will be shown
                    rows[-1].append(video[:GRID_FRAMES])
                work.progress("sample", number * request.num + each + 1, total, "videos")
        _add_grid(writer, scenes, rows)
        draws: dict[str, Any] = {
            "seed": request.seed,
            "temperature": request.temperature,
            "num": request.num,
        }
        if ends:
            write_png(writer.folder / LAST_FRAMES_NAME, last_frames_sheet(ends, control))
            draws["endpoints"] = {scene: endpoint[0].tolist() for scene, *_, endpoint in ends}
        writer.finish(_meta(request, sampler, scenes) | draws)
    videos.clear()
    if ends:
        work.artifact(request.out_dir / LAST_FRAMES_NAME, "grid")
    return _result(request.out_dir, total, work)


def transfer(request: TransferRequest, work: Work) -> dict[str, Any]:
    """Move each image the way the source video moves: mp4, gif, grids and meta.json."""
    images = [read_image(path) for path in request.images]
    sampler = load(request.run_dir, prepare_device(request.device), warn=work.warning)
    _announce_sizes(request.images, images, sampler.size_px, work)
    require_encoder(sampler)
    source = read_clip(request.source, sampler.config.stage1.num_frames + 1)
    clip = torch.cat([sampler.start(frame) for frame in source])[None]
    residual = encode_motion(sampler.model, clip)
    scenes = scene_names([path.stem for path in request.images])
    query = to_bytes(clip[0])
    rows = [[still(query[0], request.frames), _lengthened(query[1:], request.frames)]]
    with sample_writer(request.out_dir, kind="transfer", fps=request.fps) as writer:
        for number, (scene, image) in enumerate(zip(scenes, images, strict=True)):
            start = sampler.start(image)
            picture = to_bytes(start[0])
            video = sampler.animate(start, residual, request.frames)
            writer.add(scene, video, start=picture)
            rows.append([still(picture, request.frames), video])
            work.progress("transfer", number + 1, len(images), "videos")
        _add_grid(writer, ["source", *scenes], rows)
        facts = {"source": _file_facts(request.source), "residual": residual[0].tolist()}
        writer.finish(_meta(request, sampler, scenes) | facts)
    return _result(request.out_dir, len(images), work)


def read_clip(source: Path, num_frames: int) -> list[np.ndarray]:
    """The first frames of a video file or of a folder of images, uint8 H W 3 each.

    Raises UserError with exit code 4 when there are fewer.
    """
    if source.is_dir():
        frames = [read_image(path) for path in frame_paths(source)[:num_frames]]
    else:
        frames = list(read_video(source, max_frames=num_frames))
    if len(frames) < num_frames:
        raise UserError(
            f"the source '{source.name}' has {len(frames)} frames, {num_frames} are needed",
            {"source": source, "to fix": "give a longer video: a start frame and what follows it"},
            EXIT_NO_DATA,
        )
    return frames


def require_encoder(sampler: Sampler) -> None:
    """Raise UserError when a run came without its video encoder."""
    if sampler.model.encoder is None:
        raise UserError(
            f"the run '{sampler.run.path.name}' has no video encoder, which this needs",
            {
                "run": sampler.run.path,
                "to fix": "import it again from a folder that also has *_ENC.pth",
            },
            EXIT_NO_DATA,
        )


def _empty(build: Callable[[], Any], device: torch.device) -> Any:
    """A network in eval mode whose weights are still to be loaded: no time spent on random ones."""
    with torch.device("meta"):
        network: nn.Module = build()
    return network.to_empty(device=device).eval().requires_grad_(False)


def _announce_sizes(
    paths: Sequence[Path], images: Sequence[np.ndarray], size_px: int, work: Work
) -> None:
    for path, image in zip(paths, images, strict=True):
        height, width = image.shape[:2]
        if (height, width) != (size_px, size_px):
            note = "" if height == width else ", aspect ratio not kept"
            work.log(f"{path.name}: {width} x {height} px, resized to {size_px} x {size_px}{note}")


def _add_grid(
    writer: SampleWriter, scenes: Sequence[str], rows: Sequence[Sequence[np.ndarray]]
) -> None:
    """rows: for each scene its start frame as a still video, then its videos."""
    sheet = [
        (scene, np.concatenate([row[0][:1], video]))
        for scene, row in zip(scenes, rows, strict=True)
        for video in row[1:]
    ]
    writer.add_grid(rows, sheet)


def _lengthened(video: np.ndarray, num_frames: int) -> np.ndarray:
    """A video cut to a length, or its last frame repeated up to it."""
    chosen = np.minimum(np.arange(num_frames), len(video) - 1)
    return video[chosen]


def _meta(
    request: SampleRequest | TransferRequest, sampler: Sampler, scenes: Sequence[str]
) -> dict[str, Any]:
    images = [
        {"scene": scene, **_file_facts(path)}
        for scene, path in zip(scenes, request.images, strict=True)
    ]
    return {
        "family": FAMILY,
        "run": str(request.run_dir),
        "checkpoints": sampler.checkpoints,
        "images": images,
        "frames": request.frames,
        "size_px": sampler.size_px,
        "device": str(sampler.device),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "command": shlex.join(_command(request)),
    }


def _command(request: SampleRequest | TransferRequest) -> list[str]:
    """What to type to make the same again."""
    verb = "sample" if isinstance(request, SampleRequest) else "transfer"
    words = ["i2v", verb, FAMILY, "--run", str(request.run_dir)]
    if isinstance(request, TransferRequest):
        words += ["--source", str(request.source)]
    for path in request.images:
        words += ["--image", str(path)]
    if isinstance(request, SampleRequest) and request.endpoint is not None:
        shape = "{:.0f}" if request.endpoint_unit == "px" else "{!r}"
        words += ["--endpoint", ",".join(shape.format(each) for each in request.endpoint)]
    for name in ("num", "frames", "fps", "seed", "temperature", "device"):
        if hasattr(request, name):
            words += [f"--{name}", str(getattr(request, name))]
    return [*words, "--out", str(request.out_dir)]


def _file_facts(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": str(path)}
    return facts | ({"sha256": sha256(path)} if path.is_file() else {})


def _described(checkpoint_dir: Path) -> dict[str, Any]:
    meta = checkpoint_meta(checkpoint_dir)
    digest = meta["files"][WEIGHTS_NAME]["sha256"]
    return {"path": str(checkpoint_dir), "step": meta["step"], "sha256": digest}


def _result(out_dir: Path, num_videos: int, work: Work) -> dict[str, Any]:
    work.artifact(out_dir / "grid.mp4", "grid")
    work.artifact(out_dir / "grid.png", "grid")
    return {"samples": str(out_dir), "grid": str(out_dir / "grid.mp4"), "videos": num_videos}
