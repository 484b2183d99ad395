from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.cinn.train import train
from tests.pipelines.cinn import tiny


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with data/ and runs/{1,ae,2}: all stages trained for six steps without a break.

    For reading only; a test that changes something works on a copy.
    """
    root = tmp_path_factory.mktemp("trained")
    tiny.prepare_squares(root / "data")
    for stage in ("1", "ae", "2"):
        train(tiny.request(root, stage, max_steps=6), tiny.Heard())
    return root
