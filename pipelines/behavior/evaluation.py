"""Every number of a behaviour model (spec: behavior, 6.1), on held-out takes.

What the published code does wrong is put right here (spec: 8): classifiers and regressors are
scored on clips that they have not learned from, the classifier of reconstructions is trained, and
"cross" sequences are transferred ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.behavior import motion_metrics
from pipelines.behavior.auxiliary import RealismClassifier, start_posture_regressor
from pipelines.behavior.baseline import BaselineModel
from pipelines.behavior.data import NO_ACTION, PoseData
from pipelines.behavior.inference import BehaviorModel
from pipelines.behavior.steps import build_networks, latent_classifier
from pipelines.training.checkpoint import checkpoint_meta, load_weights, networks_in
from pipelines.training.generators import derived_seed, torch_generator

Progress = Callable[[str, int, int], None]
Numbers = dict[str, float]
Model = BehaviorModel | BaselineModel

_CONDITIONS_AT_ONCE = 8


@dataclass(frozen=True)
class EvaluationSettings:
    """How much is measured; the defaults are published.

    num_samples: futures of a posture.  max_conditions, max_clips: postures, and clips for
    classifiers.  steps: of a realism classifier and of a posture regressor.
    """

    num_samples: int = 50
    max_conditions: int = 1024
    max_clips: int = 25_000
    batch_size: int = 256
    steps: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Clips:
    """Held-out clips, B 1+T P, their actions, and for each clip one of another action."""

    poses: Tensor
    actions: Tensor
    partners: Tensor
    same_action: Tensor


def held_out_clips(data: PoseData, settings: EvaluationSettings, device: torch.device) -> Clips:
    """Clips spread evenly over the held-out takes."""
    arrays = data.held_out_clips(settings.max_clips)
    assert arrays is not None
    has_actions = len(set(arrays["action"].tolist())) > 1
    other = data.partners(settings.max_clips, has_same_label=False) if has_actions else arrays
    alike = data.partners(settings.max_clips, has_same_label=True)

    def on_device(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device)

    return Clips(
        on_device(arrays["poses"]),
        on_device(arrays["action"]),
        on_device(other["poses"]),
        on_device(alike["poses"]),
    )


@torch.no_grad()
def future_numbers(
    model: Model,
    data: PoseData,
    settings: EvaluationSettings,
    *,
    prior: str,
    progress: Progress,
) -> Numbers:
    """ASD, FSD, ADE, FDE and APD of random futures, metres of all coordinates of a pose together.

    The posture is the last of a clip and the truth what follows it; where takes are too short for
    that, the clip's first and the clip. An MT-VAE is given a clip's first poses, the truth is the
    rest of it.
    """
    num_frames = model.config.poses.num_frames
    longer = replace(data.rule, num_frames=2 * num_frames + 1)
    fits = data.held_out is not None and int(data.held_out.lengths.min()) > longer.num_frames
    fits = fits and model.num_given == 1
    found = replace(data, rule=longer) if fits else data
    arrays = found.held_out_clips(settings.max_conditions)
    assert arrays is not None
    clips = torch.from_numpy(arrays["poses"]).to(model.device)[:, -num_frames - 1 :]
    generator = torch_generator(settings.seed, "futures", prior)
    values: dict[str, list[Tensor]] = {}
    for first in range(0, len(clips), _CONDITIONS_AT_ONCE):
        part = clips[first : first + _CONDITIONS_AT_ONCE]
        shape = (len(part) * settings.num_samples, model.noise_size)
        codes = model.draw(torch.randn(shape, generator=generator).to(model.device), prior=prior)
        given, truth = _parted(model, part)
        repeated = given.repeat_interleave(settings.num_samples, dim=0)
        made = model.continued(codes, repeated, truth.shape[1]).unflatten(0, (len(part), -1))
        for name, each in _distances(_metres(model, made), _metres(model, truth)).items():
            values.setdefault(name, []).append(each)
        progress("futures", min(first + _CONDITIONS_AT_ONCE, len(clips)), len(clips))
    numbers = {name: float(torch.cat(each).mean()) for name, each in values.items()}
    return numbers | {"conditions": float(len(clips)), "start is last pose": float(fits)}


def _parted(model: Model, clips: Tensor) -> tuple[Tensor, Tensor]:
    """The given poses of clips, B G P, and what follows them, B T P."""
    return clips[:, : model.num_given], clips[:, model.num_given :]


def _distances(samples: Tensor, truth: Tensor) -> dict[str, Tensor]:
    return {
        "ASD": motion_metrics.nearest_sample_distance(samples),
        "FSD": motion_metrics.nearest_final_distance(samples),
        "ADE": motion_metrics.best_displacement(samples, truth),
        "FDE": motion_metrics.best_final_displacement(samples, truth),
        "APD": motion_metrics.average_pairwise_distance(samples),
    }


def _metres(model: Model, poses: Tensor) -> Tensor:
    """... P scaled to ... P in the unit of the data."""
    scale = [torch.from_numpy(each).to(poses) for each in (model.scale.std, model.scale.mean)]
    return poses * scale[0] + scale[1]


@torch.no_grad()
def transfer_numbers(model: Model, clips: Clips) -> Numbers:
    """What is left of a behaviour after it was done from another posture; scaled poses.

    code found again: ||mu - mu'|| of a transferred sequence encoded again; of another person's clip
    of the same action beside it, which is what a good value is far below.
    """
    given, truth = _parted(model, clips.poses)
    mean = model.encode(clips.poses)
    made = model.continued(mean, clips.partners, truth.shape[1])
    again = (model.found_again(made, clips.partners) - mean).norm(dim=1)
    other = (model.encode(clips.same_action) - mean).norm(dim=1)
    itself = model.continued(mean, given, truth.shape[1])
    step = (made - truth).norm(dim=-1)
    found = {
        "code found again": again.mean(),
        "code found again, spread": again.std(),
        "code of same action": other.mean(),
        "code of same action, spread": other.std(),
        "code found again, over spread": again.mean() / again.std(),
        "code of same action, over spread": other.mean() / other.std(),
        "code ratio": again.mean() / other.mean(),
        "ADE of transfer": step.mean(),
        "FDE of transfer": step[:, -1].mean(),
        "self reconstruction": F.mse_loss(itself, truth),
    }
    return {name: float(value) for name, value in found.items()}


@torch.no_grad()
def action_numbers(
    model: Model, clips: Clips, classifiers: Mapping[str, torch.nn.Module]
) -> Numbers:
    """Share of clips that the run's own classifiers, trained on real ones, say the action of.

    Of real clips and of what was done in them from another's posture; `latent` sees codes.
    """
    truth = _parted(model, clips.poses)[1]
    code = model.encode(clips.poses)
    made = model.continued(code, clips.partners, truth.shape[1])
    found = {}
    for name, classifier in classifiers.items():
        if name == "latent":
            size = code.shape[1] if isinstance(model, BehaviorModel) else model.code_size
            logits = {"codes": classifier(code[:, :size])}
        else:
            poses = clips.poses[:, :-1]
            logits = {"real": classifier(poses)[0], "transferred": classifier(made)[0]}
        for what, each in logits.items():
            is_right = (each.argmax(1) == clips.actions)[clips.actions != NO_ACTION]
            if len(is_right):
                found[f"{name} accuracy, {what}"] = float(is_right.double().mean())
    return found


def trained_classifiers(model: Model, data: PoseData) -> dict[str, torch.nn.Module]:
    """The classifiers in the run's checkpoint; none in one without, or of other actions."""
    checkpoint_dir = Path(model.checkpoints["stage1"]["path"])
    if checkpoint_meta(checkpoint_dir).get("actions") != data.action_names:
        return {}
    stage1, count = model.config.stage1, len(data.action_names)
    if isinstance(model, BaselineModel):
        built: Mapping[str, torch.nn.Module] = latent_classifier(stage1.mtvae.code_size, count)
    else:
        num_frames = model.config.poses.num_frames
        built = build_networks(stage1, num_frames=num_frames, num_actions=count).classifiers
    there = networks_in(checkpoint_dir)
    found = {name: each.to(model.device).eval() for name, each in built.items() if name in there}
    load_weights(checkpoint_dir, found)
    return found


