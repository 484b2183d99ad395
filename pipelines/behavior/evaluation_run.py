"""`i2v eval pose` of a behaviour run: which numbers, in which unit, beside what."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines.behavior import code_map, evaluation
from pipelines.behavior.baseline import BaselineModel, load_model
from pipelines.behavior.data import PoseData, open_poses
from pipelines.behavior.evaluation import Clips, EvaluationSettings, Model, Numbers, Progress
from pipelines.behavior.inference import BehaviorModel
from pipelines.events import EXIT_NO_DATA, UserError, Work
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.pose import PoseNumber, PoseNumbers
from pipelines.metrics.result import Better
from pipelines.metrics.run_data import measured_data
from pipelines.training.device import prepare_device
from pipelines.training.generators import torch_generator
from pipelines.training.run_folder import Run


def measure(run: Run, request: EvalRequest, *, data_root: Path, work: Work) -> PoseNumbers:
    """All numbers of section 6.1, on the split `test`, else `val`.

    request.num_images: postures whose futures are measured, and clips for the rest (times 16).
    """
    device = prepare_device(request.device, threads=request.threads)
    model = load_model(run.path, device, data_root=data_root, warn=work.warning)
    root, wanted = measured_data(request, model.config.data, data_root)
    config = model.config.model_copy(update={"data": wanted})
    data = open_poses(root, config, work, scale=model.scale, splits=("test", "val"))
    if data.held_out is None:
        raise UserError(
            "there are no held-out takes to measure on",
            {"looked in": root, "to fix": "prepare data with a split test or val"},
            EXIT_NO_DATA,
        )
    settings = EvaluationSettings(
        max_conditions=request.num_images, max_clips=16 * request.num_images, seed=request.seed
    )
    clips = evaluation.held_out_clips(data, settings, device)
    found = collect(model, data, clips, settings, progress=work.progress)
    _draw_codes(run, model, data, clips, settings, work)
    return PoseNumbers(
        found,
        len(clips.poses),
        model.config.poses.num_frames,
        {"samples": settings.num_samples, "steps of classifiers": settings.steps},
    )


def _draw_codes(
    run: Run,
    model: Model,
    data: PoseData,
    clips: Clips,
    settings: EvaluationSettings,
    work: Work,
) -> None:
    """samples/codes/grid.png of the run, where its report finds it."""
    codes, drawn = model.encode(clips.poses), None
    if isinstance(model, BaselineModel):
        codes = codes[:, : model.code_size]
    elif model.flow is not None:
        generator = torch_generator(settings.seed, "code map")
        count = min(len(codes), code_map.MAX_POINTS) // 2
        noise = torch.randn((count, model.noise_size), generator=generator)
        drawn = model.draw(noise.to(model.device))
    path = run.path / "samples" / "codes" / "grid.png"
    actions = clips.actions.tolist()
    code_map.write_code_map(path, codes, actions, data.action_names, drawn=drawn)
    work.artifact(path, "codes")


def collect(
    model: Model,
    data: PoseData,
    clips: Clips,
    settings: EvaluationSettings,
    *,
    progress: Progress,
) -> list[PoseNumber]:
    """Everything that can be measured of a model."""
    found: list[PoseNumber] = []
    classifiers = evaluation.trained_classifiers(model, data)
    unit = model.wanted.unit
    has_flow = isinstance(model, BehaviorModel) and model.flow is not None
    prior = "flow" if has_flow else "normal"
    futures = {
        each: evaluation.future_numbers(model, data, settings, prior=each, progress=progress)
        for each in dict.fromkeys((prior, "normal"))
    }
    for name, better in _FUTURES.items():
        beside = ("plain prior", futures["normal"][name]) if prior == "flow" else None
        found.append(PoseNumber(f"{name} ({prior})", futures[prior][name], unit, better, beside))
    transfer = evaluation.transfer_numbers(model, clips)
    found += _transfer(transfer)
    found += _actions(evaluation.action_numbers(model, clips, classifiers), clips)
    realism = evaluation.realism(model, clips, settings, progress=progress)
    found += [PoseNumber(name, value, "", "higher") for name, value in realism.items()]
    found += _leakage(evaluation.posture_leakage(model, clips, settings, progress=progress))
    return found + _flow(evaluation.flow_numbers(model, clips, settings))


_FUTURES: dict[str, Better] = {
    "ASD": "higher",
    "FSD": "higher",
    "ADE": "lower",
    "FDE": "lower",
    "APD": "higher",
}


def _transfer(numbers: Numbers) -> list[PoseNumber]:
    scaled = "standard deviations"
    return [
        PoseNumber(
            "code found again",
            numbers["code found again"],
            "",
            "lower",
            ("another clip of the action", numbers["code of same action"]),
        ),
        PoseNumber(
            "code found again, over spread",
            numbers["code found again, over spread"],
            "",
            "lower",
            ("another clip of the action", numbers["code of same action, over spread"]),
        ),
        PoseNumber("code ratio", numbers["code ratio"], "", "lower"),
        PoseNumber("ADE of transfer", numbers["ADE of transfer"], scaled, "lower"),
        PoseNumber("FDE of transfer", numbers["FDE of transfer"], scaled, "lower"),
        PoseNumber("self reconstruction", numbers["self reconstruction"], "", "lower"),
    ]


def _leakage(numbers: Numbers) -> list[PoseNumber]:
    found = []
    for name, value in numbers.items():
        if name.endswith("by chance"):
            continue
        chance = numbers.get(f"{name}, by chance")
        is_error = chance is not None
        found.append(
            PoseNumber(
                name,
                value,
                "standard deviations",
                "higher" if is_error else "lower",
                ("by chance", chance) if chance is not None else None,
            )
        )
    return found


def _actions(numbers: Numbers, clips: Clips) -> list[PoseNumber]:
    """Beside always saying the commonest action."""
    known = clips.actions[clips.actions >= 0]
    commonest = float(known.bincount().max() / len(known)) if len(known) else 0.0
    return [
        PoseNumber(name, value, "", "higher", ("commonest action", commonest))
        for name, value in numbers.items()
    ]


def _flow(numbers: Numbers) -> list[PoseNumber]:
    found = []
    for name in ("flow nll", "flow loss", "flow normality"):
        if name in numbers:
            normal = numbers.get(f"{name}, normal numbers")
            better: Better = "higher" if name == "flow normality" else "lower"
            beside = ("normal numbers", normal) if normal is not None else None
            found.append(PoseNumber(name, numbers[name], "", better, beside))
    return found
