"""Settings: how they are read, which layer wins, and how a wrong one is named."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from i2v_cli import presets
from i2v_cli.registry import FAMILIES
from pipelines.cinn.config import FamilyConfig, TransferRequest
from pipelines.events import UserError


def _resolved(*overrides: str) -> Any:
    return presets.resolve(FamilyConfig, [presets.from_overrides(FamilyConfig, overrides)], who="x")


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("stage1.weight_kl=1e-5", "stage1.weight_kl", 1e-5),
        ("stage1.epochs=3", "stage1.epochs", 3),
        ("stage2.is_controlled=true", "stage2.is_controlled", True),
        ("data.dataset=2024", "data.dataset", "2024"),
        ("data.dataset=on", "data.dataset", "on"),
        ("data.dataset=a=b", "data.dataset", "a=b"),
        ("data.variant=null", "data.variant", None),
        ("data.variant=64px", "data.variant", "64px"),
        ("data.include=[clouds/*, 'fire/*']", "data.include", ("clouds/*", "fire/*")),
        ("stage1.decoder_upsample_space=[1, 2]", "stage1.decoder_upsample_space", (1, 2)),
        ("stage1.optimizer={beta1: 0.3}", "stage1.optimizer.beta1", 0.3),
        ("train.threads=", "train.threads", None),
    ],
)
def test_values_are_read_as_yaml_unless_the_setting_is_text(
    text: str, path: str, value: object
) -> None:
    found = _resolved(text)
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_the_last_of_two_settings_of_one_name_wins() -> None:
    assert _resolved("stage1.epochs=3", "stage1.epochs=4").stage1.epochs == 4


def test_settings_of_one_section_add_up() -> None:
    optimizer = _resolved("ae.optimizer.beta1=0.1", "ae.optimizer.beta2=0.2").ae.optimizer
    assert (optimizer.beta1, optimizer.beta2) == (0.1, 0.2)


def test_a_wrong_setting_is_named_by_the_layer_that_won(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("stage1: {epochs: -1}\n")
    layers = [presets.from_file(file), presets.from_overrides(FamilyConfig, ["stage1.epochs=-2"])]
    with pytest.raises(UserError, match=r"^stage1.epochs=-2$"):
        presets.resolve(FamilyConfig, layers, who="cinn")
    with pytest.raises(UserError, match=r"mine.yaml: stage1.epochs$"):
        presets.resolve(FamilyConfig, layers[:1], who="cinn")


def test_an_option_that_a_family_lacks_is_named_with_those_it_has() -> None:
    options = presets.from_options({"poke": ("--poke", "1,2"), "frames": ("--frames", None)})
    with pytest.raises(UserError, match=r"^cinn has no option --poke$") as raised:
        presets.resolve(TransferRequest, [options], who="cinn")
    assert raised.value.details == {"its options": "--frames"}
    assert raised.value.exit_code == 2


def test_many_wrong_settings_are_counted() -> None:
    overrides = [f"stage1.wrong{number}=1" for number in range(12)]
    with pytest.raises(UserError, match=r"^12 settings are wrong$") as raised:
        _resolved(*overrides)
    assert raised.value.details[""] == "and 4 more"


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text(f"a: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    with pytest.raises(UserError, match="not a YAML file"):
        presets.from_file(file)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("family", [name for name, row in FAMILIES.items() if row.is_built])
def test_every_shipped_preset_fits_its_family(family: str) -> None:
    model = presets.find_class(f"{FAMILIES[family].package}.config:FamilyConfig")
    assert presets.available(family)
    for name in presets.available(family):
        presets.resolve(model, [presets.from_preset(family, name)], who=family)


@pytest.mark.parametrize("family", [name for name, row in FAMILIES.items() if row.is_built])
def test_every_family_says_what_a_continued_training_may_change(family: str) -> None:
    config = importlib.import_module(f"{FAMILIES[family].package}.config")
    assert set(config.FIXED_SETTINGS) == set(FAMILIES[family].stages)
    assert all(isinstance(pattern, str) for pattern in config.FREE_SETTINGS)


def test_differences_are_found_in_every_section() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    new = {"a": {"b": 2, "c": [1, 2]}, "e": 3}
    assert presets.differences(old, new) == {"a.b": (1, 2), "d": (3, None), "e": (None, 3)}
