"""`i2v sample`: still images to videos."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from i2v_cli import names, options
from i2v_cli.commands import poses
from i2v_cli.console import Outcome, short
from i2v_cli.registry import FAMILIES, families_with
from pipelines.events import EXIT_USAGE, UserError

if TYPE_CHECKING:
    from i2v_cli.jobs import Input, Plan
    from i2v_cli.presets import Given, Texts

POKE = "Family poke"
ENDS = "Families inbetween, motion"

Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="FILE",
        help="still image, or a folder of them; may be given several times",
        rich_help_panel=options.INPUT,
    ),
]
RunName = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="trained model: the name or folder of a run",
        rich_help_panel=options.MODEL,
    ),
]
Frames = Annotated[
    int | None,
    typer.Option(
        "--frames",
        metavar="N",
        help="frames per video (cinn 16; poke as in training)",
        rich_help_panel=options.OUTPUT,
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(
        "--fps",
        metavar="N",
        help="frames per second (cinn 8; poke 5)",
        rich_help_panel=options.OUTPUT,
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="where to write (RUN/samples/TIME)",
        rich_help_panel=options.OUTPUT,
    ),
]
MoreImages = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE | FILE]...",
        help="settings by name, such as seed=7; or more images",
        rich_help_panel=options.SETTINGS,
    ),
]

Pokes = Annotated[
    list[str] | None,
    typer.Option(
        "--poke",
        metavar="X,Y,DX,DY",
        help="move what is at X,Y by DX,DY (right, down): pixels of the image as whole numbers, or"
        " fractions of it with a point; several act at once (drawn)",
        rich_help_panel=POKE,
    ),
]
Sweep = Annotated[
    int | None,
    typer.Option("--sweep", metavar="N", help="N directions of one poke", rich_help_panel=POKE),
]
FlowFile = Annotated[
    str | None,
    typer.Option(
        "--flow",
        metavar="FILE",
        help="draw pokes from this flow of the image: .flo, .npy, .png",
        rich_help_panel=POKE,
    ),
]
ImageFit = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="HOW",
        help="squash, center-crop or pad an image that is no square (squash)",
        rich_help_panel=POKE,
    ),
]

Start = Annotated[
    str | None,
    typer.Option("--start", metavar="FILE", help="image of the first frame", rich_help_panel=ENDS),
]
End = Annotated[
    str | None,
    typer.Option("--end", metavar="FILE", help="image of the last frame", rich_help_panel=ENDS),
]
Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="tfhub: inbetween by a pretrained TensorFlow module in place of a run",
        rich_help_panel=ENDS,
    ),
]
Module = Annotated[
    str | None,
    typer.Option(
        "--module",
        metavar="NAME",
        help="which one: bair, kth, or the folder of a saved model (bair)",
        rich_help_panel=ENDS,
    ),
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def run(
    family: Annotated[str, options.family("sample")],
    arguments: MoreImages = None,
    run: RunName = None,
    image: Images = None,
    num: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="videos per image (cinn 6; poke 3 where pokes are drawn)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    frames: Frames = None,
    fps: Fps = None,
    out: Out = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="scale of cinn's random part (1); less is calmer",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    poke: Pokes = None,
    sweep: Sweep = None,
    flow: FlowFile = None,
    fit: ImageFit = None,
    start: Start = None,
    end: End = None,
    backend: Backend = None,
    module: Module = None,
    target: poses.Targets = None,
    appearance: poses.Appearance = None,
    render_run: poses.RenderRun = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y",
            help="where the arm shall end, for a model with endpoint control: pixels of the image"
            " (40,17) or fractions (0.6,0.3)",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    config_file: options.ConfigFile = None,
    preset: options.Preset = None,
    engine: options.Engine = None,
    parts: options.Parts = None,
    shard: options.Shard = None,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Animate still images with a trained model

    i2v sample cinn --run cinn-stage2-demo --image photo.jpg --num 6 --seed 1
    i2v sample cinn --run cinn-stage2-bair_control --image arm.png --endpoint 40,17

    Writes an mp4 and a gif per video, one picture of all, and meta.json. The same seed gives the
    same frames.
    """
    from i2v_cli import runner

    more_images, overrides = options.split_arguments(arguments)
    given: Given = {
        "num": ("--num", num),
        "frames": ("--frames", frames),
        "fps": ("--fps", fps),
        "temperature": ("--temperature", temperature),
        "pokes": ("--poke", poke),
        "sweep": ("--sweep", sweep),
        "flow": ("--flow", options.absolute(flow)),
        "fit": ("--fit", fit),
        "start": ("--start", options.absolute(start)),
        "end": ("--end", options.absolute(end)),
        "module": ("--module", module),
        **poses.given(target, appearance, render_run),
        **endpoint_given(endpoint),
        "engine": ("--engine", engine),
        "parts": ("--parts", parts),
        "shard": ("--shard", shard),
        "seed": ("--seed", seed),
        "device": ("--device", device),
    }
    if shard is not None and out is None:
        raise UserError(
            "--shard needs --out", {"to fix": "give all shards the same --out FOLDER"}, EXIT_USAGE
        )
    planned = plan(
        "sample",
        family,
        given,
        run=run,
        images=[*(image or ()), *more_images],
        out=out,
        overrides=overrides,
        config_file=config_file,
        preset=preset,
        backend=backend,
    )
    if dry_run:
        return runner.dry_run(planned)
    return outcome(planned, runner.carry_out(planned), run or "")


