"""Settings of the poke family; the defaults are the published values (spec: poke, 10)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipelines.engines.config import Engine, Parts, Shard
from pipelines.schema import (
    AbsolutePath,
    Config,
    DataConfig,
    LogConfig,
    OptimizerConfig,
    TrainConfig,
)

Stage = Literal["1"]
Experiment = Literal["fixed-length", "sequence"]


class ClipsConfig(Config):
    """Which clips of the videos are seen."""

    num_frames: int = Field(10, ge=2, le=64, description="frames to predict, after the first")
    frame_step: int = Field(1, ge=1, le=16, description="stored frames from one to the next")
    flow_lag: int | None = Field(
        None, ge=1, description="of the flow that pokes are read from; num_frames * frame_step"
    )
    flow_name: str | None = Field(
        None, description="estimated flow, such as dis; the true motion, or the only one there is"
    )
    start: Literal["every-frame", "any", "first"] = Field(
        "every-frame", description="an epoch: every frame, or every video from some or first frame"
    )
    clips_per_video: int = Field(1, ge=1, description="times each video occurs; not every-frame")


class PokeConfig(Config):
    """How pokes are made from flow, and what the network is told of them."""

    patch_px: int = Field(3, ge=1, le=63, description="side of the square that a poke covers")
    max_pokes: int = Field(1, ge=1, le=16, description="a sample has from 1 to so many")
    keeps_flow_patch: bool = Field(
        False, description="the patch holds the flow itself, not the flow of its centre"
    )
    foreground: Literal["none", "stored", "flow"] = Field(
        "none", description="pokes sit on it; stored: the per-frame array 'mask' of the data"
    )
    crops_to_foreground: bool = Field(
        False, description="losses compare the box around the foreground only (flow_weights)"
    )
    background_share: float = Field(
        0.0, ge=0, lt=1, description="pokes of still pixels, answered by a still video"
    )
    length_aware: bool = Field(
        False, description="a longer poke moves more; published models see its direction alone"
    )
    unit_px: float | None = Field(
        None, gt=0, description="poke length of strength 1, with length_aware; size_px / 8"
    )


class ModelConfig(Config):
    """The network that answers (section 2.2)."""

    kind: Literal["hierarchical", "single-scale"] = "hierarchical"
    size_px: int = Field(64, ge=16, le=512, multiple_of=16, description="height and width")
    deep: int = Field(512, ge=2, description="channels of the bottleneck and of the poke's code")
    smallest_px: int = Field(16, ge=2, description="height and width of the bottleneck")
    widths: tuple[int, ...] = Field((), description="channels of the stages, in place of the rule")
    norm: Literal["in", "group", "bn", "none"] = "in"
    spectral_decoder: bool = False
    sees_image: bool = Field(False, description="the poke encoder is shown the image too")
    ignores_poke: bool = Field(False, description="baseline without pokes")
    num_cells: int = Field(2, ge=1, description="recurrent cells of the single-scale model")
    update_bias: float = Field(
        0.0, description="of the update gates at first; below 0 nothing moves to begin with"
    )
    schedule: Literal["every-step", "once", "jump", "linear", "there-and-back"] = "every-step"
    num_zero: int = Field(0, ge=0, description="last steps without poke, for jump and linear")
    resize: Literal["antialiased", "opencv"] = Field(
        "antialiased", description="of images to animate; opencv: as the published models want it"
    )


class LossConfig(Config):
    """Weights of the generator's losses (section 4)."""

    perceptual: float = Field(5.0, ge=0, description="of the moved frames")
    latent: float = Field(0.1, ge=0, description="moved states against those of the true frames")
    single_stage: bool = Field(
        False, description="no static update: the moving loss trains the image encoder too"
    )
    moves_decoder: bool = Field(True, description="the moving loss trains the decoder too")
    static_epochs: int | None = Field(
        None, ge=0, description="static updates in the first epochs only; in all of them"
    )


class PatchConfig(Config):
    """Discriminator of single frames (section 2.4)."""

    start_step: int | None = Field(4000, ge=0, description="first step that uses it; null: never")
    width: int = Field(64, ge=1)
    num_layers: int = Field(3, ge=1, le=6)
    num_deep: int = Field(0, ge=0, le=4, description="further layers at the end (deep_layers)")
    num_frames: int = Field(
        16, ge=1, description="frames it sees per step, true ones and made ones"
    )
    weight: float = Field(1.0, ge=0)
    feature_matching: float = Field(0.0, ge=0)
    gradient_penalty: float = Field(1e-4, ge=0)


