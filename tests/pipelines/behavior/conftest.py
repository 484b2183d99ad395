from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.behavior.train import train
from tests.pipelines.behavior import tiny


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared takes, and both stages of a tiny model, trained for six steps."""
    root = tmp_path_factory.mktemp("behavior")
    tiny.prepare(root / "data")
    for stage in ("1", "2"):
        train(tiny.request(root, stage, max_steps=6), tiny.Heard())
    return root
