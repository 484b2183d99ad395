from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.motion.train import train
from tests.pipelines.motion import tiny


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with data/, fomm/ and a run of each kind, six steps each; for reading only."""
    root = tmp_path_factory.mktemp("motion")
    tiny.prepare(root)
    for kind in tiny.KINDS:
        train(tiny.request(root, kind), tiny.Heard())
    return root
