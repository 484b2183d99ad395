"""`i2v eval pose` of a renderer (spec: behavior, 6.2): likeness, and what its codes tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.events import EXIT_NO_DATA, UserError, Work
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.pose import PoseNumber, PoseNumbers
from pipelines.metrics.run_data import measured_data
from pipelines.metrics.scenes import Resources
from pipelines.shape_pose.config import FamilyConfig
from pipelines.shape_pose.data import open_people
from pipelines.shape_pose.judges import Pictures, judged, open_judges
from pipelines.shape_pose.networks import KeypointRegressor
from pipelines.shape_pose.steps import Batch, build_networks
from pipelines.shape_pose.validation import HeldOut, Net, render, validate
from pipelines.training.beginning import settings_of
from pipelines.training.checkpoint import load_weights
from pipelines.training.device import prepare_device
from pipelines.training.generators import derived_seed, torch_generator
from pipelines.training.run_folder import Run, require_checkpoint

EPOCHS, BATCH, LAST_STEPS = 20, 8, 100
"""Of the regressor that looks for the posture in codes, as published."""


def measure(run: Run, request: EvalRequest, *, data_root: Path, work: Work) -> PoseNumbers:
    """Numbers of reconstructions and of people in the looks of another picture of them.

    request.num_images: held-out pictures, published: 8000.
    """
    device = prepare_device(request.device, threads=request.threads)
    config = settings_of(run, FamilyConfig)
    root, wanted = measured_data(request, config.data, data_root)
    config = config.model_copy(update={"data": wanted})
    people = open_people(root, config, work, max_held_out=request.num_images)
    if not people.held_out:
        raise UserError(
            "there are no held-out people to measure on",
            {"looked in": root, "to fix": "prepare data with a split test or val"},
            EXIT_NO_DATA,
        )
    net = _loaded(run, config, device, work)
    held_out = HeldOut(people, device)
    likeness = validate(net, held_out)
    mean = ("mean picture", likeness["val_psnr_mean"])
    found = [
        PoseNumber("PSNR of reconstructions", likeness["val_psnr"], "dB", "higher", mean),
        PoseNumber("PSNR in other looks", likeness["val_psnr_transfer"], "dB", "higher", mean),
    ]
    if "val_ssim" in likeness:
        found.append(PoseNumber("SSIM of reconstructions", likeness["val_ssim"], "", "higher"))
    leak, chance = posture_leakage(net, held_out, config, seed=request.seed)
    found.append(PoseNumber("posture error", leak, "fractions", "higher", ("mean posture", chance)))
    resources = Resources(
        device,
        request.weights_root or data_root / "weights",
        request.weights,
        is_generated=request.generated_weights,
    )
    judges = open_judges(resources, work, has_fid=config.kind == "vunet")
    found += judged(judges, _rendered(net, held_out))
    return PoseNumbers(found, len(people.held_out), 1, {"epochs of regressor": EPOCHS})


def _loaded(run: Run, config: FamilyConfig, device: torch.device, work: Work) -> Net:
    with torch.device("meta"):
        empty: Any = build_networks(config).net
    net: Net = empty.to_empty(device=device).eval().requires_grad_(False)
    load_weights(require_checkpoint(run, warn=work.warning), {"net": net})
    return net


def _rendered(net: Net, held_out: HeldOut) -> Iterator[tuple[Batch, Pictures]]:
    for batch, partner in held_out.batches():
        pictures = {
            "reconstructions": render(net, batch.appearance, batch.figure),
            "people in other looks": render(net, partner.appearance, batch.figure),
        }
        yield batch, pictures


def posture_leakage(
    net: Net, held_out: HeldOut, config: FamilyConfig, *, seed: int
) -> tuple[float, float]:
    """Length of the error of all joints together of a new regressor; higher is better.

    As published it learns from the held-out pictures themselves for 20 epochs, and the mean of its
    last 100 steps counts. Beside it the error of always saying the mean posture.
    """
    means, joints = _codes(net, held_out)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(derived_seed(seed, "regressor"))
        network = config.network
        regressor = KeypointRegressor(
            num_outputs=joints.shape[1],
            code_sizes_px=network.code_sizes_px,
            width=network.max_width,
        ).to(joints.device)
    optimizer = torch.optim.Adam(regressor.parameters(), lr=1e-3)
    generator = torch_generator(seed, "regressor batches")
    errors: list[float] = []
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(joints), generator=generator).split(BATCH):
            guess = regressor([each[chosen] for each in means])
            error = (guess - joints[chosen]).norm(dim=1).mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            errors.append(float(error.detach()))
    last = errors[-LAST_STEPS:]
    chance = (joints - joints.mean(0)).norm(dim=1).mean()
    return sum(last) / len(last), float(chance)


@torch.no_grad()
def _codes(net: Net, held_out: HeldOut) -> tuple[list[Tensor], Tensor]:
    """Means of the codes, coarse first, and joints as fractions, of all held-out pictures."""
    means: list[list[Tensor]] = [[], []]
    joints = []
    for batch, _ in held_out.batches():
        zeros = [batch.appearance.new_zeros(())] * 2
        for kept, found in zip(means, net.encode(batch.appearance, zeros).means, strict=True):
            kept.append(found)
        joints.append(batch.joints)
    return [torch.cat(each) for each in means], torch.cat(joints)
