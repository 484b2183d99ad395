"""`i2v train`: one stage of a model family, into a run folder that can be gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import console, options
from i2v_cli.console import Outcome, short

if TYPE_CHECKING:
    from i2v_cli.training import Training

RUN_FOLDER, STAGES = "Run folder", "Earlier stages"


def run(
    family: Annotated[str, options.family("train")],
    overrides: options.Overrides = None,
    stage: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE", help="what to train; cinn has 1, ae, 2", rich_help_panel=options.MODEL
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="prepared dataset to train on", rich_help_panel=options.INPUT
        ),
    ] = None,
    stage1_run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="what stage 2 is built on (the run of the same preset)",
            rich_help_panel=STAGES,
        ),
    ] = None,
    ae_run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="what stage 2 is built on (the run of the same preset)",
            rich_help_panel=STAGES,
        ),
    ] = None,
    fomm_run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="motion: the fomm that finds its keypoints and renders them",
            rich_help_panel=STAGES,
        ),
    ] = None,
    keypoints: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="motion: keypoints that this fomm found before (kept beside the data)",
            rich_help_panel=STAGES,
        ),
    ] = None,
    init_run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="start from the weights of a run", rich_help_panel=options.MODEL
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="name of the run (such as cinn-stage1-demo)",
            rich_help_panel=RUN_FOLDER,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="go on with a run and the settings stored in it",
            rich_help_panel=RUN_FOLDER,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="replace a run of this name", rich_help_panel=RUN_FOLDER),
    ] = False,
    config_file: options.ConfigFile = None,
    preset: options.Preset = None,
    max_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="stop after so many steps in all", rich_help_panel=options.RUN
        ),
    ] = None,
    seed: options.Seed = None,
    device: options.Device = None,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="0,1,...",
            help="one process on each of these graphics cards (or cpu,cpu), which share batches",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Train a model family, stage by stage

    i2v train cinn --stage 1 --preset demo
    i2v train cinn --stage 1 --dataset my_clips stage1.batch_size=4

    The run goes to $I2V_RUNS/NAME (./runs when $I2V_RUNS is not set). The same command continues a
    run that was interrupted, and does nothing when it is finished.
    """
    from i2v_cli.training import Choices, decide

    choices = Choices(
        family=family,
        stage=stage,
        dataset=dataset,
        preset=preset,
        config_file=config_file,
        overrides=overrides or (),
        name=name,
        is_resume=resume,
        is_overwrite=overwrite,
        earlier={"1": stage1_run, "ae": ae_run},
        init_run=init_run,
        built_on={"fomm_run": fomm_run},
        keypoints=options.absolute(keypoints),
        max_steps=max_steps,
        seed=seed,
        device=device,
        devices=devices,
    )
    training = decide(choices)
    return _dry_run(training, preset) if dry_run else carry_out(training)


def _dry_run(training: Training, preset: str | None) -> Outcome:
    """What would be done, and what that takes."""
    from dataclasses import replace

    from i2v_cli import estimates, runner

    outcome = runner.dry_run(training.plan)
    request = training.plan.request.model_dump(mode="json")
    lines = estimates.lines_for(training.family, request["stage"], request["config"], preset=preset)
    head = [line for line in outcome.lines if line.startswith("#")]
    rest = outcome.lines[len(head) :]
    return replace(outcome, lines=[*head, *lines, *rest])


def carry_out(training: Training) -> Outcome:
    """Train, or say that it has been done."""
    from contextlib import nullcontext

    from i2v_cli import run_folders, runner
    from i2v_cli.training import is_other_process

    found = {"run_dir": str(training.run_dir)}
    lines = [short(training.run_dir)]
    if training.is_finished:
        return Outcome(
            result=found | {"already_done": True},
            lines=lines,
            notes=[f"the run '{training.run_dir.name}' is already done"],
            next_command=training.next_command,
        )
    if not is_other_process():  # the run folder is the first one's
        run_folders.refuse_busy(training.run_dir)
    if training.existing:
        step = training.existing.step or 0
        console.say(f"continuing the run '{training.run_dir.name}' from step {step}")
    is_replacing = training.is_replacing and not is_other_process()
    clear = run_folders.replacing(training.run_dir) if is_replacing else nullcontext()
    with clear:
        result = runner.carry_out(training.plan)
    return Outcome(result={**result, **found}, lines=lines, next_command=training.next_command)
