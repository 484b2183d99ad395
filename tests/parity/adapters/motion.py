"""motion: the adversarial and the autoregressive model of keypoint motion."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.motion import checkpoint, wgan
from pipelines.motion.autoregressive import AutoregressiveMotion, complete
from pipelines.motion.config import AutoregressiveConfig, WganConfig
from pipelines.motion.vectors import JacobianRange, to_keypoints, with_ends
from pipelines.motion.wgan import MotionCritic, MotionGenerator
from tests.parity.harness import Adapter, Case, Result, built


def key(document: Mapping[str, Any]) -> str:
    """The computation of a case: the notebook it is from."""
    return next((name for name in ADAPTERS if name in document["network"]), document["network"])


def _gradients(network: nn.Module, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Gradients by output name; names: output -> parameter of ours."""
    parameters = dict(network.named_parameters())
    found = {}
    for output, name in names.items():
        gradient = parameters[name].grad
        assert gradient is not None
        found[output] = gradient.clone()
    return found


def _adversarial(case: Case) -> Result:
    settings = case.config
    config = WganConfig(
        noise_size=settings["noise_dim"],
        hidden_size=settings["hidden_dim"],
        weight_gradient_penalty=settings["gradient_penalty_weight"],
    )
    size = settings["motion_dim"]
    generator = built(
        partial(MotionGenerator, config, vector_size=size),
        checkpoint.wgan_state(case.state("netG.")),
    )
    critic = built(
        partial(MotionCritic, config, vector_size=size), checkpoint.wgan_state(case.state("netD."))
    )
    real, noise = case.inputs["real"], case.inputs["noise"]
    fake = generator(noise, real[:, 0], real[:, -1])
    real_scores, fake_scores = critic(real), critic(fake.detach())
    critic_loss = wgan.critic_loss(real_scores, fake_scores)
    penalty = wgan.gradient_penalty(critic, real, fake, case.inputs["alpha"])
    limits = JacobianRange(settings["jmin"], settings["jmax"])
    completed = to_keypoints(with_ends(fake, real[:, 0], real[:, -1]), limits)
    outputs: dict[str, Tensor] = {
        "fake": fake,
        "score_fake": fake_scores,
        "score_real": real_scores,
        "loss_D": critic_loss,
        "gradient_penalty": config.weight_gradient_penalty * penalty,
        "completed_value": completed.value,
    }
    assert completed.jacobian is not None
    outputs["completed_jacobian"] = completed.jacobian
    critic_loss.backward()
    outputs |= _gradients(critic, _wanted(case, "gradD."))
    outputs["loss_G"] = wgan.generator_loss(critic(fake))
    outputs["loss_G"].backward()
    return outputs | _gradients(generator, _wanted(case, "gradG."))


def _wanted(case: Case, kind: str) -> dict[str, str]:
    return {
        output: checkpoint.wgan_key(output.removeprefix(kind))
        for output in case.wanted
        if output.startswith(kind)
    }


def _autoregressive(case: Case) -> Result:
    settings = case.config
    size, num_frames = settings["input_size"], settings["frames"]
    model = built(
        partial(
            AutoregressiveMotion,
            AutoregressiveConfig(hidden_size=settings["hidden_size"]),
            vector_size=size,
        ),
        checkpoint.autoregressive_state(case.state()),
    )
    ours, theirs = checkpoint.positions_first(size), checkpoint.jacobians_first(size)
    inputs = {name: value[..., ours] for name, value in case.inputs.items()}
    predicted, _ = model(inputs["sequence"])
    loss = (predicted[:, -1:] - inputs["target"]).square().mean()
    loss.backward()
    outputs = {"loss": loss, "next_frame": predicted[:, -1:][..., theirs]}
    parameters = dict(model.named_parameters())
    for output in case.wanted:
        if output.startswith("grad."):
            published = output.removeprefix("grad.")
            gradient = parameters[checkpoint.autoregressive_key(published)].grad
            assert gradient is not None
            outputs[output] = _in_published_order(published, gradient)
    with torch.no_grad():
        first, last = inputs["first"][:, 0], inputs["last"][:, 0]
        outputs["forward"] = model.free_run(first, num_frames)[..., theirs]
        outputs["backward"] = model.free_run(last, num_frames).flip(1)[..., theirs]
        for name, is_as_published in (("completed", True), ("completed_fixed", False)):
            found = complete(model, first, last, num_frames, is_as_published=is_as_published)
            outputs[name] = found.sequence[..., theirs]
        outputs |= {"join_index": found.index, "join_error": found.error}
    return outputs


def _in_published_order(name: str, gradient: Tensor) -> Tensor:
    if "weight_ih" in name:
        return gradient[:, checkpoint.jacobians_first(gradient.shape[1])]
    if name.startswith("fc."):
        return gradient[checkpoint.jacobians_first(gradient.shape[0])]
    return gradient


ADAPTERS: dict[str, Adapter] = {
    "Project_WGAN": _adversarial,
    "AutoBiGRU_model": _autoregressive,
}
