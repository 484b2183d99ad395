from __future__ import annotations

from tests.pipelines.engines.clusters import array, cluster, engine

__all__ = ["array", "cluster", "engine"]
