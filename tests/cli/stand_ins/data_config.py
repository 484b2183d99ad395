"""Stands in for pipelines/datasets/config.py: the same names, any kind of clip."""

from __future__ import annotations

from pydantic import Field

from pipelines.schema import AbsolutePath, Config


class DownloadRequest(Config):
    """Of `i2v download`."""

    dataset: str
    data_root: AbsolutePath
    kinds: tuple[str, ...] = ()
    preset: str = "default"
    size_px: int = Field(64, ge=32, le=512, multiple_of=16)
    seed: int = Field(0, ge=0)
    jobs: int = Field(1, ge=1)
    force: bool = False


class ExtractRequest(Config):
    """Of `i2v extract-frames`."""

    data_root: AbsolutePath
    name: str
    source: AbsolutePath | None = None
    kind: str = "custom"
    size_px: int = Field(64, ge=8)
    jobs: int = Field(1, ge=1)


class InspectRequest(Config):
    """Of `i2v data`."""

    data_root: AbsolutePath
    name: str | None = None
    variant: str | None = None
    out_path: AbsolutePath | None = None
