"""What a training is, decided from a command line and from what is in its run folder already."""

from __future__ import annotations

import importlib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from i2v_cli import locations, names, options, presets, run_folders
from i2v_cli.console import bullet_list, short
from i2v_cli.jobs import Input, Plan
from i2v_cli.registry import DATASETS, FAMILIES, Family
from i2v_cli.run_folders import Run
from pipelines.engines.config import place_in
from pipelines.events import EXIT_USAGE, UserError
from pipelines.files import safe_name


@dataclass(frozen=True)
class Choices:
    """What a command line says about a training, before anything is looked up.

    earlier: stage -> name or path of the run it is taken from, where the user named one.
    built_on: the same for runs of other families, by the field of the request.
    """

    family: str
    stage: str | None = None
    dataset: str | None = None
    preset: str | None = None
    config_file: str | None = None
    overrides: Sequence[str] = ()
    name: str | None = None
    is_resume: bool = False
    is_overwrite: bool = False
    earlier: Mapping[str, str | None] = field(default_factory=dict)
    init_run: str | None = None
    built_on: Mapping[str, str | None] = field(default_factory=dict)
    keypoints: str | None = None
    max_steps: int | None = None
    seed: int | None = None
    device: str | None = None
    devices: str | None = None


@dataclass(frozen=True)
class Training:
    """A training that is decided: the job, and what it finds in its run folder."""

    family: str
    plan: Plan
    run_dir: Path
    existing: Run | None
    is_replacing: bool
    is_finished: bool
    next_command: str


def decide(choices: Choices) -> Training:
    """Resolve names and settings, and look at what is in the run folder already."""
    family = names.choose("family", choices.family, FAMILIES)
    config = _config(choices, family, stored=None)
    stage = _choose_stage(choices, stages_of(family, config))
    tag = _tag(choices, config)
    run_dir = locations.runs_root() / _run_name(choices, stage, tag)
    existing = None if choices.is_overwrite else run_folders.read(run_dir)
    if choices.is_resume:
        config = _config(choices, family, stored=_stored_config(existing, run_dir))
    changes: dict[str, tuple[Any, Any]] = {}
    if existing:
        _refuse_other_stage(choices, stage, existing)
        changes = _changes(choices, family, stage, existing, config)
        _refuse_fixed_changes(family, stage, existing, changes)
    plan = _plan(choices, family, stage, config=config, run_dir=run_dir, tag=tag, kept=existing)
    is_same = existing is not None and existing.request.get("max_steps") == choices.max_steps
    return Training(
        family=choices.family,
        plan=plan,
        run_dir=run_dir,
        existing=existing,
        is_replacing=choices.is_overwrite and run_folders.is_run(run_dir),
        is_finished=existing is not None and existing.status == "done" and is_same and not changes,
        next_command=_next_command(choices, family, config, stage, run_dir.name, tag),
    )


def stages_of(family: Family, config: BaseModel) -> tuple[str, ...]:
    """The stages, in order, that a model of these settings has: all of its family's, or fewer."""
    found: tuple[str, ...] = getattr(config, "stages", family.stages)
    return found


def _plan(
    choices: Choices,
    family: Family,
    stage: str,
    *,
    config: BaseModel,
    run_dir: Path,
    tag: str,
    kept: Run | None,
) -> Plan:
    target = family.target("train")
    model = presets.find_class(target.request)
    earlier = _earlier_runs(choices, family, stage, tag, kept)
    settings = config.model_dump(mode="json")
    given = {
        "config": ("the settings", settings),
        "stage": ("--stage", stage),
        "data_root": ("$I2V_DATA", str(locations.data_root())),
        "run_dir": ("--name", str(run_dir)),
        "init_run": ("--init-run", _init_run(choices)),
        "max_steps": ("--max-steps", choices.max_steps),
        "keypoints": ("--keypoints", choices.keypoints),
        **_runs_of_others(choices, family, kept),
        **{
            f"{run_folders.stage_label(each)}_run": (_option(each), str(path))
            for each, path in earlier.items()
        },
    }
    request = presets.resolve(model, [presets.from_options(given)], who=choices.family)
    is_continued = kept is not None and kept.step is not None
    needed = () if is_continued else _stage_inputs(choices, earlier)
    return Plan(
        verb="train",
        title=f"train {choices.family}, stage {stage}, run {run_dir.name}",
        target=target,
        request=request,
        inputs=(_data_input(settings["data"]), *needed),
        outputs={"run folder": run_dir},
        record_dir=None if is_other_process() else run_dir,
        after_stop={
            "kept": f"the newest checkpoint in {short(run_dir)}",
            "to go on": "run the same command again",
        },
    )