@torch.no_grad()
def flow_numbers(model: Model, clips: Clips, settings: EvaluationSettings) -> Numbers:
    """How normal the flow makes the codes of real clips."""
    if isinstance(model, BaselineModel) or model.flow is None:
        return {}
    found = model.net.encoder(clips.poses[:, :-1])
    generator = torch_generator(settings.seed, "codes")
    code = found.sample(torch.randn(found.mean.shape, generator=generator).to(found.mean))
    residual, log_det = model.flow(code)
    nll = 0.5 * residual.square().sum(1).mean()
    return {
        "flow nll": float(nll),
        "flow nll, normal numbers": 0.5 * code.shape[1],
        "flow loss": float(nll - log_det.mean()),
        "flow normality": float(np.mean(normality(residual.double().cpu().numpy()))),
    }


def normality(values: np.ndarray) -> np.ndarray:
    """p-values of a Kolmogorov-Smirnov test against the standard normal. values: N D."""
    from scipy.stats import kstest

    return np.array([kstest(column, "norm").pvalue for column in values.T])


def realism(
    model: Model, clips: Clips, settings: EvaluationSettings, *, progress: Progress
) -> Numbers:
    """Mean chance that a classifier gives generated clips of being real; 0.5 is perfect, 0 bad."""
    has_flow = isinstance(model, BehaviorModel) and model.flow is not None
    kinds = ["prior", "transfer", "reconstruction", *(["flow"] if has_flow else [])]
    found, (_, real) = {}, _parted(model, clips.poses)
    done, total = itertools.count(1), len(kinds) * settings.steps

    def stepped() -> None:
        progress("realism", next(done), total)

    for kind in kinds:
        fake = generated(model, clips, settings, kind)
        found[f"realism, {kind}"] = _realism_score(real, fake, settings, stepped=stepped)
    return found


