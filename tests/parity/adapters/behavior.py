"""behavior and shape-pose: networks, losses, schedules and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.behavior import auxiliary, checkpoint, losses, motion_metrics, mtvae
from pipelines.behavior.config import BehaviorFlowConfig, BehaviorNetConfig, KlControlConfig
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.mtvae import MotionTransformationVae
from pipelines.behavior.networks import BehaviorNet
from pipelines.features.vgg19 import LOSS_MAPS, Vgg19Loss, vgg19_state
from pipelines.shape_pose import checkpoint as shape_pose_checkpoint
from pipelines.shape_pose import discriminators
from pipelines.shape_pose import losses as shape_pose_losses
from pipelines.shape_pose.baseline import BaselineVunet
from pipelines.shape_pose.config import NetworkConfig
from pipelines.shape_pose.networks import KeypointRegressor, ShapePoseNet
from pipelines.training.kl_control import KlControl
from tests.parity.adapters.behavior_data import DATA_ADAPTERS
from tests.parity.harness import Adapter, Case, CaseError, Result, built


def key(document: Mapping[str, Any]) -> str:
    """The computation of a case."""
    return str(document["kind"])


# The behavior net


def _net(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> BehaviorNet:
    if settings["decoder_arch"] != "lstm" or not settings["information_bottleneck"]:
        raise CaseError("the published decoder is an LSTM behind an information bottleneck")
    config = BehaviorNetConfig(
        pose_size=settings["n_kps"],
        code_size=settings["dim_hidden_b"],
        has_input_layer=settings["linear_in_decoder"],
    )
    return built(partial(BehaviorNet, config), checkpoint.net_state(state))


@torch.no_grad()
def _behavior_net(case: Case) -> Result:
    net = _net(case.config, case.state())
    found = net.encoder(case.inputs["behavior"])
    posture = case.inputs["posture"]
    if case.document["mode"] == "prior":
        (num_frames,) = {o["shape"][1] for o in _outputs(case, "poses")}
        poses = net.decoder(case.inputs["z"], posture[:, -1], num_frames)
        return {"poses": poses, "mu": found.mean}
    code, first = found.sample(case.inputs["eps"]), posture[:, 0]
    poses = net.decoder(code, first, posture.shape[1])
    return {
        "poses": poses,
        "inputs_per_step": torch.cat([first[:, None], poses[:, :-1]], dim=1),
        "b": code,
        "mu": found.mean,
        "logstd": found.log_std,
        "pre": found.summary,
    }


def _outputs(case: Case, name: str) -> list[dict[str, Any]]:
    return [case.document["outputs"][name]]


def _train_losses(case: Case) -> Result:
    settings = case.config
    net = _net(settings["net"], case.state("net."))
    sizes = settings["regressor"]
    regressor = built(
        partial(auxiliary.PostureRegressor, sizes["n_dim"], sizes["n_key"]),
        checkpoint.posture_regressor_state(case.state("regressor.")),
    )
    poses, target = case.inputs["keypoints"][:, :-1], case.inputs["keypoints"][:, 1:]
    found = net.encoder(poses)
    made = net.decoder(found.sample(case.inputs["eps"]), poses[:, 0], poses.shape[1])
    squared = (made - target).square().mean()
    kl = losses.kl_divergence(found.mean, found.log_std)
    frame = torch.full((len(poses),), settings["frame"])
    leak = (regressor(found.mean, frame) - poses[:, settings["frame"]]).square().mean()
    before = settings["recon_loss_weight"] * squared + settings["gamma"] * kl
    total = before - losses.leakage_bonus(leak, settings["weight_regressor"], (0.45, 0.7))
    ours = dict(net.named_parameters())
    listed = [name for name, _, _ in case.document["state"] if name.startswith("net.")]
    published = {name.removeprefix("net."): torch.zeros(1) for name in listed}
    order = list(checkpoint.net_state(published))
    gradients = torch.autograd.grad(total, [ours[n] for n in order], retain_graph=True)
    by_name = dict(zip(order, gradients, strict=True))
    regressor_gradients = torch.autograd.grad(leak, list(regressor.parameters()))
    return {
        "losses": torch.stack([squared, kl, leak, before, total]),
        "grad_norms": torch.stack([gradient.norm() for gradient in gradients]),
        "grad_norms_regressor": torch.stack([each.norm() for each in regressor_gradients]),
        "grad_mu_bias": by_name["encoder.mean.bias"],
        "grad_out_bias": by_name["decoder.output.bias"],
    }


@torch.no_grad()
def _flow(case: Case) -> Result:
    settings = case.config
    config = BehaviorFlowConfig(
        num_flows=settings["n_flows"],
        hidden_width=settings["flow_mid_channels"],
        hidden_depth=settings["flow_hidden_depth"],
    )
    make = partial(BehaviorFlow, config, code_size=settings["flow_in_channels"])
    flow = built(make, checkpoint.flow_state(case.state()))
    residual, log_det = flow(case.inputs["b"])
    reference = losses.normal_nll(case.inputs["reference"])
    return {
        "z": residual,
        "logdet": log_det,
        "reconstruction": flow.inverse(residual),
        "sample": flow.inverse(case.inputs["z"]),
        "losses": torch.stack([*losses.flow_loss(residual, log_det), reference]),
    }


@torch.no_grad()
def _action_classifier(case: Case) -> Result:
    settings = case.config
    make = partial(
        auxiliary.ActionClassifier, settings["n_in"], settings["n_c"], width=settings["dim"]
    )
    network = built(make, checkpoint.action_classifier_state(case.state()))
    logits, features = network(case.inputs["poses"])
    return {"logits": logits, "features": features}


@torch.no_grad()
def _velocity_classifier(case: Case) -> Result:
    make = partial(auxiliary.VelocityClassifier, case.config["n_kps"], case.config["out_dim"])
    network = built(make, checkpoint.velocity_classifier_state(case.state()))
    logits, features = network(case.inputs["poses"])
    return {"logits": logits, "features": features}


@torch.no_grad()
def _code_classifier(case: Case) -> Result:
    make = partial(torch.nn.Linear, case.config["n_in"], case.config["n_c"])
    state = {name.removeprefix("fc1."): value for name, value in _single(case.state()).items()}
    return {"output": built(make, state)(case.inputs["mu"])}


def _single(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of a network that is one layer, whatever the layer is called."""
    return {name.rpartition(".")[2]: value for name, value in state.items()}


