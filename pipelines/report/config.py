"""The request of `i2v report`. Light: pydantic only."""

from __future__ import annotations

from pydantic import Field

from pipelines.schema import AbsolutePath, Config


class ReportRequest(Config):
    """`i2v report RUN`."""

    run_dir: AbsolutePath
    out_dir: AbsolutePath | None = Field(
        None,
        description="folder to write; an older report there is replaced; RUN/report if not given",
    )
    max_scenes: int = Field(24, ge=1, le=1000, description="start images shown")
    max_samples: int = Field(8, ge=1, le=100, description="samples shown per start image")