def _choose_stage(choices: Choices, stages: Sequence[str]) -> str:
    if choices.stage is None and len(stages) == 1:
        return stages[0]
    if choices.stage is None:
        raise UserError("missing option --stage", {"there are": bullet_list(stages)}, EXIT_USAGE)
    if choices.stage not in stages:
        is_another_models = choices.stage in FAMILIES[choices.family].stages
        message = f"{choices.family} has no stage '{choices.stage}'"
        message += " with these settings" if is_another_models else ""
        raise names.unknown(message, choices.stage, stages)
    return choices.stage


def _config(choices: Choices, family: Family, stored: Mapping[str, Any] | None) -> BaseModel:
    model = presets.find_class(f"{family.package}.config:FamilyConfig")
    layers = presets.stack(
        model,
        defaults=stored,
        preset=choices.preset,
        presets_of=choices.family,
        config_file=choices.config_file,
        overrides=choices.overrides,
        options={
            "data.dataset": ("--dataset", choices.dataset),
            "train.seed": ("--seed", choices.seed),
            "train.device": ("--device", choices.device),
            "train.devices": ("--devices", _devices(choices)),
        },
    )
    return presets.resolve(model, layers, who=choices.family)


def _devices(choices: Choices) -> list[str] | None:
    """The devices of --devices: '0,1' and 'cuda:0,cuda:1' are the same."""
    given = options.comma_separated(choices.devices)
    return given and [f"cuda:{each}" if each.isdecimal() else each for each in given]


def is_other_process() -> bool:
    """Whether torchrun or srun started this program as one of several, and not as the first."""
    place = place_in(os.environ)
    return place is not None and place.rank > 0


def _stored_config(existing: Run | None, run_dir: Path) -> Mapping[str, Any]:
    if existing is None:
        raise UserError(
            f"no run '{run_dir.name}' to go on with",
            {"looked in": short(run_dir), "to fix": "leave --resume out, or check --name"},
            EXIT_USAGE,
        )
    stored: Mapping[str, Any] = existing.request["config"]
    return stored


def _tag(choices: Choices, config: BaseModel) -> str:
    dataset = str(config.model_dump()["data"]["dataset"])
    if choices.preset is None:
        return dataset
    return f"{choices.preset}-{choices.dataset}" if choices.dataset else choices.preset


def _run_name(choices: Choices, stage: str, tag: str) -> str:
    if choices.name is None:
        return run_folders.default_name(choices.family, stage, tag)
    if safe_name(choices.name) != choices.name:
        raise UserError(
            f"--name: '{choices.name}' cannot be the name of a run",
            {
                "to fix": f"letters, digits, dot, dash and underscore: {safe_name(choices.name)}",
                "to put runs elsewhere": "set I2V_RUNS",
            },
            EXIT_USAGE,
        )
    return choices.name


_REMEDIES = {"to keep it": "give another --name", "to replace it": "add --overwrite"}


def _refuse_other_stage(choices: Choices, stage: str, existing: Run) -> None:
    if (existing.family, existing.stage) != (choices.family, stage):
        raise UserError(
            f"the run '{existing.name}' holds stage {existing.stage} of {existing.family}",
            {"looked in": short(existing.path), **_REMEDIES},
            EXIT_USAGE,
        )


def _changes(
    choices: Choices, family: Family, stage: str, existing: Run, config: BaseModel
) -> dict[str, tuple[Any, Any]]:
    """The settings that differ from the run's: dotted name in the request -> both values.

    A stage takes the settings of the stages it is built on from their runs, so those do not count;
    which runs they are does.
    """
    earlier = [run_folders.stage_label(each) for each in family.needs.get(stage, ())]
    old = {"config": existing.request.get("config", {})}
    new = {"config": config.model_dump(mode="json")}
    changed = {
        name: values
        for name, values in presets.differences(old, new).items()
        if not name.startswith(tuple(f"config.{label}." for label in earlier))
    }
    for each in family.needs.get(stage, ()):
        name, named = f"{run_folders.stage_label(each)}_run", choices.earlier.get(each)
        stored = existing.request.get(name)
        given = str(run_folders.find(named).path) if named else stored
        if given != stored:
            changed[name] = (stored, given)
    return changed


def _refuse_fixed_changes(
    family: Family, stage: str, existing: Run, changes: Mapping[str, tuple[Any, Any]]
) -> None:
    rules: Any = importlib.import_module(f"{family.package}.config")
    fixed = (*rules.FIXED_SETTINGS[stage], "*_run")
    refused = {
        name.removeprefix("config."): f"was {was}, now {now}"
        for name, (was, now) in changes.items()
        if _matches(name, fixed) and not _matches(name, rules.FREE_SETTINGS)
    }
    if refused and existing.step is not None:
        remedies = {"to go on with it": "add --resume and leave the settings out", **_REMEDIES}
        raise UserError(
            f"the run '{existing.name}' was started with other settings",
            dict(list(refused.items())[:8]) | remedies,
            EXIT_USAGE,
        )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _refuse_unused_runs(choices: Choices, stage: str, needed: Sequence[str]) -> None:
    for earlier, named in choices.earlier.items():
        if named and earlier not in needed:
            raise UserError(
                f"stage {stage} of {choices.family} has no option {_option(earlier)}",
                {"to fix": "leave it out: this stage is not built on that one"},
                EXIT_USAGE,
            )


