"""The request of `i2v eval`. Light: pydantic only."""

from __future__ import annotations

from pydantic import Field, field_validator

from pipelines.schema import AbsolutePath, Config


class EvalRequest(Config):
    """`i2v eval METRIC... --source DIR --real DIR`."""

    metrics: tuple[str, ...] = Field(min_length=1, description="names, such as psnr and ssim")
    source: AbsolutePath = Field(
        description="folder of videos or frame folders, or a run folder with one set of samples"
    )
    real: AbsolutePath | None = Field(
        None, description="folder of real videos; names match those of the source"
    )
    num_frames: int | None = Field(
        None, ge=2, description="first frames of each video to use; all when not given"
    )
    size_px: int | None = Field(
        None, ge=8, le=2048, description="resize all videos to this height and width first"
    )
    skip_start_frame: bool | None = Field(
        None,
        description="leave out each video's first frame, because it is the image given; "
        "when not given, as the folders' meta.json say",
    )
    label: str | None = Field(
        None, description="name of this evaluation in metrics.json; the source folder's otherwise"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    threads: int | None = Field(None, ge=1, description="CPU threads of the math library")
    out_path: AbsolutePath | None = Field(
        None, description="metrics.json to write; an evaluation of the same label is replaced"
    )

    @field_validator("metrics")
    @classmethod
    def _no_metric_twice(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(names))