@torch.no_grad()
def _posture_regressor(case: Case) -> Result:
    make = partial(auxiliary.PostureRegressor, case.config["n_dim"], case.config["n_key"])
    network = built(make, checkpoint.posture_regressor_state(case.state()))
    return {"output": network(case.inputs["mu"], case.inputs["frame"].long())}


@torch.no_grad()
def _start_posture_regressor(case: Case) -> Result:
    make = partial(auxiliary.start_posture_regressor, case.config["n_dim"], case.config["n_key"])
    network = built(make, checkpoint.start_posture_regressor_state(case.state()))
    return {"output": network(case.inputs["mu"])}


@torch.no_grad()
def _realism_classifier(case: Case) -> Result:
    make = partial(auxiliary.RealismClassifier, case.config["n_in"])
    network = built(make, checkpoint.realism_classifier_state(case.state()))
    return {"logit": network(case.inputs["poses"])}


@torch.no_grad()
def _mtvae(case: Case) -> Result:
    settings, inputs, mode = case.config, case.inputs, case.document["mode"]
    make = partial(MotionTransformationVae, pose_size=settings["n_dim_im"])
    model = built(make, checkpoint.mtvae_state(case.state()))
    made = model(
        inputs["source"],
        inputs["target"] if mode == "transfer" else None,
        (inputs["h0"], inputs["c0"]),
        num_condition=settings["n_cond"],
        noise=inputs["eps_z"],
        cycle_noise=inputs["eps_cycle"],
        from_prior=mode == "prior",
    )
    outputs: dict[str, Tensor] = {
        "poses": made.poses,
        "mu": made.mean,
        "logstd": made.log_std,
        "cycle": made.cycle,
    }
    if "losses" in case.wanted:
        poses, kl, motion, cycle = mtvae.losses(
            made, inputs["source"], inputs["cycle_target"], num_condition=settings["n_cond"]
        )
        total = poses + settings["kl_weight"] * kl + 10 * motion + 10 * cycle
        outputs["losses"] = torch.stack([poses, kl, motion, cycle, total])
    return outputs


# Functions


def _schedules(case: Case) -> Result:
    settings = case.config
    control = KlControl(
        KlControlConfig(
            initial=settings["gamma_init"],
            step=settings["gamma_step"],
            largest_information=settings["information_max"],
        )
    )
    used = []
    for kl in case.inputs["kl"].double().tolist():
        used.append(control.weight)
        control.update(kl)
    start, end, first, last, *_ = settings["linear_var"]
    values = [
        losses.linear(step, start=start, end=end, first=first, last=last)
        for step in settings["iterations"]
    ]
    return {"gamma_used": np.array(used), "linear": np.array(values)}


def _slerp(case: Case) -> Result:
    low, high = case.inputs["low"], case.inputs["high"]
    path = [losses.interpolate(low, high, share) for share in case.config["values"]]
    return {"path": torch.stack(path)}


def _motion_metrics(case: Case) -> Result:
    samples, future = case.inputs["samples"], case.inputs["future"]
    return {
        "APD": motion_metrics.average_pairwise_distance(samples),
        "ASD": motion_metrics.nearest_sample_distance(samples),
        "FSD": motion_metrics.nearest_final_distance(samples),
        "ADE": motion_metrics.best_displacement(samples, future).mean(),
        "FDE": motion_metrics.best_final_displacement(samples, future).mean(),
    }