def _earlier_runs(
    choices: Choices, family: Family, stage: str, tag: str, kept: Run | None
) -> dict[str, Path]:
    """The run folders that this stage is built on: named, stored in the run, or of the same tag."""
    needed = family.needs.get(stage, ())
    _refuse_unused_runs(choices, stage, needed)
    found = {}
    for earlier in needed:
        named = choices.earlier.get(earlier)
        stored = kept.request.get(f"{run_folders.stage_label(earlier)}_run") if kept else None
        if named:
            run = run_folders.find_of_family(named, choices.family)
            if run.stage != earlier:
                raise UserError(
                    f"{_option(earlier)}: run '{run.name}' holds stage {run.stage}, not {earlier}",
                    {"to fix": f"give a run made by: i2v train {choices.family} --stage {earlier}"},
                    EXIT_USAGE,
                )
            found[earlier] = run.path
        elif stored:
            found[earlier] = Path(stored)
        else:
            default = run_folders.default_name(choices.family, earlier, tag)
            found[earlier] = locations.runs_root() / default
    return found


def _stage_inputs(choices: Choices, earlier: Mapping[str, Path]) -> list[Input]:
    inputs = []
    for stage, path in earlier.items():
        command = command_line(replace(choices, name=None), stage)
        remedy = {"run first": command, "or": f"name another run with {_option(stage)}"}
        what = f"trained run of stage {stage} to build on"
        inputs.append(Input(what, path / "checkpoints", remedy))
    return inputs


def _data_input(data: Mapping[str, Any]) -> Input:
    dataset, variant = data["dataset"], data["variant"]
    root = locations.data_root()
    known = dataset in DATASETS and DATASETS[dataset].is_built
    command = f"i2v extract-frames {dataset if known else f'FOLDER --name {dataset}'}"
    there = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    guess = None if known else names.nearest(dataset, {*there, *DATASETS})
    remedy = ({"did you mean": guess} if guess else {}) | {"run first": command}
    prepared = root / dataset / "prepared"
    is_found = any(prepared.glob(f"{variant or '*'}/index.json"))
    folder = prepared / variant if variant else prepared
    return Input(f"prepared frames for dataset '{dataset}'", folder, remedy, is_found)


def _init_run(choices: Choices) -> str | None:
    if choices.init_run is None:
        return None
    return str(run_folders.find_of_family(choices.init_run, choices.family).path)


def _runs_of_others(
    choices: Choices, family: Family, kept: Run | None
) -> dict[str, tuple[str, str | None]]:
    """The runs of other families that this one is built on: named, or stored in the run."""
    found: dict[str, tuple[str, str | None]] = {}
    for name in {**choices.built_on, **family.built_on}:
        option, named = _option_of(name), choices.built_on.get(name)
        if name not in family.built_on:
            if named:
                raise UserError(
                    f"{choices.family} has no option {option}",
                    {"to fix": "leave it out: this family is not built on that one"},
                    EXIT_USAGE,
                )
            continue
        stored = kept.request.get(name) if kept else None
        if named:
            run = run_folders.find_of_family(named, family.built_on[name])
            run_folders.require_checkpoint(run)
            stored = str(run.path)
        found[name] = (option, stored)
    return found


def _option_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _next_command(
    choices: Choices, family: Family, config: BaseModel, stage: str, name: str, tag: str
) -> str:
    stages = stages_of(family, config)
    position = stages.index(stage)
    if position + 1 == len(stages):
        if not {"sample", "transfer"} & set(family.verbs):
            return f"i2v report {name}"
        verb = "sample" if "sample" in family.verbs else "transfer"
        return f"i2v {verb} {choices.family} --run {name} {family.sample_inputs}"
    following = stages[position + 1]
    command = command_line(replace(choices, name=None), following)
    is_usual = name == run_folders.default_name(choices.family, stage, tag)
    needs_name = stage in family.needs.get(following, ()) and not is_usual
    return f"{command} {_option(stage)} {name}" if needs_name else command


def command_line(choices: Choices, stage: str) -> str:
    """The command that trains a stage with the same settings."""
    words = ["i2v", "train", choices.family, "--stage", stage]
    pairs = (
        ("--preset", choices.preset),
        ("--dataset", choices.dataset),
        ("--config", choices.config_file),
        ("--seed", choices.seed),
        ("--device", choices.device),
        ("--devices", choices.devices),
    )
    for option, value in pairs:
        words += [option, str(value)] if value is not None else []
    return shlex.join([*words, *choices.overrides])


def _option(stage: str) -> str:
    return f"--{run_folders.stage_label(stage)}-run"
