"""Finding the videos to train on, and what is said when there are none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipelines.clips.published import last_digit
from pipelines.clips.rules import Clip
from pipelines.clips.training_data import (
    long_enough,
    open_training_data,
    open_videos,
    validation_clips,
)
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.io.packed import PackedVideos
from pipelines.schema import DataConfig
from tests.pipelines.clips.prepared import SIZE


class Heard(Work):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: list[str] = []
        self.warnings: list[str] = []

    def log(self, text: str) -> None:
        self.logs.append(text)

    def warning(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def root(videos: PackedVideos) -> Path:
    return videos.dir.parents[2]


def config(**values: object) -> DataConfig:
    return DataConfig(dataset="toy", **values)


def test_clips_come_from_the_training_videos_that_are_long_enough(root) -> None:
    work = Heard()
    options = {"sizes_px": (SIZE,), "num_frames": 18, "seed": 3, "work": work}
    data = open_training_data(root, config(), repeats=2, **options)
    seen = Counter(data.sampler.clip(0, i).row for i in range(data.sampler.clips_per_epoch))
    assert seen == {0: 2, 2: 2, 3: 2}
    assert work.logs == ["1 of 4 videos have fewer than 18 frames: left out"]
    assert data.validation == [Clip(4, 3)]
    assert work.warnings == []


def test_videos_may_be_seen_as_often_as_their_id_says(root) -> None:
    options = {"sizes_px": (SIZE,), "num_frames": 5, "seed": 3, "work": Heard()}
    only = config(include=("001_*",))
    data = open_training_data(root, only, repeats=lambda each: 3 * last_digit(each), **options)
    seen = Counter(data.sampler.clip(0, i).row for i in range(data.sampler.clips_per_epoch))
    assert seen == {0: 3, 1: 6}


def test_a_model_for_another_size_is_told_which_variant_to_choose(root) -> None:
    with pytest.raises(UserError, match="frames of 4 px, the model takes 64 px") as caught:
        open_videos(root, config(), sizes_px=(64,))
    assert caught.value.exit_code == EXIT_USAGE
    assert "data.variant=64px" in str(caught.value.details["to fix"])
    assert open_videos(root, config()).size_px == SIZE


def test_patterns_that_match_nothing_are_shown(videos) -> None:
    with pytest.raises(UserError, match="no video of split 'train'") as caught:
        only = config(include=("oak/*", "elm/*"))
        long_enough(videos, only, split="train", num_frames=5, work=Heard())
    assert caught.value.exit_code == EXIT_NO_DATA
    assert caught.value.details["patterns"] == "oak/* elm/*"


def test_videos_that_are_all_too_short_name_the_longest(videos) -> None:
    with pytest.raises(UserError, match="all 4 videos are shorter than a clip of 99") as caught:
        long_enough(videos, config(), split="train", num_frames=99, work=Heard())
    assert caught.value.exit_code == EXIT_NO_DATA
    assert caught.value.details["longest"] == "40 frames"


def test_nothing_to_validate_on_is_said_and_no_error(videos) -> None:
    work = Heard()
    assert validation_clips(videos, config(), 26, work=work) == []
    assert len(work.warnings) == 1
    assert "nothing is validated" in work.warnings[0]