class TemporalConfig(Config):
    """Discriminator of clips (section 2.5)."""

    start_step: int | None = Field(4000, ge=0, description="first step that uses it; null: never")
    width: int = Field(64, ge=2, multiple_of=2)
    is_per_frame: bool = Field(False, description="one logit per frame, for clips of any length")
    sees_poke: bool = False
    weight: float = Field(5.0, ge=0)
    feature_matching: float = Field(10.0, ge=0)
    gradient_penalty: float = Field(0.1, ge=0)


class SequenceConfig(Config):
    """What the experiment `sequence` adds: clips whose length goes with the poke's (4.5, 7.4)."""

    min_frames: int = Field(5, ge=2, description="shortest clip; the longest is clips.num_frames")
    longest_weight: float = Field(20.0, gt=0, description="how much likelier the longest is")
    flow_cutoff: float = Field(
        0.4, ge=0, lt=1, description="flow, of the largest there is, that the longest clip needs"
    )


class AugmentConfig(Config):
    """Colour and place, one draw per clip (section 7.3)."""

    colour: float = Field(0.8, ge=0, le=1, description="probability of a change of colour")
    brightness: float = Field(0.4, ge=0, le=1, description="factor from 1-b to 1+b")
    contrast: float = Field(0.5, ge=0, le=1, description="factor from 1-c to 1+c")
    hue: float = Field(0.15, ge=0, le=0.5, description="shift in turns, from -h to h")
    saturation: float = Field(0.4, ge=0, le=1, description="factor from 1-s to 1+s")
    geometry: float = Field(0.8, ge=0, le=1, description="probability of a turn and a shift")
    rotation_deg: float = Field(15.0, ge=0, le=180, description="from -r to r")
    translation: float = Field(0.1, ge=0, le=0.5, description="of half the width, both ways")
    horizontal_flip: float = Field(0.0, ge=0, le=1, description="probability")


class PerceptualConfig(Config):
    """The network that the perceptual loss looks through."""

    backbone: Literal["vgg19", "efficientnet-lite0", "pixels"] = Field(
        "vgg19",
        description="vgg19: as published (downloaded); efficientnet-lite0 ships in a package; "
        "pixels: no network, their mean absolute difference",
    )
    frames: int | None = Field(
        None, ge=1, description="moved frames it compares per step; all, as published"
    )
    pixel_weight: float = Field(
        1.0, ge=0, description="of the pixels in the distance; vgg19 has its own"
    )


class FamilyConfig(Config):
    """Everything that decides a poke model."""

    experiment: Experiment = "fixed-length"
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig(save_every=1000, keep=10)
    log: LogConfig = LogConfig()
    clips: ClipsConfig = ClipsConfig()
    poke: PokeConfig = PokeConfig()
    model: ModelConfig = ModelConfig()
    losses: LossConfig = LossConfig()
    patch: PatchConfig = PatchConfig()
    temporal: TemporalConfig = TemporalConfig()
    sequence: SequenceConfig = SequenceConfig()
    perceptual: PerceptualConfig = PerceptualConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4)
    milestones: tuple[float, ...] = Field(
        (0.01, 0.025, 0.05), description="where the learning rate falls, of all epochs"
    )
    milestone_factor: float = Field(0.3, gt=0, le=1)
    decoder_rate_end: float = Field(
        1e-4, gt=0, description="the decoder's static learning rate, from decoder_rate_steps on"
    )
    decoder_rate_steps: int = Field(35_000, ge=1)
    batch_size: int = Field(10, ge=1)
    epochs: int = Field(1000, ge=1)

    @model_validator(mode="after")
    def _fits_together(self) -> FamilyConfig:
        _check_size(self.model, self.poke)
        zero = self.model.num_zero
        if zero >= self.clips.num_frames:
            raise ValueError("model.num_zero must be smaller than clips.num_frames")
        if self.experiment == "sequence":
            if not self.temporal.is_per_frame and self.temporal.start_step is not None:
                raise ValueError("experiment sequence needs temporal.is_per_frame=true")
            if self.sequence.min_frames > self.clips.num_frames:
                raise ValueError("sequence.min_frames must not exceed clips.num_frames")
        if self.flow_lag > self.clips.num_frames * self.clips.frame_step:
            raise ValueError("clips.flow_lag must not be longer than the clip")
        if self.temporal.sees_poke and not self.temporal.is_per_frame:
            raise ValueError("temporal.sees_poke needs temporal.is_per_frame=true")
        return self

    @property
    def flow_lag(self) -> int:
        """Stored frames from the first one to where the flow that pokes are read from ends."""
        return self.clips.flow_lag or self.clips.num_frames * self.clips.frame_step


