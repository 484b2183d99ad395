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


@pytest.fixture(scope="session")
def baseline(trained: Path) -> Path:
    """A tiny MT-VAE, trained on the same takes for four steps: its run folder."""
    request = tiny.request(
        trained,
        "1",
        config=tiny.changed(stage1={"kind": "mt-vae"}),
        run_dir=trained / "runs" / "mt-vae",
        max_steps=4,
    )
    train(request, tiny.Heard())
    return request.run_dir
