"""fomm: every network, whole animations, the random warp, and the losses with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pipelines.features.vgg19 import Vgg19Loss, vgg19_state
from pipelines.fomm import checkpoint, steps
from pipelines.fomm.blocks import AntiAliasDownsample, antialias_kernel, coordinate_grid
from pipelines.fomm.config import (
    DenseMotionConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    KeypointConfig,
    LossConfig,
)
from pipelines.fomm.discriminator import ImagePyramid, MultiScaleDiscriminator
from pipelines.fomm.generator import DenseMotion, DenseMotionNetwork, OcclusionAwareGenerator
from pipelines.fomm.keypoints import KeypointDetector, Keypoints, gaussian_maps, transfer_motion
from pipelines.fomm.losses import Transform
from pipelines.fomm.networks import Networks
from tests.parity.harness import Adapter, Case, CaseError, Result

_Network = TypeVar("_Network", bound=nn.Module)
_PREFIX = "first-order-model "


def key(document: Mapping[str, Any]) -> str:
    """The computation of a case: how the description of its network starts."""
    name = str(document["network"]).removeprefix(_PREFIX)
    return next((start for start in ADAPTERS if name.startswith(start)), name)


def _loaded(make: Callable[[], _Network], state: Mapping[str, Tensor]) -> _Network:
    """Built for real, since the blur kernels are computed by us and are not in the state."""
    network = make()
    network.load_state_dict(dict(state))
    return network.eval()


# Networks


def _sizes(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = ("block_expansion", "num_blocks", "max_features", "scale_factor")
    return {name: settings[name] for name in names if name in settings}


def _common(settings: Mapping[str, Any]) -> dict[str, int]:
    return {"num_keypoints": settings["num_kp"], "num_channels": settings["num_channels"]}


def _detector(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> KeypointDetector:
    config = KeypointConfig(
        **{"scale_factor": 1.0, **_sizes(settings)},
        temperature=settings["temperature"],
        has_jacobian=settings.get("estimate_jacobian", False),
        has_single_jacobian_map=settings.get("single_jacobian_map", False),
    )
    return _loaded(
        lambda: KeypointDetector(config, **_common(settings)), checkpoint.keypoint_state(state)
    )


def _generator(
    settings: Mapping[str, Any], state: Mapping[str, Tensor], *, align_corners: bool
) -> OcclusionAwareGenerator:
    names = ("block_expansion", "max_features", "num_down_blocks", "num_bottleneck_blocks")
    config = GeneratorConfig(
        **{name: settings[name] for name in names},
        has_occlusion_map=settings.get("estimate_occlusion_map", False),
        dense_motion=DenseMotionConfig(
            **{"scale_factor": 1.0, **_sizes(settings["dense_motion_params"])}
        ),
    )

    def make() -> OcclusionAwareGenerator:
        return OcclusionAwareGenerator(config, **_common(settings), align_corners=align_corners)

    return _loaded(make, checkpoint.generator_state(state))


def _discriminator(
    settings: Mapping[str, Any], state: Mapping[str, Tensor]
) -> MultiScaleDiscriminator:
    config = DiscriminatorConfig(
        scales=tuple(settings.get("scales", (1,))),
        block_expansion=settings["block_expansion"],
        max_features=settings["max_features"],
        num_blocks=settings["num_blocks"],
        sees_keypoints=settings.get("use_kp", False),
        has_spectral_norm=settings.get("sn", False),
    )
    return _loaded(
        lambda: MultiScaleDiscriminator(config, **_common(settings)),
        checkpoint.discriminator_state(state, config.scales),
    )


def _keypoints(case: Case, name: str) -> Keypoints:
    return Keypoints(case.inputs[f"{name}.value"], case.inputs.get(f"{name}.jacobian"))


# One network


@torch.no_grad()
def _detect(case: Case) -> Result:
    detector = _detector(case.config, case.state())
    down = detector.downsample(case.inputs["image"])
    features = detector.hourglass(down)
    found = detector.locate(features)
    outputs = {
        "value": found.value,
        "down": down,
        "feature_map": features,
        "logits": detector.heatmap(features),
    }
    return outputs if found.jacobian is None else outputs | {"jacobian": found.jacobian}


def _motion(motion: DenseMotion) -> dict[str, Tensor]:
    outputs = {
        "mask": motion.mask,
        "deformation": motion.deformation,
        "sparse_deformed": motion.sparse,
    }
    return outputs if motion.occlusion is None else outputs | {"occlusion_map": motion.occlusion}


@torch.no_grad()
def _dense_motion(case: Case) -> Result:
    def make() -> DenseMotionNetwork:
        return DenseMotionNetwork(
            DenseMotionConfig(**{"scale_factor": 1.0, **_sizes(case.config)}),
            **_common(case.config),
            has_occlusion_map=case.config.get("estimate_occlusion_map", False),
            align_corners=case.config["grid_sample_align_corners"],
        )

    network = _loaded(make, checkpoint.dense_motion_state(case.state()))
    places = _keypoints(case, "kp_source"), _keypoints(case, "kp_driving")
    return _motion(network(case.inputs["source"], *places))


@torch.no_grad()
def _generate(case: Case) -> Result:
    align_corners = case.config["grid_sample_align_corners"]
    generator = _generator(case.config, case.state(), align_corners=align_corners)
    places = _keypoints(case, "kp_source"), _keypoints(case, "kp_driving")
    made = generator(case.inputs["source"], *places)
    return {"prediction": made.frames, "deformed": made.deformed} | _motion(made.motion)


@torch.no_grad()
def _discriminate(case: Case) -> Result:
    network = _discriminator(case.config, case.state())
    pyramid = ImagePyramid(network.scales)(case.inputs["image"])
    outputs = {}
    for mode in ("train", "eval"):
        network.train(mode == "train")
        for scale, (maps, score) in network(pyramid, _keypoints(case, "kp")).items():
            outputs[f"{mode}.prediction_map_{scale:g}"] = score
            for i, feature_map in enumerate(maps):
                outputs[f"{mode}.feature_maps_{scale:g}.{i}"] = feature_map
        state = {name: value.clone() for name, value in network.state_dict().items()}
        for output in case.wanted:
            if output.startswith(f"after_{mode}."):
                published = output.removeprefix(f"after_{mode}.")
                outputs[output] = state[checkpoint.discriminator_key(published, network.scales)]
    return outputs


@torch.no_grad()
def _animate(case: Case) -> Result:
    models = case.config["model_params"]
    detector = _detector(
        models["common_params"] | models["kp_detector_params"], case.state("kp_detector.")
    )
    generator = _generator(
        models["common_params"] | models["generator_params"],
        case.state("generator."),
        align_corners=case.config["grid_sample_align_corners"],
    )
    image, frames = case.inputs["source"], case.inputs["driving"]
    source, driving = detector(image), detector(frames)
    moved = transfer_motion(
        source,
        driving,
        driving.map(lambda tensor: tensor[:1]),
        adapt_scale=case.config["adapt_movement_scale"],
        relative_movement=case.config["use_relative_movement"],
        relative_jacobian=case.config["use_relative_jacobian"],
    )
    made = generator(
        image.expand(len(frames), -1, -1, -1),
        source.map(lambda tensor: tensor.expand(len(frames), *tensor.shape[1:])),
        moved,
    )
    outputs = {"prediction": made.frames} | _motion(made.motion)
    for name, points in (("source", source), ("driving", driving), ("norm", moved)):
        outputs[f"kp_{name}_value"] = points.value
        if points.jacobian is not None:
            outputs[f"kp_{name}_jacobian"] = points.jacobian
    return outputs


# Functions


_NORMALISATIONS = {
    "absolute": (False, False, False),
    "relative_movement": (False, True, False),
    "relative_all": (False, True, True),
    "adapt_scale": (True, True, True),
    "adapt_only": (True, False, False),
}


def _normalize(case: Case) -> Result:
    names = ("kp_source", "kp_driving", "kp_driving_initial")
    outputs = {}
    for name, (adapt, movement, jacobian) in _NORMALISATIONS.items():
        moved = transfer_motion(
            *(_keypoints(case, each) for each in names),
            adapt_scale=adapt,
            relative_movement=movement,
            relative_jacobian=jacobian,
        )
        assert moved.jacobian is not None
        outputs |= {f"{name}.value": moved.value, f"{name}.jacobian": moved.jacobian}
    return outputs


def _primitives(case: Case) -> Result:
    image, value = case.inputs["image"], case.inputs["kp.value"]
    shapes = {output["name"]: output["shape"] for output in case.document["outputs"]}
    outputs = {
        "kp2gaussian": gaussian_maps(value, *shapes["kp2gaussian"][2:]),
        "grid": coordinate_grid(*shapes["grid"][:2], like=value),
    }
    for scale in case.config["scales"]:
        outputs[f"kernel_{scale:g}"] = antialias_kernel(scale)
        outputs[f"down_{scale:g}"] = AntiAliasDownsample(scale)(image)
    return outputs


def _given_transform(case: Case, settings: Mapping[str, Any], align_corners: bool) -> Transform:
    noise = case.inputs["theta_noise"]
    theta = noise + torch.eye(2, 3, dtype=noise.dtype)
    return Transform(theta, case.inputs["control_params"], settings["points_tps"], align_corners)


def _transform(case: Case) -> Result:
    if case.config.get("padding_mode", "reflection") != "reflection":
        raise CaseError("frames are always mirrored at their borders")
    transform = _given_transform(case, case.config, case.config["grid_sample_align_corners"])
    coordinates = case.inputs["coordinates"]
    return {
        "warped": transform.warp(coordinates),
        "jacobian": transform.jacobian(coordinates),
        "frame": transform.frame(case.inputs["frame"]),
    }


# Losses

_PARTS = ("kp_detector", "generator", "discriminator")
_TERMS = {"generator_gan": "gen_gan"}


def _losses(case: Case) -> Result:
    networks, config = _trained_networks(case), _loss_config(case)
    settings = case.config["train_params"]
    perceptual = _vgg(case) if any(config.perceptual) else None
    pyramid = ImagePyramid(config.scales).to(case.dtype)
    source, driving = case.inputs["source"], case.inputs["driving"]
    made = steps.generator_pass(
        networks,
        source,
        driving,
        config=config,
        pyramid=pyramid,
        transform=_given_transform(
            case, settings["transform_params"], case.config["grid_sample_align_corners"]
        ),
        perceptual=perceptual,
    )
    total = torch.stack(list(made.terms.values())).sum()
    outputs = {f"loss.{_TERMS.get(name, name)}": term for name, term in made.terms.items()}
    outputs |= {
        "loss.total": total,
        "prediction": made.generated.frames,
        "transformed_frame": made.transformed_frame,
        "transformed_kp.value": made.transformed.value,
    }
    if made.transformed.jacobian is not None:
        outputs["transformed_kp.jacobian"] = made.transformed.jacobian
    if made.perceptual_parts is not None:
        outputs["perceptual_parts"] = made.perceptual_parts
    total.backward()
    outputs |= _gradients(case, networks, "grad.")
    if config.generator_gan > 0:
        networks.discriminator.zero_grad()
        loss = steps.discriminator_pass(
            networks.discriminator, driving, made, config=config, pyramid=pyramid
        )
        loss.backward()
        outputs |= {"loss.disc_gan": loss} | _gradients(case, networks, "dgrad.")
    return outputs


def _trained_networks(case: Case) -> Networks:
    models, align_corners = case.config["model_params"], case.config["grid_sample_align_corners"]
    shared = models["common_params"]
    networks = Networks(
        _detector(shared | models["kp_detector_params"], case.state("kp_detector.")),
        _generator(
            shared | models["generator_params"],
            case.state("generator."),
            align_corners=align_corners,
        ),
        _discriminator(shared | models["discriminator_params"], case.state("discriminator.")),
    )
    for network in vars(networks).values():
        network.to(case.dtype).train()
    # the weights again, since building rounded them to float32
    networks.keypoint_detector.load_state_dict(
        checkpoint.keypoint_state(case.state("kp_detector."))
    )
    networks.generator.load_state_dict(checkpoint.generator_state(case.state("generator.")))
    scales = networks.discriminator.scales
    networks.discriminator.load_state_dict(
        checkpoint.discriminator_state(case.state("discriminator."), scales)
    )
    return networks


def _loss_config(case: Case) -> LossConfig:
    settings = case.config["train_params"]
    return LossConfig(scales=tuple(settings["scales"]), **settings["loss_weights"])


def _vgg(case: Case) -> Vgg19Loss:
    """Up to relu5_1, the last layer that the loss looks at; the one behind it stays as built."""
    published = {}
    for name, value in case.state("vgg.").items():
        part, _, rest = name.partition(".")
        if part.startswith("slice"):
            published[f"features.{rest}"] = value
    network = Vgg19Loss().to(case.dtype)
    last = network.stages[-1][-1]
    for leaf in ("weight", "bias"):
        published.setdefault(f"features.30.{leaf}", getattr(last, leaf).detach())
    network.load_state_dict(vgg19_state(published))
    return network.eval()


def _gradients(case: Case, networks: Networks, kind: str) -> dict[str, Tensor]:
    scales = networks.discriminator.scales
    renames: tuple[Callable[[str], str | None], ...] = (
        checkpoint.keypoint_key,
        checkpoint.generator_key,
        lambda name: checkpoint.discriminator_key(name, scales),
    )
    found = {}
    for output in case.wanted:
        if not output.startswith(kind):
            continue
        part, _, published = output.removeprefix(kind).partition(".")
        network = list(vars(networks).values())[_PARTS.index(part)]
        name = renames[_PARTS.index(part)](published)
        found[output] = dict(network.named_parameters())[name or ""].grad
    return found


ADAPTERS: dict[str, Adapter] = {
    "modules/keypoint_detector.py KPDetector": _detect,
    "modules/dense_motion.py DenseMotionNetwork": _dense_motion,
    "modules/generator.py OcclusionAwareGenerator": _generate,
    "modules/discriminator.py MultiScaleDiscriminator": _discriminate,
    "animation": _animate,
    "animate.py normalize_kp": _normalize,
    "modules/util.py helpers": _primitives,
    "modules/model.py Transform": _transform,
    "modules/model.py GeneratorFullModel": _losses,
}
