"""Stands in for pipelines/report/config.py."""

from __future__ import annotations

from pipelines.schema import AbsolutePath, Config


class ReportRequest(Config):
    """Of `i2v report`."""

    run_dir: AbsolutePath
    out_dir: AbsolutePath
