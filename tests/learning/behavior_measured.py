"""What a trained behavior net and renderer do, measured on takes that they have not seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.behavior.auxiliary import ActionClassifier
from pipelines.behavior.data import PoseData, open_poses
from pipelines.behavior.evaluation import EvaluationSettings, fitted_regressor
from pipelines.behavior.inference import BehaviorModel, load
from pipelines.behavior.poses import FIGURES
from pipelines.datasets.generate.skeleton import ACTIONS
from pipelines.events import Work
from tests.learning.behavior_world import NUM_FRAMES

CPU = torch.device("cpu")
_CLASSIFIER_STEPS = 200
_NUM_PROBES, _RESAMPLES = 5, 1000


@dataclass(frozen=True)
class Leak:
    """What probes cannot tell of the first posture: their squared error, over that of the mean.

    low, high: 95 % interval of that, from takes drawn again.  length: the same of distances.
    """

    share: float
    low: float
    high: float
    length: float


@dataclass(frozen=True)
class Measured:
    """accuracy: share of sequences classified as the source's action, real and transferred.

    start: mean distance of joints between a target's posture and the first pose made, over the
    height of the body.
    """

    accuracy_real: float
    accuracy_transferred: float
    accuracy_sampled: float
    start: float
    leak: Leak


def measure(run_dir: Path, data_root: Path) -> Measured:
    """Everything about the behavior net; of a stage 2 also what it samples."""
    model = load(run_dir, CPU, data_root=data_root, warn=print)
    quiet = Work()
    data = open_poses(data_root, model.config, quiet, scale=model.scale, splits=("test",))
    seen, seen_actions = _training_clips(data)
    arrays = data.held_out_clips(800)
    assert arrays is not None and data.held_out is not None
    clips, actions = torch.from_numpy(arrays["poses"]), torch.from_numpy(arrays["action"])
    classifier = fitted_classifier(seen[:, 1:], seen_actions)
    code = model.encode(clips)
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))
    targets = clips[order, 0]
    made = model.decode(code, targets, NUM_FRAMES)
    sampled = torch.zeros(1, *made.shape[1:])
    if model.flow is not None:
        noise = torch.randn(code.shape, generator=torch.Generator().manual_seed(1))
        sampled = model.decode(model.draw(noise), targets, NUM_FRAMES)
    kinds = _said(classifier, sampled)
    return Measured(
        accuracy_real=_share(classifier, clips[:, 1:], actions),
        accuracy_transferred=_share(classifier, made, actions),
        accuracy_sampled=float(torch.bincount(kinds, minlength=len(ACTIONS)).min() / len(kinds)),
        start=_start_error(model, made[:, 0], targets),
        leak=_leak(model, seen, code, clips[:, 0], num_takes=len(data.held_out.rows)),
    )


def fitted_classifier(clips: Tensor, actions: Tensor) -> ActionClassifier:
    """A small classifier of actions, trained on real sequences B T P."""
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = ActionClassifier(clips.shape[2], len(ACTIONS), width=48)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=3e-3)
    for _ in range(_CLASSIFIER_STEPS):
        chosen = torch.randint(len(clips), (64,), generator=draw)
        loss = F.cross_entropy(classifier(clips[chosen])[0], actions[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifier.eval()


def _training_clips(data: PoseData) -> tuple[Tensor, Tensor]:
    plan = data.sampler.plan(0, 2400)
    arrays = data.takes.clips(plan)
    return torch.from_numpy(arrays["poses"]), torch.from_numpy(arrays["action"])


@torch.no_grad()
def _said(classifier: ActionClassifier, sequences: Tensor) -> Tensor:
    return torch.as_tensor(classifier(sequences)[0].argmax(1))


def _share(classifier: ActionClassifier, sequences: Tensor, actions: Tensor) -> float:
    return float((_said(classifier, sequences) == actions).float().mean())


def _start_error(model: BehaviorModel, made: Tensor, targets: Tensor) -> float:
    first, posture = model.joints(made), model.joints(targets)
    height = np.ptp(posture[..., 2], axis=1).mean()
    assert posture.shape[1] in FIGURES
    return float(np.linalg.norm(first - posture, axis=-1).mean() / height)


def _leak(
    model: BehaviorModel, seen: Tensor, code: Tensor, postures: Tensor, *, num_takes: int
) -> Leak:
    """Of several probes, which see the codes of training clips; asked about held-out ones.

    postures: of as many clips of each take, one take after another.
    """
    told, errors = model.encode(seen), []
    for seed in range(_NUM_PROBES):
        settings = EvaluationSettings(batch_size=128, steps=400, seed=seed)
        probe = fitted_regressor(told, seen[:, 0], settings)
        with torch.no_grad():
            errors.append((probe(code) - postures).norm(dim=1))
    found, chance = torch.stack(errors), (seen[:, 0].mean(0) - postures).norm(dim=1)
    by_take = torch.stack([found.square().mean(0), chance.square()]).view(2, num_takes, -1).sum(2)
    draw = torch.Generator().manual_seed(0)
    again = by_take[:, torch.randint(num_takes, (_RESAMPLES, num_takes), generator=draw)].sum(2)
    low, high = (again[0] / again[1]).quantile(torch.tensor([0.025, 0.975])).tolist()
    share = float(by_take[0].sum() / by_take[1].sum())
    return Leak(share, low, high, float(found.mean() / chance.mean()))
