"""`i2v import`: published checkpoints to a run folder that every other verb takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import locations, names, options
from i2v_cli.console import Outcome, short
from i2v_cli.registry import FAMILIES, families_with

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan


def run(
    family: Annotated[str, options.family("import")],
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="folder of the checkpoints, or the NAME of downloaded weights/NAME"
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="name of the run (such as cinn-bair)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    trust_checkpoint: Annotated[
        bool,
        typer.Option(
            "--trust-checkpoint",
            help="also read files that could run a program; only if you trust their author",
            rich_help_panel=options.INPUT,
        ),
    ] = False,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Convert published checkpoints

    i2v download weights/cinn-landscape
    i2v import cinn cinn-landscape
    i2v import cinn models/bair/stage2_control --name bair-control

    The result is a run folder in $I2V_RUNS (./runs when $I2V_RUNS is not set), for sample,
    transfer, eval and for train --init-run.
    """
    from i2v_cli import runner

    planned = plan(family, path, name=name, trust_checkpoint=trust_checkpoint)
    if dry_run:
        return runner.dry_run(planned)
    result = runner.carry_out(planned)
    run_dir = planned.outputs["run folder"]
    return Outcome(
        result={**result, "run_dir": str(run_dir)},
        lines=[short(run_dir)],
        next_command=_next_command(family, str(result.get("stage", "")), run_dir),
    )


def plan(
    family: str, path: str, *, name: str | None = None, trust_checkpoint: bool = False
) -> Plan:
    """The job that imports a published model."""
    from i2v_cli import presets
    from i2v_cli.jobs import Input, Plan
    from pipelines.events import EXIT_USAGE, UserError
    from pipelines.files import safe_name

    row = names.choose("family", family, FAMILIES)
    if "import" not in row.verbs:
        raise names.not_built(f"'i2v import {family}'", families_with("import"))
    source = _source(path)
    chosen = name or _default_name(family, source)
    if safe_name(chosen) != chosen:
        allowed = f"letters, digits, dot, dash and underscore: {safe_name(chosen)}"
        raise UserError(
            f"--name: '{chosen}' cannot be the name of a run", {"to fix": allowed}, EXIT_USAGE
        )
    run_dir = locations.runs_root() / chosen
    if run_dir.exists():
        raise UserError(
            f"the run '{chosen}' is there already",
            {
                "looked in": short(run_dir),
                "to keep it": "give another --name",
                "to replace it": f"first: i2v runs rm {chosen}",
            },
            EXIT_USAGE,
        )
    target = row.target("import")
    given = {
        "path": ("PATH", str(source)),
        "run_dir": ("--name", str(run_dir)),
        "trust_checkpoint": ("--trust-checkpoint", trust_checkpoint),
    }
    model = presets.find_class(target.request)
    request = presets.resolve(model, [presets.from_options(given)], who=family)
    remedy = {"to get them": "i2v download weights", "to fix": "check the path"}
    return Plan(
        verb="import",
        title=f"import {family} from {short(source)}",
        target=target,
        request=request,
        inputs=(Input(f"published checkpoints at '{path}'", source, remedy),),
        outputs={"run folder": run_dir},
    )


def _source(text: str) -> Path:
    """A path as typed, or the folder of downloaded weights of that name."""
    typed = Path(text).expanduser().absolute()
    downloaded = locations.data_root() / "weights" / text.removeprefix("weights/")
    return downloaded if not typed.exists() and downloaded.exists() else typed


def _default_name(family: str, source: Path) -> str:
    """The folder's name, with that of the folder around it where it only names a part."""
    from pipelines.files import safe_name

    folder = source.parent if source.suffix else source
    name = folder.name
    if name.startswith("stage"):
        name = f"{folder.parent.name}-{name}"
    return safe_name(name if name.startswith(family) else f"{family}-{name}")


def _next_command(family: str, stage: str, run_dir: Path) -> str | None:
    row, name = FAMILIES[family], run_dir.name
    if stage == _stages(family, run_dir)[-1]:
        if not {"sample", "transfer"} & set(row.verbs):
            return f"i2v runs show {name}"
        verb = "sample" if "sample" in row.verbs else "transfer"
        return f"i2v {verb} {family} --run {name} {row.sample_inputs}"
    later = [each for each, needed in row.needs.items() if stage in needed]
    option = f"--stage{stage}-run" if stage.isdigit() else f"--{stage}-run"
    return f"i2v train {family} --stage {later[0]} {option} {name}" if later else None


def _stages(family: str, run_dir: Path) -> tuple[str, ...]:
    """The stages that a model with the settings of the imported run has."""
    from i2v_cli import presets, run_folders, training

    row, run = FAMILIES[family], run_folders.read(run_dir)
    if run is None:
        return row.stages
    model = presets.find_class(f"{row.package}.config:FamilyConfig")
    return training.stages_of(row, model.model_validate(run.request["config"]))