def endpoint_given(text: str | None) -> Given:
    """The settings behind --endpoint: whole numbers are pixels, others fractions."""
    if text is None:
        return {}
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not 2 <= len(values) <= 3:
        raise UserError(
            f"--endpoint: '{text}' is no place",
            {"to fix": "give two numbers: pixels such as 40,17, or fractions such as 0.6,0.3"},
            EXIT_USAGE,
        )
    unit = "fraction" if "." in text else "px"
    return {"endpoint": ("--endpoint", values), "endpoint_unit": ("--endpoint", unit)}


def plan(
    verb: str,
    family: str,
    given: Given,
    *,
    run: str | None,
    images: list[str],
    out: str | None = None,
    overrides: Texts = (),
    config_file: str | None = None,
    preset: str | None = None,
    backend: str | None = None,
) -> Plan:
    """The job of a verb that animates images with a run: sample or transfer."""
    from i2v_cli import locations, presets, run_folders
    from i2v_cli.jobs import Plan

    row = names.choose("family", family, FAMILIES)
    if verb not in row.verbs:
        raise names.not_built(f"'i2v {verb} {family}'", families_with(verb))
    if backend and backend not in row.backends:
        raise names.unknown(f"{family} has no backend '{backend}'", backend, row.backends)
    target = row.backends[backend] if backend else row.target(verb)
    model = presets.find_class(target.request)
    found = run_folders.find_of_family(run, family) if run else None
    samples_dir = found.path / "samples" if found else Path.cwd() / "samples"
    defaults = {"out_dir": str(samples_dir / f"{verb}-{time.strftime('%Y%m%d-%H%M%S')}")}
    if "data_root" in model.model_fields:
        defaults["data_root"] = str(locations.data_root())
    image_paths = [path for text in images for path in _images(text)]
    layers = presets.stack(
        model,
        defaults=defaults,
        preset=preset,
        presets_of=verb,
        config_file=config_file,
        overrides=overrides,
        options={
            **options.that_matter(model, given),
            "run_dir": ("--run", str(found.path) if found else None),
            "images": ("--image", [str(path) for path in image_paths] or None),
            "out_dir": ("--out", options.absolute(out)),
        },
    )
    request = presets.resolve(model, layers, who=family)
    chosen = request.model_dump()
    if found:
        run_folders.require_last_stage(found, row)
        run_folders.require_checkpoint(found)
    return Plan(
        verb=verb,
        title=f"{verb} {family}, {_who(chosen)}",
        target=target,
        request=request,
        inputs=tuple(_inputs(chosen)),
        outputs={"videos": chosen["out_dir"]},
    )


def outcome(planned: Plan, result: dict[str, object], run: str) -> Outcome:
    """The end of a job that made videos."""
    if "parts_dir" in result:
        return Outcome(
            result=result,
            lines=[short(Path(str(result["parts_dir"])))],
            notes=["when all shards are done: the same command without --shard"],
        )
    folder = planned.outputs["videos"]
    rendered = result.get("rendered")
    folders = [folder, Path(str(rendered))] if rendered else [folder]
    return Outcome(
        result={**result, "out_dir": str(folder)},
        lines=[short(each) for each in folders],
        next_command=f"i2v report {run}" if run else None,
    )


def _who(chosen: dict[str, Any]) -> str:
    """What makes the videos, for a title."""
    return f"run {chosen['run_dir'].name}" if "run_dir" in chosen else f"module {chosen['module']}"


def _images(text: str) -> list[Path]:
    path = Path(text).expanduser().absolute()
    if not path.is_dir():
        return [path]
    from pipelines.files import natural_key

    found = [each for each in path.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(found, key=lambda each: natural_key(each.name)) or [path / "*.png"]


def _inputs(chosen: dict[str, Any]) -> list[Input]:
    from i2v_cli.jobs import Input

    paths = [("image", path) for path in chosen.get("images", ())]
    for name, what in (
        ("source", "source"),
        ("driving", "driving video"),
        ("flow", "flow file"),
        ("start", "start image"),
        ("end", "end image"),
    ):
        if isinstance(chosen.get(name), Path):
            paths.append((what, chosen[name]))
    return [Input(f"{what} '{path.name}'", path) for what, path in paths]
