"""Finding a prepared variant, choosing its videos, and sampling clips from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.clips.held_out import fixed_clips
from pipelines.clips.rules import Clip, ClipRule, VideoClips
from pipelines.clips.sampler import ClipSampler
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.io.packed import PackedVideos, find_variant
from pipelines.schema import DataConfig

MAX_VALIDATION_CLIPS = 64


@dataclass(frozen=True)
class TrainingData:
    """Clips to train on, and held-out ones to validate on: always the same, maybe none."""

    videos: PackedVideos
    sampler: ClipSampler
    validation: list[Clip]


def open_training_data(
    data_root: Path,
    config: DataConfig,
    *,
    sizes_px: Sequence[int],
    num_frames: int,
    repeats: int | Callable[[str], int],
    seed: int,
    work: Work,
) -> TrainingData:
    """Clips of consecutive frames that start anywhere in the videos that are long enough.

    sizes_px: frame sizes that the model can use.  num_frames: per clip, start frame included.
    repeats: times each video occurs in an epoch, one number or one for each video's id.
    Raises UserError, naming what to do, when there is no data, none that fits, or of another size.
    """
    videos = open_videos(data_root, config, sizes_px=sizes_px)
    rows = long_enough(videos, config, split="train", num_frames=num_frames, work=work)
    each = [repeats(videos.ids[row]) for row in rows] if callable(repeats) else repeats
    sampler = sampler_of(videos, rows, VideoClips(num_frames, repeats=each), seed=seed)
    return TrainingData(videos, sampler, validation_clips(videos, config, num_frames, work=work))


def open_videos(
    data_root: Path, config: DataConfig, *, sizes_px: Sequence[int] | None = None
) -> PackedVideos:
    """The prepared variant that a config names.

    sizes_px: frame sizes that the model can use; None: any. Raises UserError where there is no such
    variant or its frames have another size.
    """
    folder = find_variant(data_root, config.dataset, config.variant)
    videos = PackedVideos(folder)
    if sizes_px is not None and videos.size_px not in sizes_px:
        raise _other_size(folder, videos.size_px, sizes_px)
    return videos


def long_enough(
    videos: PackedVideos, config: DataConfig, *, split: str, num_frames: int, work: Work
) -> list[int]:
    """Rows of a split's videos that a config includes and that have so many frames, at least one.

    Says how many are left out for being too short. Raises UserError (exit code 4) for none.
    """
    matching = videos.select(split, config.include, 1)
    if not matching:
        raise UserError(
            f"no video of split '{split}' matches data.include",
            {
                "looked in": videos.dir,
                "patterns": " ".join(config.include),
                "to fix": f"see what there is with: i2v data info {config.dataset}",
            },
            EXIT_NO_DATA,
        )
    rows = videos.select(split, config.include, num_frames)
    longest = max(int(videos.num_frames[row]) for row in matching)
    if not rows:
        raise UserError(
            f"all {len(matching)} videos are shorter than a clip of {num_frames} frames",
            {
                "looked in": videos.dir,
                "longest": f"{longest} frames",
                "to fix": "prepare longer videos, or more frames per second: "
                "i2v extract-frames --fps ...",
            },
            EXIT_NO_DATA,
        )
    if len(rows) < len(matching):
        short = len(matching) - len(rows)
        work.log(f"{short} of {len(matching)} videos have fewer than {num_frames} frames: left out")
    return rows


def sampler_of(
    videos: PackedVideos, rows: Sequence[int], rule: ClipRule, *, seed: int
) -> ClipSampler:
    """A sampler by a rule over the videos in some rows."""
    return ClipSampler(rows, videos.num_frames[list(rows)], rule, seed=seed)


def validation_clips(
    videos: PackedVideos, config: DataConfig, num_frames: int, *, work: Work
) -> list[Clip]:
    """Some clips of the held-out videos (split 'val'), spread evenly; none, with a warning."""
    rows = videos.select("val", config.include, num_frames)
    if not rows:
        work.warning(
            "no held-out videos (split 'val') are long enough: nothing is validated while training"
        )
        return []
    lengths = [int(videos.num_frames[row]) for row in rows]
    return fixed_clips(rows, lengths, num_frames=num_frames, limit=MAX_VALIDATION_CLIPS)


def _other_size(folder: Path, found_px: int, wanted_px: Sequence[int]) -> UserError:
    wanted = " or ".join(f"{size}" for size in sorted(set(wanted_px)))
    return UserError(
        f"the data has frames of {found_px} px, the model takes {wanted} px",
        {
            "data": folder,
            "to fix": f"choose data.variant={wanted_px[0]}px, made with: "
            f"i2v extract-frames ... --size {wanted_px[0]}",
        },
        EXIT_USAGE,
    )