# The shape-and-posture net


def _network_config(settings: Mapping[str, Any]) -> NetworkConfig:
    return NetworkConfig(
        size_px=settings["spatial_size"],
        appearance_channels=settings["n_channels_x"],
        width=settings["nf_start"],
        max_width=settings["nf_max"],
        bottleneck_factor=settings["bottleneck_factor"],
        box_factor=settings["box_factor"],
        convolution=settings["conv_layer_type"],
    )


@torch.no_grad()
def _shape_pose(case: Case) -> Result:
    config = _network_config(case.config)
    state = shape_pose_checkpoint.shape_pose_state(case.state())
    net = built(partial(ShapePoseNet, config), state)
    figure, mode = case.inputs["stickman"], case.document["mode"]
    if mode == "sample":
        return {"image": net.render(figure, (case.inputs["z0"], case.inputs["z1"]))}
    found = net.encode(case.inputs["appearance"], (case.inputs["eps0"], case.inputs["eps1"]))
    outputs = {"image": net.render(figure, found.means if mode == "transfer" else found.codes)}
    for i in range(2):
        outputs |= {f"mean{i}": found.means[i], f"logstd{i}": found.log_stds[i]}
    return outputs | {"kl": shape_pose_losses.kl_divergence(found)}


@torch.no_grad()
def _baseline(case: Case) -> Result:
    config = _network_config(case.config)
    state = shape_pose_checkpoint.baseline_state(case.state())
    net = built(partial(BaselineVunet, config), state)
    names = sorted(name for name in case.inputs if name.startswith("n"))
    noise = [case.inputs[name] for name in names]
    figure, mode = case.inputs["stickman"], case.document["mode"]
    if mode == "sample":
        return {"image": net.render(figure, noise).image}
    found = net.encode(case.inputs["appearance"], noise[:2])
    codes = found.means if mode == "transfer" else found.codes
    made = net.render(figure, noise[2:], codes)
    outputs: dict[str, Tensor] = {"image": made.image}
    for i in range(2):
        outputs |= {f"q{i}": found.means[i], f"p{i}": made.prior_means[i]}
    return outputs | {"kl": shape_pose_losses.prior_kl(found.means, made.prior_means)}


@torch.no_grad()
def _keypoint_regressor(case: Case) -> Result:
    settings = case.config
    make = partial(
        KeypointRegressor,
        num_outputs=settings["n_out"],
        code_sizes_px=settings["latent_widths"],
        width=settings["nf_max"],
    )
    network = built(make, shape_pose_checkpoint.regressor_state(case.state()))
    return {"output": network((case.inputs["mean0"], case.inputs["mean1"]))}


@torch.no_grad()
def _part_discriminator(case: Case) -> Result:
    make = partial(
        discriminators.PartDiscriminator,
        part_size_px=case.config["part_size"],
        num_scales=case.config["n_scales"],
    )
    network = built(make, shape_pose_checkpoint.part_discriminator_state(case.state()))
    return {"output": network(case.inputs["image"])}


@torch.no_grad()
def _patch_discriminator(case: Case) -> Result:
    settings = case.config
    make = partial(
        discriminators.patch_discriminator,
        width=settings["ndf"],
        num_layers=settings["n_layers"],
        channels_in=settings["input_nc"],
    )
    network = built(make, shape_pose_checkpoint.patch_discriminator_state(case.state()))
    return {"output": network(case.inputs["image"])}


@torch.no_grad()
def _perceptual(case: Case) -> Result:
    network = Vgg19Loss()
    published = {f"features.{name}": value for name, value in case.state().items()}
    network.load_state_dict(vgg19_state(published))
    target, prediction = case.inputs["target"], case.inputs["prediction"]
    terms = torch.stack(network.terms(target, prediction)).mean(dim=1)
    (features,) = network.maps(target, LOSS_MAPS[-1:])
    return {
        "losses": terms,
        "relu5_2": features,
        "total": case.config["ll_weight"] * terms.sum(),
    }


ADAPTERS: dict[str, Adapter] = {
    "behavior_net": _behavior_net,
    "train_losses": _train_losses,
    "behavior_flow": _flow,
    "action_classifier": _action_classifier,
    "action_classifier_velocity": _velocity_classifier,
    "action_classifier_latent": _code_classifier,
    "posture_regressor_train": _posture_regressor,
    "posture_regressor_eval": _start_posture_regressor,
    "realism_classifier": _realism_classifier,
    "mtvae": _mtvae,
    "schedules": _schedules,
    "slerp": _slerp,
    "motion_metrics": _motion_metrics,
    "vunet_alter": _shape_pose,
    "vunet_org": _baseline,
    "vunet_regressor": _keypoint_regressor,
    "part_disc": _part_discriminator,
    "patchgan": _patch_discriminator,
    "vgg_loss": _perceptual,
    **DATA_ADAPTERS,
}
