"""One file of published layout for all tests: they are large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.flownet2.estimate import FlowNet2Estimator
from tests.pipelines.flownet2.weights import published_state, write_published


@pytest.fixture(scope="session")
def flownet2_c_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file like FlowNet2-C_checkpoint.pth.tar."""
    path = tmp_path_factory.mktemp("weights") / "c.pth.tar"
    yield write_published(path, published_state("flownet2-c"))
    path.unlink()


@pytest.fixture(scope="session")
def estimator(flownet2_c_path: Path) -> FlowNet2Estimator:
    return FlowNet2Estimator(flownet2_c_path)
