"""Requests of the data verbs: download, extract-frames, data. Light: pydantic only."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from pipelines.engines.config import Engine, Shard
from pipelines.files import fingerprint
from pipelines.schema import AbsolutePath, Config

Fit = Literal["squash", "center-crop", "pad"]
SplitBy = Literal["video", "time", "group"]
Storage = Literal["auto", "raw", "jpeg", "none"]


class DownloadRequest(Config):
    """What `i2v download` is asked for; `kinds` to `ood` are options of generated data."""

    dataset: str = Field("synthetic", description="name in the registry")
    data_root: AbsolutePath = Field(description="folder that holds one folder per dataset")
    kinds: tuple[str, ...] = Field((), description="kinds of clips, all when empty")
    preset: Literal["tiny", "default"] = Field(
        "default", description="clips per kind: tiny 64 + 16 + 16, default 800 + 100 + 100"
    )
    size_px: int = Field(64, ge=32, le=512, multiple_of=16, description="height and width")
    num_frames: int | None = Field(
        None, ge=2, le=512, description="frames per clip; the preset's (tiny 20, default 32)"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="base of every random draw")
    ood: bool = Field(False, description="test clips move faster than any clip of train and val")
    jobs: int = Field(1, ge=1, le=256, description="processes")
    force: bool = Field(False, description="replace clips that were made with other settings")


def available_cores() -> int:
    """Cores this process may use; in a container or a cluster job fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _split_of_one(parts: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(parts) < 0 or parts[0] <= 0 or abs(sum(parts) - 1) > 1e-6:
        raise ValueError("the parts train/val/test must add up to 1, and train must not be 0")
    return parts


def _regex_with_group(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        compiled = re.compile(text)
    except re.error as problem:
        raise ValueError(f"not a regular expression: {problem}") from None
    if compiled.groups != 1:
        raise ValueError("needs exactly one group in parentheses, such as '(.*)#'")
    return text


DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$", max_length=100)]
"""A name that is also a folder name on every file system."""


class ExtractRequest(Config):
    """What `i2v extract-frames` is asked for; equal requests give equal bytes."""

    data_root: AbsolutePath = Field(description="folder that holds one folder per dataset")
    name: DatasetName = Field(description="dataset to write, a folder below data_root")
    source: AbsolutePath | None = Field(
        None, description="raw folder or file; <data_root>/<name>/raw when not given"
    )
    kind: str = Field(
        "custom", pattern=r"^[a-z][a-z0-9_]*$", description="module that knows the raw layout"
    )
    variant: DatasetName | None = Field(
        None, description="folder below prepared/; named after the options when not given"
    )
    size_px: int = Field(64, ge=8, le=2048, description="height and width of prepared frames")
    fit: Fit = Field("squash", description="how a frame that is not square becomes square")
    fps: float | None = Field(
        None, gt=0, le=1000, description="constant frames per second; as they are when not given"
    )
    stride: int = Field(1, ge=1, description="keep every n-th frame")
    grey: bool = Field(False, description="one channel instead of three")
    min_frames: int = Field(17, ge=2, description="shorter videos are left out")
    split: Annotated[tuple[float, float, float], AfterValidator(_split_of_one)] = Field(
        (0.8, 0.1, 0.1), description="parts for train, val, test where the dataset fixes none"
    )
    split_by: SplitBy = Field(
        "video", description="whole videos, stretches of time in each video, or groups of videos"
    )
    group_regex: Annotated[str | None, AfterValidator(_regex_with_group)] = Field(
        None, description="its one group, searched in the video id, names the group"
    )
    protocol: str | None = Field(
        None,
        pattern=r"^[a-z0-9_-]+$",
        description="whose published split to follow; the dataset's first when not given, and "
        "'own' follows split, split_by and seed",
    )
    compat: bool = Field(
        False, description="decode and resize as the protocol's published code, bit for bit"
    )
    clip_frames: int | None = Field(
        None, ge=2, description="cut every video into clips of this many frames"
    )
    drop_static: float | None = Field(
        None, ge=0, le=255, description="leave out videos that change less on average, in levels"
    )
    scene_cut: float | None = Field(
        None, gt=0, le=255, description="cut where neighbouring frames differ more, in levels"
    )
    keep_damaged: bool = Field(
        False, description="keep the frames before the damage of a damaged video"
    )
    storage: Storage = Field(
        "auto",
        description="raw: as they are, fastest; jpeg: quality 95, about a seventh of the space; "
        "none: no frames, only what lies beside them; auto: raw, or jpeg above max_gb",
    )
    max_gb: float = Field(50.0, gt=0, description="prepared frames may take this much space")
    write_images: bool = Field(False, description="also write one folder of PNG files per video")
    jobs: int = Field(default_factory=available_cores, ge=1, le=256, description="processes")
    engine: Engine = Field("local", description="what spreads the videos: local, ray or slurm")
    shard: Shard | None = Field(
        None, description="i/n: only every n-th video, from number i; a last call without packs all"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of the random split")
    rebuild: bool = Field(
        False, description="prepare again even if done; replaces the old when complete"
    )

    @model_validator(mode="after")
    def _regex_is_used(self) -> ExtractRequest:
        if self.group_regex is not None and self.split_by != "group":
            raise ValueError("group_regex needs split_by 'group'")
        return self

    @model_validator(mode="after")
    def _published_code_does_it(self) -> ExtractRequest:
        if self.compat and (self.fit == "pad" or self.fps is not None):
            raise ValueError("compat goes with neither fit 'pad' nor fps: no published code has it")
        return self

    @model_validator(mode="after")
    def _frames_are_there(self) -> ExtractRequest:
        looked_at = self.drop_static is not None or self.scene_cut is not None or self.write_images
        if self.storage == "none" and looked_at:
            raise ValueError("storage 'none' has no frames for drop_static, scene_cut or images")
        return self

    @property
    def channels(self) -> int:
        """Of a prepared frame."""
        return {"none": 0}.get(self.storage, 1 if self.grey else 3)

    def settings(self) -> dict[str, object]:
        """The options that decide what is written, as plain JSON values."""
        elsewhere = {"data_root", "name", "source", "variant", "write_images", "jobs", "rebuild"}
        return self.model_dump(mode="json", exclude=elsewhere | {"max_gb", "engine", "shard"})

    def variant_name(self) -> str:
        """The folder below prepared/; other options, other name."""
        if self.variant:
            return self.variant
        parts = ["no-frames" if self.storage == "none" else f"{self.size_px}px"]
        if self.storage in ("raw", "jpeg"):
            parts.append(self.storage)
        if self.fit != "squash":
            parts.append({"center-crop": "crop", "pad": "pad"}[self.fit])
        if self.fps is not None:
            parts.append(f"fps{self.fps:g}")
        if self.stride > 1:
            parts.append(f"stride{self.stride}")
        if self.grey:
            parts.append("grey")
        if self.protocol is not None:
            parts.append(self.protocol)
        if self.compat:
            parts.append("compat")
        if self.clip_frames is not None:
            parts.append(f"clips{self.clip_frames}")
        if self.min_frames != type(self).model_fields["min_frames"].default:
            parts.append(f"min{self.min_frames}")
        if self.split_by != "video":
            parts.append(self.split_by)
        named = {"kind", "size_px", "fit", "fps", "stride", "grey", "min_frames", "split_by"}
        named |= {"protocol", "compat", "clip_frames"}
        named |= {"storage"}
        fields = type(self).model_fields
        rest = {
            key: value
            for key, value in self.settings().items()
            if key not in named and getattr(self, key) != fields[key].default
        }
        return "-".join([*parts, fingerprint(rest)[:6]] if rest else parts)


class InspectRequest(Config):
    """What `i2v data list|info|verify|preview` is asked for."""

    data_root: AbsolutePath = Field(description="folder that holds one folder per dataset")
    name: DatasetName | None = Field(None, description="dataset; all of them when not given")
    variant: DatasetName | None = Field(
        None, description="prepared variant, such as 64px; the only one when not given"
    )
    out_path: AbsolutePath | None = Field(
        None, description="PNG of the preview; <data_root>/<name>/preview-<variant>.png"
    )
    num_videos: int = Field(8, ge=1, le=100, description="rows of the preview")
    num_frames: int = Field(8, ge=1, le=64, description="columns of the preview")
    flow: bool = Field(False, description="show optical flow in the preview, and write a video")
    flow_name: str | None = Field(
        None, description="estimated flow, such as dis, or truth; the only one when not given"
    )
    lag: int | None = Field(None, ge=1, description="of the flow, in frames; the smallest there is")
