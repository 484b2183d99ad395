"""The request of `i2v eval` and the protocols that metrics run under. Light: pydantic only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.engines.config import Engine, Parts, Shard, shard_of
from pipelines.schema import AbsolutePath, Config

Covariance = Literal["unbiased", "biased"]
StartFrame = Literal["left out", "put first", "put first in real videos"]


class VideoProtocol(Config):
    """A Frechet distance over whole clips: FVD in its published forms, DTFVD."""

    kind: Literal["video"] = "video"
    about: str = Field("clips as they are", description="where this protocol comes from")
    network: Literal["i3d", "i3d-logging", "dti3d"] = "i3d"
    resize: Literal["tensorflow1", "half-pixel", "corners"] = Field(
        "tensorflow1", description="rule of the bilinear resize to 224 x 224"
    )
    num_frames: int | None = Field(
        None, ge=2, description="frames of a clip, the start frame included where it is put first"
    )
    stride: int = Field(1, ge=1, description="every so many frames of a video")
    start_frame: StartFrame = "left out"
    loops: bool = Field(True, description="clips too short for DTI3D are repeated")
    batch_size: int = Field(
        1, ge=1, description="videos beyond a multiple of it are left out, as published code does"
    )
    max_videos: int | None = Field(None, ge=2, description="first videos used")
    covariance: Covariance = "unbiased"


class FrameProtocol(Config):
    """A Frechet distance over single frames: FID."""

    kind: Literal["frame"] = "frame"
    about: str = Field("all frames of all videos", description="where this protocol comes from")
    network: Literal["pytorch-fid", "ii2v"] = "pytorch-fid"
    per_step: bool = Field(False, description="one distance per time step, then their mean")
    batch_size: int = Field(1, ge=1, description="frames beyond a multiple of it are left out")
    max_videos: int | None = Field(None, ge=2, description="first videos used")
    covariance: Covariance = "unbiased"


class PairedProtocol(Config):
    """Frame against frame: PSNR, SSIM, LPIPS."""

    kind: Literal["paired"] = "paired"
    about: str = Field("each frame, then the mean", description="where this protocol comes from")
    data_range: Literal["1", "measured"] = Field(
        "1", description="1, or what the values of a batch span"
    )
    mean_over: Literal["frames", "channels", "batches"] = Field(
        "frames", description="what has one value each before the mean is taken"
    )
    batch_size: int = Field(1, ge=1, description="videos of a batch, where those have one value")
    samples: Literal["mean", "best"] = Field(
        "mean", description="which value of an image's samples counts"
    )
    trunk: Literal["vgg16", "alexnet"] = Field("vgg16", description="network of LPIPS")
    real_delay: int = Field(
        0, ge=0, le=1, description="frame k is compared with real frame k minus this"
    )


class DiversityProtocol(Config):
    """Distance between samples of one image."""

    kind: Literal["diversity"] = "diversity"
    about: str = Field("pixels, embedded", description="where this protocol comes from")
    features: Literal["embedded", "vgg16", "i3d", "dti3d", "lpips"] = "embedded"
    num_samples: int | None = Field(None, ge=2, description="first samples of each image used")
    num_frames: int | None = Field(
        None, ge=2, description="of each clip; 32 takes the network of DTI3D for so many"
    )
    batch_size: int = Field(
        1, ge=1, description="images beyond a multiple of it are left out, as published code does"
    )


MetricProtocol = Annotated[
    VideoProtocol | FrameProtocol | PairedProtocol | DiversityProtocol,
    Field(discriminator="kind"),
]


class EvalRequest(Config):
    """`i2v eval METRIC... --source DIR --real DIR`."""

    metrics: tuple[str, ...] = Field(
        (), description="names, such as psnr, or with a protocol, such as fvd/poke"
    )
    protocols: dict[str, MetricProtocol] = Field(
        {}, description="the protocol of each metric that was given with one"
    )
    source: AbsolutePath | None = Field(
        None, description="folder of videos or frame folders, of .npy files, or a run folder"
    )
    compare: AbsolutePath | None = Field(
        None, description="a second source; the differences are reported with paired intervals"
    )
    real: AbsolutePath | None = Field(
        None, description="folder of real videos, or of prepared frames; names match the source's"
    )
    real_split: Literal["train", "val", "test"] = Field(
        "test", description="which videos of prepared frames are the real ones"
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
    makes_anew: bool = Field(
        False, description="make a run's videos from its list even where it has samples"
    )
    num_samples: int = Field(1, ge=1, le=100, description="made for each image of a run's list")
    num_images: int = Field(64, ge=2, description="images of a run's list")
    engine: Engine = Field("local", description="what spreads the videos: local, ray or slurm")
    parts: Parts = 8
    shard: Shard | None = Field(None, description="i/n: only every n-th image, from number i")
    merge: tuple[AbsolutePath, ...] = Field((), description="files of all shards, to be joined")
    baselines: bool = Field(
        True, description="also measure real videos that stand still, and in shuffled order"
    )
    generated_weights: bool = Field(
        False, description="feature networks with made-up weights: to try things out"
    )
    self_test: bool = Field(False, description="compare FVD in PyTorch with TensorFlow's")
    seed: int = Field(0, ge=0, description="of subsets, shuffled frames and samples made here")
    label: str | None = Field(
        None, description="name of this evaluation in metrics.json; the source folder's otherwise"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    threads: int | None = Field(None, ge=1, description="CPU threads of the math library")
    weights_root: AbsolutePath | None = Field(
        None, description="folder with a folder for each download of weights"
    )
    weights: dict[str, AbsolutePath] = Field(
        {}, description="files or folders to use instead: i3d, i3d-tf, fid-inception, vgg16, ..."
    )
    data_root: AbsolutePath | None = Field(None, description="prepared data, for a run's own list")
    cache_dir: AbsolutePath | None = Field(None, description="keeps the features of real videos")
    tensorflow_python: AbsolutePath | None = Field(
        None, description="interpreter of the environment 'fvd', where fvd-tf runs"
    )
    out_path: AbsolutePath | None = Field(
        None, description="metrics.json to write; an evaluation of the same label is replaced"
    )

    @field_validator("metrics")
    @classmethod
    def _no_metric_twice(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _has_work(self) -> EvalRequest:
        if self.self_test or self.merge:
            return self
        if not self.metrics:
            raise ValueError("name at least one metric")
        if self.source is None:
            raise ValueError("give --source, a folder of videos or a run")
        if self.shard or self.engine != "local":
            self._can_be_shared_out()
        return self

    def _can_be_shared_out(self) -> None:
        if self.compare is not None:
            raise ValueError("two sources are compared by one call: no shard, engine=local")
        if self.metrics == ("pose",):
            raise ValueError("pose is measured by one call: no shard, engine=local")
        if self.out_path is None:
            raise ValueError("a shard, or another engine than local, needs out_path")

    @property
    def shard_numbers(self) -> tuple[int, int]:
        """Which shard of how many, counted from 0; (0, 1) for all."""
        return shard_of(self.shard or "0/1")
