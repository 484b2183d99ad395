from __future__ import annotations

import pytest

from pipelines.io.packed import PackedVideos
from tests.pipelines.clips import prepared


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> PackedVideos:
    return prepared.prepare(tmp_path_factory.mktemp("data") / "toy" / "prepared" / "4px")
