"""Settings of the behavior family; the defaults are the published values (spec: behavior, 2, 3, 7).

Settings keep their published meaning; where the published name says nothing it is in brackets.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipelines.engines.config import Engine, Parts, Shard
from pipelines.schema import (
    AbsolutePath,
    Config,
    DataConfig,
    LogConfig,
    OptimizerConfig,
    TrainConfig,
)

Stage = Literal["1", "2"]
View = Literal["front", "side", "above", "camera"]

POSE_FORMATS = """\
Where a pose or a sequence of poses is asked for, one of these:
  FILE.npz           an array joints_world_m, joints_h36m, joints or poses, T x joints x axes, and
                     maybe fps; a raw generated video or what i2v sample wrote
  FILE.npy           T x joints x axes, or T x numbers
  FILE.json          {"joints": [[[x, y, z], ...], ...], "unit": "m", "fps": 25}; or the list alone
  FILE.csv           a line per frame, all numbers of its pose
  IMAGE or VIDEO     with such a file of the same name beside it
  DATASET:VIDEO      a video of prepared data, such as h36m:S9/Walking-1/54138969
An @N behind it starts at frame N. The 17 joints are those of Human3.6M in this order: right hip,
knee, foot, left hip, knee, foot, spine, thorax, neck, nose, head, left shoulder, elbow, wrist,
right shoulder, elbow, wrist; in metres of the room (z up), or, for a model of two axes, fractions
of the picture's width and height."""


class PosesConfig(Config):
    """Which poses are learned, and which clips of them."""

    array: str = Field(
        "joints_world_m",
        pattern=r"^joints\w*$",
        description="per-frame array of the prepared data: joints_world_m, joints_h36m, joints",
    )
    num_frames: int = Field(
        50, ge=4, le=1024, description="of a clip, after its first (seq_length)"
    )
    lag: int = Field(2, ge=1, le=64, description="stored frames from one to the next")
    one_camera: bool = Field(True, description="of several cameras the one of smallest number only")
    scale_from: Literal["all", "train"] = Field(
        "all", description="people whose mean and spread scale the poses; published: all of them"
    )


class BehaviorNetConfig(Config):
    """Encoder of behaviour and decoder of poses (2.1)."""

    pose_size: int = Field(51, ge=1, description="numbers per pose: three per joint")
    code_size: int = Field(1024, ge=2, description="numbers of a behaviour (dim_hidden_b)")
    has_input_layer: bool = Field(
        False, description="a linear layer before the decoder's cell (linear_in_decoder)"
    )


class MtVaeConfig(Config):
    """The baseline MT-VAE (2.7, 3.5)."""

    width: int = Field(1024, ge=2)
    code_size: int = Field(512, ge=2)
    num_condition: int = Field(10, ge=2, description="frames that are given (n_cond)")
    num_velocities: int = Field(8, ge=1, description="frames whose velocity counts (k_vel)")
    weight_motion: float = Field(10.0, ge=0)
    weight_cycle: float = Field(10.0, ge=0)
    kl_first: float = Field(1e-5, ge=0, description="weight of the KL term in the first epoch")


class BehaviorFlowConfig(Config):
    """Normalizing flow over behaviour codes (2.2)."""

    num_flows: int = Field(15, ge=1)
    hidden_width: int = Field(2048, ge=1)
    hidden_depth: int = Field(2, ge=0)


class BehaviorLossConfig(Config):
    """Stage 1 (3.1)."""

    weight_reconstruction: float = Field(2.5, ge=0)
    weight_regressor: float = Field(0.01, ge=0)
    regressor_bounds: tuple[float, float] = Field(
        (0.45, 0.7), description="errors of the posture regressor above these count no more"
    )
    regressor_steps: int = Field(5, ge=1, description="of the posture regressor in each step")


class KlControlConfig(Config):
    """How the weight of a KL term follows the KL (kl_control.py; spec: behavior, 3.1)."""

    initial: float = Field(0.0, ge=0, description="first weight (gamma_init)")
    step: float = Field(1e-5, ge=0, description="of the weight per nat and step (gamma_step)")
    largest_information: float = Field(
        100.0, ge=0, description="nats; the weight grows above it (information_max)"
    )
    scaling: Literal["none", "ascend", "descend"] = Field(
        "none", description="how that bound changes over the epochs (imax_scaling)"
    )
    is_fixed: bool = Field(False, description="a plain VAE, weight 1 (cvae)")


class AuxiliaryConfig(Config):
    """Networks that watch the training and do not take part in it (2.3)."""

    classifiers: bool = Field(True, description="train the three classifiers of actions")
    width: int = Field(512, ge=4, description="of the action classifier")


class Stage1Config(Config):
    """The behavior net, or the baseline in its place."""

    kind: Literal["behavior-net", "mt-vae"] = "behavior-net"
    net: BehaviorNetConfig = BehaviorNetConfig()
    mtvae: MtVaeConfig = MtVaeConfig()
    losses: BehaviorLossConfig = BehaviorLossConfig()
    kl: KlControlConfig = KlControlConfig()
    auxiliary: AuxiliaryConfig = AuxiliaryConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4)
    milestones: tuple[float, ...] = Field(
        (0.2, 0.45, 0.7), description="parts of all epochs after which the rate falls (tau)"
    )
    milestone_factor: float = Field(0.3, gt=0, le=1, description="how much it falls (gamma)")
    batch_size: int = Field(64, ge=2)
    epochs: int = Field(50, ge=1)
    tuning_epochs: int = Field(
        11, ge=0, description="last epochs, in which the net itself learns no more"
    )
    score: Literal["none", "reconstruction"] = Field(
        "none", description="error of held-out clips whose smallest value names the best checkpoint"
    )


