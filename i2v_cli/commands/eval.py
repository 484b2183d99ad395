"""`i2v eval`: any set of metrics over one source of videos, in one pass."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from i2v_cli import locations, names, options
from i2v_cli.console import Outcome, Table, short
from i2v_cli.registry import METRICS, Target
from pipelines.events import EXIT_USAGE, UserError

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given, Texts

PROTOCOL = "Protocol"
REQUEST = "pipelines.metrics.config:EvalRequest"
_BUILT = ", ".join(name for name, row in METRICS.items() if row.is_built)


Source = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|RUN",
        help="generated videos: a folder, or a run",
        rich_help_panel=options.INPUT,
    ),
]
Real = Annotated[
    str | None,
    typer.Option(
        metavar="DATASET|FOLDER",
        help="real videos; names match those of the source",
        rich_help_panel=options.INPUT,
    ),
]
Compare = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|RUN",
        help="a second source: differences with paired intervals",
        rich_help_panel=options.INPUT,
    ),
]
Frames = Annotated[
    int | None,
    typer.Option(metavar="N", help="first frames of each video (all)", rich_help_panel=PROTOCOL),
]
Size = Annotated[
    int | None,
    typer.Option(
        metavar="PX", help="resize all videos first (as they are)", rich_help_panel=PROTOCOL
    ),
]
Baselines = Annotated[
    bool,
    typer.Option(
        "--baselines/--no-baselines",
        help="also measure still and shuffled real videos",
        rich_help_panel=PROTOCOL,
    ),
]
Generated = Annotated[
    bool,
    typer.Option(
        "--generated-weights",
        help="made-up weights, to try things out: numbers mean nothing",
        rich_help_panel=PROTOCOL,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="name of this evaluation (the folder's)",
        rich_help_panel=options.OUTPUT,
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="JSON to write (metrics.json of the run, or in the source)",
        rich_help_panel=options.OUTPUT,
    ),
]
RowForm = Annotated[
    str | None,
    typer.Option(
        "--row",
        metavar="FORM",
        help="also a table row for a paper: latex or markdown",
        rich_help_panel=options.OUTPUT,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="measure only the I-th of N parts, from 0; --merge joins them",
        rich_help_panel=options.RUN,
    ),
]


def run(
    metrics: Annotated[
        list[str] | None,
        typer.Argument(metavar="METRIC...", help=f"METRIC or METRIC/PROTOCOL: {_BUILT}"),
    ] = None,
    source: Source = None,
    real: Real = None,
    compare: Compare = None,
    frames: Frames = None,
    size: Size = None,
    baselines: Baselines = True,
    generated_weights: Generated = False,
    label: Label = None,
    out: Out = None,
    row: RowForm = None,
    engine: options.Engine = None,
    parts: options.Parts = None,
    shard: Shard = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="join shards (repeat)", rich_help_panel=options.RUN),
    ] = None,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="check that FVD in PyTorch and in TensorFlow agree",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    config_file: options.ConfigFile = None,
    preset: options.Preset = None,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Measure generated videos

    i2v eval ssim psnr diversity --source cinn-stage2-demo
    i2v eval fvd/poke fid lpips --source samples/ --real real_clips/

    Settings key=value may follow the metrics. Every number comes with the protocol it was measured
    under; metrics.json keeps both.
    """
    wanted, overrides = options.split_arguments(metrics)
    given: Given = {
        "num_frames": ("--frames", frames),
        "size_px": ("--size", size),
        "baselines": ("--baselines", None if baselines else False),
        "generated_weights": ("--generated-weights", generated_weights or None),
        "self_test": ("--self-test", self_test or None),
        "engine": ("--engine", engine),
        "parts": ("--parts", parts),
        "shard": ("--shard", shard),
        "merge": ("--merge", [options.absolute(each) for each in merge or ()] or None),
        "label": ("--label", label),
        "seed": ("--seed", seed),
        "device": ("--device", device),
        "out_path": ("--out", options.absolute(out)),
    }
    planned = plan(
        wanted,
        given,
        source=source,
        real=real,
        compare=compare,
        overrides=overrides,
        config_file=config_file,
        preset=preset,
    )
    return carry_out(planned, row=row, dry_run=dry_run)


