from __future__ import annotations

from tests.pipelines.engines.clusters import array, cluster

__all__ = ["array", "cluster"]