class Stage2Config(Config):
    """The flow over the codes of a stage 1."""

    flow: BehaviorFlowConfig = BehaviorFlowConfig()
    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=2.88e-5, beta1=0.5, beta2=0.9
    )  # 4.5e-7 for each clip of a batch, as published
    batch_size: int = Field(64, ge=2)
    epochs: int = Field(50, ge=1)
    score: Literal["none", "nll"] = Field(
        "none", description="of held-out clips, whose smallest value names the best checkpoint"
    )


class FamilyConfig(Config):
    """Everything that decides a behaviour model, both stages."""

    data: DataConfig = DataConfig(dataset="h36m", variant="poses")
    poses: PosesConfig = PosesConfig()
    train: TrainConfig = TrainConfig()
    log: LogConfig = LogConfig()
    stage1: Stage1Config = Stage1Config()
    stage2: Stage2Config = Stage2Config()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those that a model of these settings has: an MT-VAE's codes are normal by themselves."""
        return ("1",) if self.stage1.kind == "mt-vae" else ("1", "2")

    @model_validator(mode="after")
    def _fits(self) -> FamilyConfig:
        stage1, given = self.stage1, self.stage1.mtvae.num_condition
        if stage1.kind == "mt-vae" and self.poses.num_frames + 1 <= given:
            raise ValueError(
                "poses.num_frames must exceed stage1.mtvae.num_condition "
                f"({self.poses.num_frames} <= {given})"
            )
        if stage1.net.code_size % 2:
            raise ValueError(f"stage1.net.code_size must be even, not {stage1.net.code_size}")
        return self


class TrainRequest(Config):
    """`i2v train behavior`."""

    config: FamilyConfig
    stage: Stage
    data_root: AbsolutePath
    run_dir: AbsolutePath
    stage1_run: AbsolutePath | None = Field(None, description="stage 2 only")
    init_run: AbsolutePath | None = Field(None, description="start from these weights")
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps in all")


class _MakingRequest(Config):
    """What sampling and transfer share."""

    run_dir: AbsolutePath
    data_root: AbsolutePath
    out_dir: AbsolutePath
    frames: int = Field(50, ge=1, le=4096, description="poses per video; more than trained is fine")
    fps: float | None = Field(None, gt=0, le=120, description="as the poses were learned")
    seed: int = Field(0, ge=0)
    view: View = Field("front", description="where poses in space are looked at from")
    size_px: int = Field(128, ge=32, le=1024, description="height and width of skeleton videos")
    appearance: str | None = Field(None, description="image of the person to be shown")
    render_run: AbsolutePath | None = Field(None, description="run of shape-pose that renders")
    device: str = "auto"

    @model_validator(mode="after")
    def _has_both(self) -> _MakingRequest:
        if (self.appearance is None) != (self.render_run is None):
            raise ValueError("rendering needs both an appearance and a render_run")
        return self


class SampleRequest(_MakingRequest):
    """`i2v sample behavior`: many futures of start postures. target: see POSE_FORMATS."""

    target: tuple[str, ...] = Field(min_length=1, description="poses to start from")
    num: int = Field(6, ge=1, le=256, description="different futures per posture")
    prior: Literal["flow", "normal"] = Field(
        "flow",
        description="where codes come from; normal: without the flow, as an MT-VAE always does",
    )
    temperature: float = Field(1.0, ge=0, le=10, description="scale of the random numbers")
    engine: Engine = Field("local", description="what spreads the motions: local, ray or slurm")
    parts: Parts = 8
    shard: Shard | None = Field(
        None, description="i/n: only every n-th motion, from number i; a last call finishes"
    )


class TransferRequest(_MakingRequest):
    """`i2v transfer behavior`: what is done in a source, from another posture."""

    source: tuple[str, ...] = Field(
        min_length=1, max_length=2, description="poses whose behaviour is taken; of two: both"
    )
    target: tuple[str, ...] = Field(min_length=1, description="poses to start from")
    num_steps: int = Field(6, ge=2, le=64, description="from one source's behaviour to the other's")
    path: Literal["arc", "line"] = Field("arc", description="between two behaviours")
    draw: bool = Field(False, description="draw the behaviour's code instead of taking its mean")

    @field_validator("source")
    @classmethod
    def _two_are_different(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(texts)) < len(texts):
            raise ValueError("two sources to go between must differ")
        return texts


_MODEL = ("config.data.*", "config.poses.*", "config.train.seed")
FIXED_SETTINGS: dict[Stage, tuple[str, ...]] = {
    "1": (*_MODEL, "config.stage1.*"),
    "2": (*_MODEL, "config.stage1.*", "config.stage2.*"),
}
"""Settings of a train request that a continued training of a stage must keep ..."""
FREE_SETTINGS = (
    *("*.epochs", "*.tuning_epochs", "*.optimizer.*", "*.weight_*", "*.milestone*"),
    *("*.kl.step", "*.kl.largest_information", "*.score"),
)
"""... but for these, which only decide how it goes on."""
