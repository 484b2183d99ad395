"""Base classes of all configs and requests. Light: pydantic only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue


class Config(BaseModel):
    """A frozen record of settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
"""A path that no longer depends on the folder a command was typed in."""


class DataConfig(Config):
    """Which prepared frames a model is trained on (specs: one prepared variant of one dataset)."""

    dataset: str = Field("synthetic", description="name of a folder under the data root")
    variant: str | None = Field(
        None, description="prepared variant, such as 64px; the only one when not given"
    )
    include: tuple[str, ...] = Field(
        ("*",), description="patterns of video ids to use, such as 'clouds/*'"
    )


class OptimizerConfig(Config):
    """Adam, as every published system here uses it."""

    learning_rate: float = Field(2e-4, gt=0, description="step size")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, description="L2 form, added to the gradient")
    amsgrad: bool = False


class TrainConfig(Config):
    """What the shared training loop needs, the same for every family."""

    seed: int = Field(42, ge=0, description="every random draw derives from it")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="auto, cpu, cuda, cuda:N, mps"
    )
    devices: tuple[Annotated[str, Field(pattern=r"^(cpu|cuda:\d+)$")], ...] = Field(
        (), description="one process on each of these, which share every batch; overrides device"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of the math library")
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "tf32", description="of products and convolutions; tf32 differs on NVIDIA cards alone"
    )
    compile: bool = Field(False, description="compile the networks; needs a C++ compiler")
    channels_last: bool = Field(False, description="keep convolutions' weights channels last")
    checkpointing: bool = Field(
        False, description="compute blocks again in the backward pass instead of keeping them"
    )
    accumulate: int = Field(
        1, ge=1, description="parts that a batch is taken in, one after the other, for less memory"
    )
    log_every: int = Field(10, ge=1, description="steps between metric records")
    save_every: int = Field(500, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, description="newest checkpoints kept on disk")


class LogConfig(Config):
    """Where a training's curves, pictures and videos are shown besides its own record."""

    tensorboard: bool = Field(True, description="write TensorBoard's files into the run folder")
    wandb: bool = Field(False, description="send to Weights & Biases; needs the package wandb")
    wandb_project: str = Field("i2v", min_length=1, description="project there")


class Job(Config):
    """What a worker is asked to do: written by the command line, read by pipelines/worker.py."""

    version: Literal[1] = 1
    verb: str = Field(description="the command the user typed, for messages and the log")
    target: str = Field(description="function to call, 'package.module:name'")
    config_class: str = Field(description="class that validates `config`, 'package.module:Name'")
    config: dict[str, JsonValue] = Field(description="the resolved request")
    record_dir: AbsolutePath = Field(description="folder of log.txt, events.jsonl, result.json")