def _check_size(model: ModelConfig, poke: PokeConfig) -> None:
    sizes = [model.smallest_px * 2**stages for stages in range(1, 8)]
    if not model.widths and model.size_px not in sizes:
        raise ValueError(
            "model.size_px must be 2, 4, 8 ... times model.smallest_px "
            f"({model.size_px}, {model.smallest_px})"
        )
    if model.widths and model.size_px // 2 ** len(model.widths) < 2:
        raise ValueError("model.widths has more stages than the image can be halved")
    if poke.patch_px * 4 > model.size_px:
        raise ValueError("poke.patch_px must be at most a quarter of model.size_px")


class TrainRequest(Config):
    """`i2v train poke`."""

    config: FamilyConfig
    stage: Stage = "1"
    data_root: AbsolutePath
    run_dir: AbsolutePath
    init_run: AbsolutePath | None = Field(None, description="start from these weights")
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps in all")


class Poke(Config):
    """A wish: what the image shows at (x, y) shall move by (dx, dy).

    In pixels of the image as it is given, or in fractions of its width and height.
    """

    x: float
    y: float
    dx: float
    dy: float
    is_fraction: bool = False


def read_poke(text: object) -> object:
    """A poke from 'x,y,dx,dy': whole numbers are pixels, numbers with a point are fractions.

    Raises ValueError for anything else; what is no text is handed back.
    """
    if not isinstance(text, str):
        return text
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 4 and all(_WHOLE.fullmatch(part) for part in parts):
        is_fraction = False
    elif len(parts) == 4 and all(_FRACTION.fullmatch(part) for part in parts):
        is_fraction = True
    else:
        raise ValueError(
            f"'{text}' is not x,y,dx,dy: four whole numbers for pixels of the image "
            "(120,80,30,-10), or four with a point for fractions of it (0.5,0.4,0.1,-0.05)"
        )
    x, y, dx, dy = map(float, parts)
    return {"x": x, "y": y, "dx": dx, "dy": dy, "is_fraction": is_fraction}


_WHOLE, _FRACTION = re.compile(r"[+-]?\d{1,6}"), re.compile(r"[+-]?\d?\.\d+")


class SampleRequest(Config):
    """`i2v sample poke`."""

    run_dir: AbsolutePath
    images: tuple[AbsolutePath, ...] = ()
    out_dir: AbsolutePath
    test_clips: int | None = Field(
        None, ge=16, description="in place of images: so many clips of the run's test data, poked"
        " by their flow, stored as the published evaluation does (976)",
    )  # fmt: skip
    data_root: AbsolutePath | None = Field(None, description="prepared data, for test_clips")
    pokes: tuple[Annotated[Poke, BeforeValidator(read_poke)], ...] = Field(
        (), max_length=16, description="all of them at once"
    )
    flow: AbsolutePath | None = Field(
        None, description="file of flow that pokes are drawn from: .flo, .npy, .png"
    )
    num: int = Field(3, ge=1, le=256, description="videos per image, where pokes are drawn")
    sweep: int | None = Field(None, ge=2, le=64, description="so many directions of one poke")
    frames: int | None = Field(None, ge=1, le=1024, description="as many as in training")
    fit: Literal["squash", "center-crop", "pad"] = "squash"
    fps: float = Field(5.0, gt=0, le=120)
    seed: int = Field(0, ge=0)
    device: str = "auto"
    engine: Engine = Field("local", description="what spreads the videos: local, ray or slurm")
    parts: Parts = 8
    shard: Shard | None = Field(
        None, description="i/n: only every n-th video, from number i; a last call finishes"
    )

    @model_validator(mode="after")
    def _one_source(self) -> SampleRequest:
        if bool(self.images) == bool(self.test_clips):
            raise ValueError("give --image FILE, or test_clips=976 for the run's test data")
        if self.test_clips and (self.pokes or self.flow or self.sweep or self.shard):
            raise ValueError("test_clips are poked by their own flow, all in one go")
        if self.pokes and self.flow:
            raise ValueError("pokes are given or drawn from a flow file, not both")
        if self.sweep and len(self.pokes) > 1:
            raise ValueError("a sweep turns one poke: give one, or none")
        return self


_MODEL = ("config.data.*", "config.train.seed", "config.experiment", "config.clips.*")
FIXED_SETTINGS: dict[Stage, tuple[str, ...]] = {
    "1": (
        *_MODEL,
        "config.poke.*",
        "config.model.*",
        "config.patch.*",
        "config.temporal.*",
        "config.losses.*",
        "config.perceptual.*",
        "config.batch_size",
    ),
}
"""Settings of a train request that a continued training must keep ..."""
FREE_SETTINGS = ("*.weight", "*.feature_matching", "*.gradient_penalty", "config.losses.*")
"""... but for these, which only decide how it goes on."""
