"""Settings of the motion family; the defaults are the published values (spec: completion, H)."""

from __future__ import annotations

from pydantic import Field

from pipelines.schema import Config


class WganConfig(Config):
    """Adversarial motion model (H.2)."""

    noise_size: int = Field(40, ge=1, description="random numbers per frame")
    encoded_size: int = Field(40, ge=1, description="numbers an end frame is encoded to")
    hidden_size: int = Field(256, ge=1)
    weight_gradient_penalty: float = Field(10.0, ge=0)


class AutoregressiveConfig(Config):
    """Frame-by-frame motion model (H.3)."""

    hidden_size: int = Field(256, ge=1)
