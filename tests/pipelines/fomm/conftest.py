from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.fomm.train import train
from tests.pipelines.fomm import tiny


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with data/ and run/, trained for six steps without a break; for reading only."""
    root = tmp_path_factory.mktemp("trained")
    tiny.prepare_squares(root / "data")
    train(tiny.request(root, max_steps=6), tiny.Heard())
    return root
