from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.shape_pose.train import train
from tests.pipelines.shape_pose import tiny


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared pictures and a tiny renderer, trained for six steps."""
    root = tmp_path_factory.mktemp("shape-pose")
    tiny.prepare(root / "data")
    train(tiny.request(root), tiny.Heard())
    return root