def carry_out(planned: Plan, *, row: str | None, dry_run: bool) -> Outcome:
    """Do a planned evaluation, with the environment of TensorFlow if a metric needs it."""
    from i2v_cli import runner

    form = None if row is None else names.choose("form of a row", row, _ROW_FORMS)
    if dry_run:
        return runner.dry_run(planned)
    planned = with_tensorflow(planned)
    found = outcome(planned, runner.carry_out(planned))
    if form is not None and "results" in found.result:
        return replace(found, lines=form.write(found.result["results"]))  # type: ignore[arg-type]
    return found


def plan(
    metrics: Sequence[str],
    given: Given,
    *,
    source: str | None,
    real: str | None,
    compare: str | None = None,
    overrides: Texts = (),
    config_file: str | None = None,
    preset: str | None = None,
) -> Plan:
    """The job that measures a source of videos."""
    from i2v_cli import presets
    from i2v_cli.jobs import Input, Plan

    for name in metrics:
        names.choose("metric", name.partition("/")[0], METRICS)
    if not any(value for key in ("self_test", "merge") for value in given.get(key, ("", None))[1:]):
        _require(metrics or preset or config_file, source or config_file)
    target = Target("pipelines.metrics.evaluate:evaluate", REQUEST, "main")
    model = presets.find_class(target.request)
    source_path = _folder(source)
    home = locations.i2v_home()
    layers = presets.stack(
        model,
        defaults={
            "weights_root": str(locations.data_root() / "weights"),
            "data_root": str(locations.data_root()),
            "cache_dir": str(home / "metrics"),
            "out_path": str(_metrics_path(source_path) if source_path else Path("metrics.json")),
        },
        preset=preset,
        presets_of="eval",
        config_file=config_file,
        overrides=overrides,
        options={
            **options.that_matter(model, given),
            "metrics": ("METRIC", list(metrics) or None),
            "source": ("--source", str(source_path) if source_path else None),
            "compare": ("--compare", str(_folder(compare)) if compare else None),
            "real": ("--real", str(_real(real)) if real else None),
        },
    )
    request = presets.resolve(model, layers, who="eval")
    chosen = request.model_dump()
    protocols = {name: _protocol(name) for name in chosen["metrics"] if "/" in name}
    request = model.model_validate(chosen | {"protocols": chosen["protocols"] | protocols})
    sources = {source: chosen["source"], compare: chosen["compare"]}
    inputs = [
        Input(f"folder of videos '{name}'", path, _SOURCE_REMEDY)
        for name, path in sources.items()
        if path
    ]
    if chosen["real"]:
        inputs.append(Input(f"folder of real videos '{real}'", chosen["real"]))
    return Plan(
        verb="eval",
        title=_title(chosen),
        target=target,
        request=request,
        inputs=tuple(inputs),
        outputs={} if chosen["self_test"] else {"metrics": chosen["out_path"]},
    )


def _require(metrics: object, source: object) -> None:
    """Raise UserError for what every evaluation of videos needs."""
    if not metrics:
        raise UserError("missing METRIC...", {"to see all": "i2v eval --help"}, EXIT_USAGE)
    if not source:
        raise UserError("missing option --source", exit_code=EXIT_USAGE)


def with_tensorflow(planned: Plan) -> Plan:
    """The plan with the interpreter that has TensorFlow, made first if need be."""
    from i2v_cli import environments, jobs

    request = planned.request.model_dump()
    rows = [METRICS[name.partition("/")[0]] for name in request["metrics"]]
    if not request["self_test"] and all(row.env != "fvd" for row in rows):
        return planned
    jobs.check_inputs(planned)
    interpreter = environments.ensure("fvd")
    changed = planned.request.model_copy(update={"tensorflow_python": interpreter})
    return replace(planned, request=changed)


