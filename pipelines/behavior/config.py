"""Settings of the behavior family; the defaults are the published values (spec: behavior, 2, 3)."""

from __future__ import annotations

from pydantic import Field

from pipelines.schema import Config


class BehaviorNetConfig(Config):
    """Encoder of behaviour and decoder of poses (2.1)."""

    pose_size: int = Field(51, ge=1, description="numbers per pose: three per joint")
    code_size: int = Field(1024, ge=2)
    has_input_layer: bool = Field(False, description="a linear layer before the decoder's cell")


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


class KlControlConfig(Config):
    """How the weight of the KL term follows the KL (3.1)."""

    initial: float = Field(0.0, ge=0)
    step: float = Field(1e-5, ge=0)
    largest_information: float = Field(100.0, ge=0, description="nats; the weight grows above it")
