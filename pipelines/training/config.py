"""The request of `i2v import`, the same for every family. Light: pydantic only."""

from __future__ import annotations

from pydantic import Field

from pipelines.schema import AbsolutePath, Config


class ImportRequest(Config):
    """`i2v import FAMILY PATH`: published checkpoints become a run folder, once."""

    path: AbsolutePath = Field(description="folder, or a file in it, of the published checkpoints")
    run_dir: AbsolutePath
    trust_checkpoint: bool = Field(
        False, description="also read files that hold more than weights, which can run any program"
    )
