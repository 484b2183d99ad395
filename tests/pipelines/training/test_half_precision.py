"""Every family and stage that the registry trains also trains in 16 bits, or says why not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from i2v_cli.registry import FAMILIES
from pipelines.events import UserError, Work
from tests.pipelines.training.test_processes import STAGES, found, prepare, tiny_request

HAS_3D_CONVOLUTIONS = {("cinn", "1"), ("poke", "1"), ("inbetween", "1")}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each family, filled when its first stage is trained."""
    root = tmp_path_factory.mktemp("half")
    return {family: root / family for family, _ in STAGES}


@pytest.mark.parametrize(("family", "stage"), STAGES)
def test_a_training_in_bfloat16_stays_finite_or_is_refused(
    homes: dict[str, Path], family: str, stage: str
) -> None:
    home = homes[family]
    if not home.exists():
        prepare(family, home)
    request = tiny_request(family, home, stage)
    train = found(FAMILIES[family].target("train").function)
    train(request, Work())  # for the stages that are built on it
    settings = request.config.train.model_copy(update={"precision": "bf16"})
    config = request.config.model_copy(update={"train": settings})
    request = request.model_copy(update={"config": config, "run_dir": home / "half" / stage})
    if (family, stage) in HAS_3D_CONVOLUTIONS:
        with pytest.raises(UserError, match="no bf16 on a CPU"):
            train(request, Work())
        return
    result = train(request, Work())
    assert result["step"] == 3
    assert all(math.isfinite(value) for value in result["validation"].values())
