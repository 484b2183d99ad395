"""The request of `i2v estimate-flow`, and what is known about its estimators. Light: pydantic only.

Lags count prepared frames: entry t of lag 10 is the motion from frame t to frame t + 10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from pipelines.datasets.config import DatasetName, available_cores
from pipelines.engines.config import Engine, Shard
from pipelines.flownet2.config import NETWORKS, SIZE_MULTIPLE_PX, Precision
from pipelines.schema import AbsolutePath, Config

EstimatorName = Literal[
    "dis",
    "raft-small",
    "raft-large",
    "flownet2",
    "flownet2-c",
    "flownet2-s",
    "flownet2-sd",
    "flownet2-cs",
    "flownet2-css",
    "files",
]
FileFormat = Literal["npy", "flo", "kitti"]


def _device_name(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", text):
        raise ValueError(f"must be auto, cpu, cuda, cuda:N or mps, not '{text}'")
    return text


Devices = tuple[Annotated[str, AfterValidator(_device_name)], ...]

FALLBACK_LAGS = (10,)
"""What the published poke models read from a clip of 11 frames at stride 1."""


@dataclass(frozen=True)
class Published:
    """How the published data preparation asks for flow: lags delta, 2 delta, ... flow_max.

    In frames that are kept: of Human3.6M every eighth is.
    """

    flow_max: int
    flow_delta: int

    @property
    def lags(self) -> tuple[int, ...]:
        """In frames, ascending."""
        return tuple(range(self.flow_delta, self.flow_max + 1, self.flow_delta))


PUBLISHED = {
    "plants": Published(30, 10),
    "iper": Published(10, 5),
    "h36m": Published(10, 5),
    "taichi": Published(20, 10),
}
"""By the module that knows a dataset's raw layout."""


WEIGHTS_FILES = {
    "raft-large": "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
    "raft-small": "raft_small_C_T_V2-01064c6d.pth",
    **{name: row.weights_file for name, row in NETWORKS.items()},
}
"""The published file of each estimator that needs one."""


class Sizes(NamedTuple):
    """Sizes in pixels that a network takes: at least `least`, a multiple of `step`."""

    least: int
    step: int

    def nearest(self, size_px: int) -> int:
        """The smallest size that fits and is not below size_px."""
        return max(self.least, -(-size_px // self.step) * self.step)


def sizes_of(estimator: str) -> Sizes:
    """The sizes that an estimator takes."""
    if estimator.startswith("flownet2"):
        return Sizes(SIZE_MULTIPLE_PX, SIZE_MULTIPLE_PX)
    return Sizes(128, 8) if estimator.startswith("raft") else Sizes(16, 1)


class EstimateRequest(Config):
    """What `i2v estimate-flow` is asked for; equal requests give equal bytes."""

    data_root: AbsolutePath = Field(description="folder that holds one folder per dataset")
    name: DatasetName = Field(description="dataset, a folder below data_root")
    variant: DatasetName | None = Field(
        None, description="prepared variant, such as 64px; the only one when not given"
    )
    frames_of: DatasetName | None = Field(
        None,
        description="variant with the same videos whose (larger) frames the estimator looks at",
    )
    estimator: EstimatorName = Field("dis", description="what estimates; files: take it from files")
    flow_name: DatasetName | None = Field(
        None, description="folder below flow/; the estimator's name when not given"
    )
    weights_root: AbsolutePath | None = Field(
        None, description="folder that holds one folder per set of weights"
    )
    weights_path: AbsolutePath | None = Field(
        None, description="weights file; the downloaded one when not given"
    )
    lags: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] | None = Field(
        None, min_length=1, description="prepared frames between the two frames of a pair"
    )
    input_size_px: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="size at which the estimator sees the frames; theirs when not given",
    )
    flow_size_px: int | None = Field(
        None, ge=8, le=2048, description="size of the stored flow; the variant's when not given"
    )
    check: bool = Field(
        False, description="also estimate backwards and mark pixels where the two disagree"
    )
    min_reliable: float = Field(
        0.0, ge=0, le=1, description="pairs with a smaller part of such agreement are not valid"
    )
    files_dir: AbsolutePath | None = Field(
        None, description="folder with flow in the published layout, for the estimator 'files'"
    )
    export_dir: AbsolutePath | None = Field(
        None, description="also write one file per pair below this folder"
    )
    export_format: FileFormat = Field("npy", description="of the written files")
    devices: Devices = Field(("auto",), min_length=1, description="auto, cpu, cuda:0, cuda:1, ...")
    workers_per_device: int | None = Field(
        None, ge=1, le=64, description="processes with a model each; one, or for dis one per core"
    )
    cores: int = Field(default_factory=available_cores, ge=1, description="cores to share out")
    batch_size: int | None = Field(
        None, ge=1, le=256, description="pairs at once; after the size when not given"
    )
    precision: Precision = Field("float32", description="of the networks, on a graphics card")
    is_bgr: bool = Field(
        False, description="feed blue-green-red, as the published poke data was made (FlowNet2)"
    )
    engine: Engine = Field("local", description="what spreads the videos: local, ray or slurm")
    shard: Shard | None = Field(
        None, description="i/n: only every n-th task, from number i; a last call does the rest"
    )
    rebuild: bool = Field(False, description="estimate again even if done")

    @field_validator("lags")
    @classmethod
    def _lags_once(cls, lags: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if lags is None else tuple(sorted(set(lags)))

    @field_validator("input_size_px")
    @classmethod
    def _size_fits(cls, size_px: int | None, info: ValidationInfo) -> int | None:
        estimator = str(info.data.get("estimator", "dis"))
        sizes = sizes_of(estimator)
        fitting = sizes.nearest(size_px or sizes.least)
        if size_px is not None and fitting != size_px:
            below = fitting - sizes.step
            better = f"{below} or {fitting}" if below >= sizes.least else f"{fitting}"
            rule = f"a multiple of {sizes.step}" if sizes.step > 1 else ""
            least = f"at least {sizes.least}" if size_px < sizes.least else ""
            needed = " and ".join(part for part in (rule, least) if part)
            raise ValueError(f"{estimator} needs {needed}, not {size_px}; give {better}")
        return size_px

    @field_validator("files_dir")
    @classmethod
    def _files_are_wanted(cls, files_dir: Path | None, info: ValidationInfo) -> Path | None:
        if files_dir is not None and info.data.get("estimator") != "files":
            raise ValueError("only the estimator 'files' reads flow from a folder")
        return files_dir

    @field_validator("min_reliable")
    @classmethod
    def _reliability_is_checked(cls, part: float, info: ValidationInfo) -> float:
        if part > 0 and not info.data.get("check"):
            raise ValueError("needs the check, check=true")
        return part

    @model_validator(mode="after")
    def _files_are_given(self) -> EstimateRequest:
        if self.estimator == "files" and self.files_dir is None:
            raise ValueError("the estimator 'files' needs a folder, --files DIR")
        return self

    def folder_name(self) -> str:
        """The folder below flow/ of the variant."""
        return self.flow_name or self.estimator

    def weights_file(self) -> Path | None:
        """Where the weights should be; None for an estimator without any."""
        if self.estimator not in WEIGHTS_FILES:
            return None
        file_name = Path(WEIGHTS_FILES[self.estimator])
        folder = self.weights_root / self.estimator if self.weights_root else Path()
        return self.weights_path or folder / file_name

    def settings(self) -> dict[str, object]:
        """The options that decide what is written, as plain JSON values."""
        chosen = {"estimator", "frames_of", "check", "min_reliable", "precision", "is_bgr"}
        return self.model_dump(mode="json", include=chosen)
