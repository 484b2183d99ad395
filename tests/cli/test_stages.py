"""Which stages a model has, and what a training therefore suggests as the next command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from i2v_cli import presets
from i2v_cli.commands import import_
from i2v_cli.registry import FAMILIES
from i2v_cli.training import Choices, decide, stages_of
from pipelines.events import EXIT_USAGE, UserError

TRAINED = [name for name, row in FAMILIES.items() if row.is_built and "train" in row.verbs]


@pytest.mark.parametrize("family", TRAINED)
def test_every_preset_has_stages_of_its_family_in_their_order(family: str) -> None:
    row = FAMILIES[family]
    model = presets.find_class(f"{row.package}.config:FamilyConfig")
    for preset in presets.available(family):
        layers = presets.stack(model, options={}, preset=preset, presets_of=family)
        stages = stages_of(row, presets.resolve(model, layers, who=family))
        assert stages
        assert list(stages) == [each for each in row.stages if each in stages]


def test_a_training_suggests_the_next_stage_only_where_the_model_has_one(here: Path) -> None:
    net = decide(Choices("behavior", stage="1", preset="h36m"))
    assert net.next_command == "i2v train behavior --stage 2 --preset h36m"
    baseline = decide(Choices("behavior", stage="1", preset="h36m_mtvae"))
    name = "behavior-stage1-h36m_mtvae"
    assert baseline.next_command == f"i2v sample behavior --run {name} --target POSES"
    overridden = decide(Choices("behavior", stage="1", overrides=("stage1.kind=mt-vae",)))
    assert overridden.next_command.startswith("i2v sample behavior --run behavior-stage1-h36m ")


def test_a_model_of_one_stage_needs_no_option_for_it(here: Path) -> None:
    found = decide(Choices("behavior", preset="h36m_mtvae"))
    assert found.plan.request.model_dump()["stage"] == "1"
    with pytest.raises(UserError, match="missing option --stage"):
        decide(Choices("behavior", preset="h36m"))


def test_a_stage_that_only_other_models_of_the_family_have_is_refused(here: Path) -> None:
    with pytest.raises(UserError, match="no stage '2' with these settings") as caught:
        decide(Choices("behavior", stage="2", preset="h36m_mtvae"))
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.details["there are"] == "1"


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("h36m", "i2v train behavior --stage 2 --stage1-run net"),
        ("h36m_mtvae", "i2v sample behavior --run net --target POSES"),
    ],
)
def test_an_import_suggests_the_next_stage_only_where_the_model_has_one(
    here: Path, preset: str, expected: str
) -> None:
    run_dir = here / "runs" / "net"
    run_dir.mkdir(parents=True)
    config = decide(Choices("behavior", stage="1", preset=preset)).plan.request.model_dump(
        mode="json"
    )["config"]
    (run_dir / "config.yaml").write_text(yaml.safe_dump({"config": config}))
    record = {"family": "behavior", "stage": "1", "version": "0", "status": "done"}
    (run_dir / "run.json").write_text(json.dumps(record))
    assert import_._next_command("behavior", "1", run_dir) == expected