def outcome(planned: Plan, result: Mapping[str, Any]) -> Outcome:
    """The numbers as a table; where they were written."""
    from i2v_cli import run_folders

    table = Table(result["columns"], result["rows"]) if "columns" in result else None
    metrics_path = planned.outputs.get("metrics")
    if metrics_path is None:
        return Outcome(result=result, table=table)
    if "shard" in result:
        files = " ".join(f"--merge {shlex.quote(short(Path(each)))}" for each in result["merge"])
        note = f"written to {short(Path(result['shard']))}"
        return Outcome(result=result, notes=[note], next_command=f"i2v eval {files}")
    run = run_folders.read(metrics_path.parent)
    return Outcome(
        result=result,
        table=table,
        notes=[f"written to {short(metrics_path)}"],
        next_command=f"i2v report {run.name}" if run else None,
    )


def latex_row(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Headings and values of a LaTeX table; half the interval where there is one."""
    heads = " & ".join(_escaped(each["metric"]) for each in results)
    values = " & ".join(f"${_cell(each, chr(92) + 'pm')}$" for each in results)
    return [f"% {heads} {chr(92) * 2}", f"{values} {chr(92) * 2}"]


def markdown_row(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Headings and values of a Markdown table."""
    return [
        "| " + " | ".join(str(each["metric"]) for each in results) + " |",
        "|" + " --- |" * len(results),
        "| " + " | ".join(_cell(each, "±") for each in results) + " |",
    ]


@dataclass(frozen=True)
class _RowForm:
    write: Callable[[Sequence[Mapping[str, Any]]], list[str]]
    is_built: bool = True


_ROW_FORMS = {"latex": _RowForm(latex_row), "markdown": _RowForm(markdown_row)}


def _cell(result: Mapping[str, Any], plus_minus: str) -> str:
    text = f"{result['value']:.4g}"
    if result.get("interval"):
        low, high = result["interval"]
        text += f" {plus_minus} {(high - low) / 2:.2g}"
    return text


def _escaped(text: str) -> str:
    return text.replace("_", chr(92) + "_").replace("%", chr(92) + "%")


def _title(request: Mapping[str, Any]) -> str:
    if request["self_test"]:
        return "compare FVD in PyTorch with FVD in TensorFlow"
    if request["merge"]:
        return f"join {len(request['merge'])} shards"
    return f"measure {', '.join(request['metrics'])} of {request['source'].name}"


def _protocol(name: str) -> Mapping[str, Any]:
    """The settings of METRIC/PROTOCOL, from conf/metrics/<metric>.yaml."""
    import yaml

    metric, _, protocol = name.partition("/")
    path = locations.conf_dir() / "metrics" / f"{metric}.yaml"
    known = yaml.safe_load(locations.shipped_text(path)) if path.is_file() else {}
    if protocol not in known:
        raise names.unknown(f"{metric} has no protocol '{protocol}'", protocol, known)
    found: Mapping[str, Any] = known[protocol]
    return found


def _real(text: str) -> Path:
    """A folder of videos, or the prepared frames of a dataset."""
    path = Path(text).expanduser().absolute()
    prepared = locations.data_root() / text / "prepared"
    if path.is_dir() or not prepared.is_dir():
        return path
    variants = sorted(each for each in prepared.iterdir() if (each / "index.json").is_file())
    if len(variants) != 1:
        listed = ", ".join(each.name for each in variants) or "none"
        raise UserError(
            f"dataset '{text}' has {len(variants)} prepared variants",
            {"there are": listed, "to fix": f"give one of them: --real {short(prepared)}/NAME"},
            EXIT_USAGE,
        )
    return variants[0]


_SOURCE_REMEDY = {
    "to fix": "give a folder of videos, or the name of a run with samples",
    "run first": "i2v sample FAMILY --run RUN --image FILE",
}


def _metrics_path(source: Path) -> Path:
    """Where numbers belong: with the run that the videos are part of, else beside the videos."""
    from i2v_cli.run_folders import RUN_NAME

    folders = (source, *source.parents[:2])
    run_dir = next((folder for folder in folders if (folder / RUN_NAME).is_file()), source)
    return run_dir / "metrics.json"


def _folder(text: str | None) -> Path | None:
    """A folder, or the folder of a run of that name."""
    if text is None:
        return None
    by_name = locations.runs_root() / text
    path = Path(text).expanduser().absolute()
    return by_name if by_name.is_dir() and not path.is_dir() else path