@torch.no_grad()
def generated(model: Model, clips: Clips, settings: EvaluationSettings, kind: str) -> Tensor:
    """As many sequences, B T P, as there are clips. kind: reconstruction, transfer, prior, flow."""
    given, truth = _parted(model, clips.poses)
    num_frames = truth.shape[1]
    if kind == "reconstruction":
        return model.continued(model.encode(clips.poses), given, num_frames)
    if kind == "transfer":
        return model.continued(model.encode(clips.poses), clips.partners, num_frames)
    generator = torch_generator(settings.seed, "realism", kind)
    noise = torch.randn((len(given), model.noise_size), generator=generator)
    code = model.draw(noise.to(model.device), prior="flow" if kind == "flow" else "normal")
    return model.continued(code, given, num_frames)


def _realism_score(
    real: Tensor, fake: Tensor, settings: EvaluationSettings, *, stepped: Callable[[], None]
) -> float:
    """Of a classifier that learns from the first half and is asked about the second.

    stepped is called after each of its steps: there are minutes of them.
    """
    half = len(real) // 2
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(derived_seed(settings.seed, "realism"))
        network = RealismClassifier(real.shape[2]).to(real.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    generator = torch_generator(settings.seed, "realism batches")
    size = min(settings.batch_size, half)
    for _ in range(settings.steps):
        chosen = torch.randperm(half, generator=generator)[:size].to(real.device)
        logits = torch.cat([network(real[chosen]), network(fake[chosen])])
        truth = torch.cat([torch.ones(size, 1), torch.zeros(size, 1)]).to(logits)
        loss = F.binary_cross_entropy_with_logits(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stepped()
    with torch.no_grad():
        return float(network(fake[half:]).sigmoid().mean())


def posture_leakage(
    model: Model, clips: Clips, settings: EvaluationSettings, *, progress: Progress
) -> Numbers:
    """How far a regressor stays from telling the pose of a frame from the code; higher is better.

    Mean L2 distance of scaled poses, of clips that it has not learned from; beside it that of
    always saying the mean pose, which is as far as it can be.
    """
    truth = _parted(model, clips.poses)[1]
    # the clip that a behaviour is read from, and of an MT-VAE, as published, its future
    poses = truth if isinstance(model, BaselineModel) else clips.poses[:, :-1]
    code = model.encode(clips.poses)
    made = generated(model, clips, settings, "transfer")
    frames = asked_frames(poses.shape[1])
    half, found = len(poses) // 2, {}
    for number, frame in enumerate(frames):
        regressor = fitted_regressor(code[:half], poses[:half, frame], settings)
        with torch.no_grad():
            error = (regressor(code[half:]) - poses[half:, frame]).norm(dim=1).mean()
        mean = (poses[:half, frame].mean(0) - poses[half:, frame]).norm(dim=1).mean()
        found[f"posture error at {frame}"] = float(error)
        found[f"posture error at {frame}, by chance"] = float(mean)
        displacement = (made[:, frame] - truth[:, frame]).norm(dim=1).mean()
        found[f"displacement at {frame}"] = float(displacement)
        progress("posture leakage", number + 1, len(frames))
    return found


def asked_frames(num_frames: int) -> list[int]:
    """0, 10, ... and the last."""
    return [*range(0, num_frames - 1, 10), num_frames - 1]


def fitted_regressor(
    code: Tensor, poses: Tensor, settings: EvaluationSettings
) -> torch.nn.Sequential:
    """A regressor from codes N D to poses N P, trained for settings.steps."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(derived_seed(settings.seed, "regressor"))
        regressor = start_posture_regressor(code.shape[1], poses.shape[1]).to(code.device)
    optimizer = torch.optim.Adam(regressor.parameters(), lr=1e-3)
    generator = torch_generator(settings.seed, "regressor batches")
    size = min(settings.batch_size, len(code))
    for _ in range(settings.steps):
        chosen = torch.randperm(len(code), generator=generator)[:size].to(code.device)
        loss = F.mse_loss(regressor(code[chosen]), poses[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return regressor
