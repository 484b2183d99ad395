"""Every row of the registry that is built keeps what its kind of row promises."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from i2v_cli.environment_plan import locked_versions
from i2v_cli.registry import DATASETS, ENVS, EXTRAS, FAMILIES, METRICS, Family

ROOT = Path(__file__).resolve().parents[2]
BUILT_FAMILIES = {name: row for name, row in FAMILIES.items() if row.is_built}
PRESETS = [
    (name, path)
    for name in BUILT_FAMILIES
    for path in sorted((ROOT / "conf" / name).glob("*.yaml"))
]


def found(dotted: str) -> Any:
    """What 'package.module:name' names."""
    module, name = dotted.split(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("row", "verb"),
    [(row, verb) for row in BUILT_FAMILIES.values() for verb in row.verbs],
    ids=lambda value: value if isinstance(value, str) else value.package,
)
def test_a_family_offers_each_of_its_verbs(row: Family, verb: str) -> None:
    target = row.target(verb)
    request, function = found(target.request), found(target.function)
    assert issubclass(request, BaseModel)
    assert len(inspect.signature(function).parameters) == 2, "a target takes (request, work)"
    assert target.env in ENVS


@pytest.mark.parametrize(
    ("family", "path"), PRESETS, ids=[f"{family}/{path.stem}" for family, path in PRESETS]
)
def test_a_preset_is_valid_and_says_what_it_is_for_and_how_to_run_it(
    family: str, path: Path
) -> None:
    text = path.read_text(encoding="utf-8")
    config = found(f"{FAMILIES[family].package}.config:FamilyConfig")
    config.model_validate(yaml.safe_load(text))
    head = text.split("\n\n")[0]
    assert text.startswith("# ")
    for word in ("Needs:", "Run:"):
        assert word in head, f"the head of {path.name} lacks '{word}'"


def test_every_built_family_has_a_preset() -> None:
    assert {family for family, _ in PRESETS} == set(BUILT_FAMILIES)


@pytest.mark.parametrize("name", [name for name, row in DATASETS.items() if row.is_built])
def test_a_dataset_says_what_it_is_and_finds_its_videos(name: str) -> None:
    module = importlib.import_module(DATASETS[name].module)
    assert module.SPEC.licence
    assert next(iter(inspect.signature(module.layout).parameters)) == "raw"


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.is_built])
def test_a_metric_can_be_built_and_has_no_numbers_without_videos(name: str) -> None:
    metric = importlib.import_module(METRICS[name].module).build()
    assert callable(metric.add) and callable(metric.results)
    assert all(isinstance(each, str) for each in metric.extractors)


@pytest.mark.parametrize("name", list(EXTRAS))
def test_what_an_extra_shares_with_an_environment_is_of_the_same_version(name: str) -> None:
    locks = {each: (ROOT / "envs" / f"{each}.lock").read_text("utf-8") for each in (*ENVS, name)}
    own = locked_versions(locks.pop(name))
    assert own
    for lock in locks.values():
        theirs = locked_versions(lock)
        assert {each: theirs[each] for each in own.keys() & theirs.keys()} == {
            each: own[each] for each in own.keys() & theirs.keys()
        }


@pytest.mark.parametrize("name", list(ENVS))
def test_an_environment_has_a_list_of_wishes_and_a_lock_without_addresses(name: str) -> None:
    wishes = (ROOT / "envs" / f"{name}.in").read_text(encoding="utf-8")
    lock = (ROOT / "envs" / f"{name}.lock").read_text(encoding="utf-8")
    assert "pydantic" in wishes
    assert "--hash=sha256:" in lock
    assert "://" not in lock
