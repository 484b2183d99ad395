"""Answers to the clips of a run's test data, stored as the published evaluation stores them (9.2).

Every frame of a test video is the start of a clip; they are taken in random order, in batches of
16, poked as their flow says. `real_samples.npy` and `fake_samples.npy` hold batches x 16 x T x S x
S x 3 bytes, without the start frames; `i2v eval fvd/poke --source FOLDER` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch

from pipelines.clips.sampler import ClipSampler
from pipelines.events import EXIT_NO_DATA, UserError, Work
from pipelines.io.sample_writer import SampleWriter, sample_writer, still
from pipelines.io.video import write_mp4
from pipelines.poke.arrows import with_arrows
from pipelines.poke.batches import training_batch
from pipelines.poke.config import FamilyConfig, SampleRequest
from pipelines.poke.data import PokeData, open_poke_data
from pipelines.poke.inference import answer_video, to_bytes
from pipelines.poke.networks import PokeModel
from pipelines.poke.preview import aim_of
from pipelines.training.generators import torch_generator

BATCH = 16
NUM_CLIPS = 61 * BATCH
"""As many as the published numbers are of."""

REAL_NAME, FAKE_NAME = "real_samples.npy", "fake_samples.npy"
_NUM_EXAMPLES, _NUM_ROWS = 21, 8


class Answered(NamedTuple):
    """One batch. start: uint8 B S S 3.  poke: float B 2 S S.  real, fake: uint8 B T S S 3."""

    start: np.ndarray
    poke: np.ndarray
    real: np.ndarray
    fake: np.ndarray


def write_test_set(
    request: SampleRequest,
    model: PokeModel,
    config: FamilyConfig,
    *,
    device: torch.device,
    facts: dict[str, Any],
    work: Work,
) -> dict[str, Any]:
    """Answer request.test_clips clips, or as many batches as there are; what the job reports.

    facts: what meta.json says of the model. Raises UserError where there is no data, or less of it
    than one batch.
    """
    if request.data_root is None:
        raise UserError("the run's data is not known", {"to fix": "give data_root=FOLDER"})
    data = open_poke_data(request.data_root, config, work, split="test")
    assert request.test_clips is not None and isinstance(data.sampler, ClipSampler)
    there = data.sampler.clips_per_epoch
    num_batches = min(request.test_clips, there) // BATCH
    if num_batches == 0:
        raise UserError(
            f"the test data has {there} clips, a batch has {BATCH}",
            {"looked in": data.videos.dir, "to fix": "prepare more videos of the split 'test'"},
            EXIT_NO_DATA,
        )
    if num_batches * BATCH < request.test_clips:
        work.warning(f"{num_batches * BATCH} test clips in place of {request.test_clips}")
    size, num_frames = config.model.size_px, config.clips.num_frames
    shape = (num_batches, BATCH, num_frames, size, size, 3)
    answers = _answers(model, config, data, num_batches, seed=request.seed, device=device)
    with sample_writer(request.out_dir, kind="sample", fps=request.fps) as writer:
        stored = [_array(writer, name, shape) for name in (REAL_NAME, FAKE_NAME)]
        for number, found in enumerate(answers):
            stored[0][number], stored[1][number] = found.real, found.fake
            _write_examples(writer, found, first=number * BATCH)
            work.progress("answer the test set", number + 1, num_batches, "batches")
        for array in stored:
            array.flush()
        clips = {"test clips": num_batches * BATCH, "frames": num_frames, "size_px": size}
        writer.finish(facts | clips | {"seed": request.seed})
    work.artifact(request.out_dir / FAKE_NAME, "samples")
    return {"samples": str(request.out_dir), "videos": num_batches * BATCH}


def _answers(
    model: PokeModel,
    config: FamilyConfig,
    data: PokeData,
    num_batches: int,
    *,
    seed: int,
    device: torch.device,
) -> Iterator[Answered]:
    drawing = torch_generator(seed, "test set")
    num_frames, schedule = config.clips.num_frames, config.model.schedule
    with closing(data.batches(batch_size=BATCH, first_batch=0)) as batches:
        for _, arrays in zip(range(num_batches), batches, strict=False):
            tensors = {name: torch.from_numpy(each).to(device) for name, each in arrays.items()}
            batch = training_batch(tensors, config, augmentation=None, drawing=drawing)
            video = answer_video(
                model, batch.frames[:, 0], batch.poke, num_frames, schedule=schedule
            )
            shown = np.broadcast_to(arrays["frames"], (*arrays["frames"].shape[:-1], 3))
            yield Answered(shown[:, 0], batch.poke.cpu().numpy(), shown[:, 1:], to_bytes(video))


def _array(writer: SampleWriter, name: str, shape: tuple[int, ...]) -> np.memmap:
    path = writer.folder / name
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _write_examples(writer: SampleWriter, found: Answered, *, first: int) -> None:
    """The first clips to look at: real above answer, the poke's arrow before the answer."""
    rows: list[tuple[str, np.ndarray]] = []
    for number, (start, poke, real, fake) in enumerate(zip(*found, strict=True), first):
        if number >= _NUM_EXAMPLES:
            break
        poked = with_arrows(start, [aim_of(poke)])
        videos = [np.concatenate([still(each, 1), video]) for each, video in
                  ((start, real), (poked, fake))]  # fmt: skip
        path = writer.folder / "examples" / f"{number:02d}.mp4"
        write_mp4(path, np.concatenate(videos, axis=1), writer.fps)
        rows += [(f"{number} real", videos[0]), ("answer", videos[1])]
    if first == 0:
        writer.add_grid([[video for _, video in rows[: 2 * _NUM_ROWS]]], rows[: 2 * _NUM_ROWS])
