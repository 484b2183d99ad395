"""fomm: training steps at 64, 128 and 256 px and animation at 256 px, with peak memory.

`--against DIR`: a checkout of the published code, whose step and animation then take turns with
ours: same weights, same inputs, the same convention of sampling. Both feature networks have random
weights, which nothing has to be downloaded for.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torchvision
import yaml
from torch import Tensor, nn

from pipelines.features.vgg19 import Vgg19Loss, vgg19_state
from pipelines.fomm import checkpoint
from pipelines.fomm.config import FamilyConfig
from pipelines.fomm.discriminator import ImagePyramid
from pipelines.fomm.folding import for_sampling
from pipelines.fomm.inference import encode, find_keypoints, render
from pipelines.fomm.keypoints import transfer_motion
from pipelines.fomm.losses import draw_transform, perceptual_parts
from pipelines.fomm.networks import Networks, build
from pipelines.fomm.steps import Optimizers, fomm_step
from pipelines.training.device import choose_device
from pipelines.training.optim import build_adam
from tests.benchmarks.rows import Measurement, Settings, apart, interleaved, ratios, seconds

_PRESETS = {"bair-64": 4, "kth-128": 4, "bair-256": 2}
"""Preset -> pairs in a batch: fewer than published, so that a CPU gets through them."""
_ROOT = Path(__file__).resolve().parents[2]
_FRAMES = 4
"""Frames of an animation that are timed at once."""
_UNUSED = {
    "tqdm": ("tqdm",),
    "imageio": (),
    "logger": ("Logger", "Visualizer"),
    "frames_dataset": ("PairedDataset",),
}
"""What the published animation imports but does not need for a frame."""


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of training steps and of animation, each in a process of its own for its memory."""
    presets = list(_PRESETS)[:1] if settings.quick else list(_PRESETS)
    for preset in presets:
        done = apart(step_seconds, preset, settings.device, settings.repeats)
        title = f"{preset}, training step of {_PRESETS[preset]} pairs"
        yield Measurement(title, done.result, "s", peak_mb=done.peak_mb, note=_note(settings))
    preset = presets[-1]
    done = apart(animation_seconds, preset, settings.device, settings.repeats)
    rates = [_FRAMES / each for each in done.result]
    title = f"{preset}, animation, batch 1"
    yield Measurement(title, rates, "frames/s", peak_mb=done.peak_mb, note=_note(settings))
    if settings.against is not None:
        for preset in presets:
            yield from _beside(settings, preset)


def _note(settings: Settings) -> str:
    return f"random weights; {settings.device}"


def step_seconds(preset: str, device: str, repeats: int) -> list[float]:
    """Seconds of one training step."""
    place, config = choose_device(device), _config(preset)
    step = _stepper(config, _built(config, place), _PRESETS[preset], place)
    return seconds(step, repeats=repeats)


def animation_seconds(preset: str, device: str, repeats: int) -> list[float]:
    """Seconds of _FRAMES frames, one by one, from driving frames to frames."""
    place, config = choose_device(device), _config(preset)
    return seconds(_animation(config, _built(config, place), place), repeats=repeats)


def _config(preset: str) -> FamilyConfig:
    text = (_ROOT / "conf" / "fomm" / f"{preset}.yaml").read_text(encoding="utf-8")
    config = FamilyConfig.model_validate(yaml.safe_load(text))
    # as the published code samples today
    model = config.model.model_copy(update={"grid_align_corners": False})
    return config.model_copy(update={"model": model})


def _built(config: FamilyConfig, device: torch.device) -> Networks:
    networks = build(config.model)
    for network in vars(networks).values():
        network.to(device)
    return networks


def _frames(config: FamilyConfig, count: int, device: torch.device) -> Tensor:
    shape = (count, config.model.num_channels, config.model.size_px, config.model.size_px)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)


def _stepper(
    config: FamilyConfig, networks: Networks, batch: int, device: torch.device
) -> Callable[[], object]:
    """One update on a batch that stays the same; new random warps each time."""
    source, driving = _frames(config, 2 * batch, device).chunk(2)
    optimizers = Optimizers(
        **{name: build_adam([each], config.optimizer) for name, each in vars(networks).items()}
    )
    perceptual = _feature_network().to(device)
    pyramid, generator = ImagePyramid(config.losses.scales).to(device), torch.Generator()

    def step() -> object:
        transform = draw_transform(config.transform, batch, generator, align_corners=False)
        return fomm_step(
            networks,
            optimizers,
            source,
            driving,
            config=config.losses,
            pyramid=pyramid,
            transform=transform.to(device),
            perceptual=perceptual,
        )

    return step


def _feature_network() -> Vgg19Loss:
    network = Vgg19Loss()
    published = _RandomVgg().state_dict()
    network.load_state_dict(vgg19_state(published))
    return network


def _animation(
    config: FamilyConfig, networks: Networks, device: torch.device
) -> Callable[[], Tensor]:
    """Relative motion, frame after frame, from the second driving frame on."""
    frames = _frames(config, 2 + _FRAMES, device)
    detector, generator = networks.keypoint_detector.eval(), networks.generator.eval()
    detector, generator = for_sampling(detector), for_sampling(generator)
    find = partial(find_keypoints, detector, batch_size=1)
    source, first = encode(generator, frames[:1], find(frames[:1])), find(frames[1:2])

    def animate() -> Tensor:
        made = []
        for frame in frames[2:].split(1):
            moved = transfer_motion(source.keypoints, find(frame), first)
            made += [each.frames for each in render(generator, source, moved, batch_size=1)]
        return torch.cat(made)

    return animate


# The published code, taking turns with ours


def _beside(settings: Settings, preset: str) -> Iterator[Measurement]:
    device, config = choose_device(settings.device), _config(preset)
    published = Published(settings.against, config, device)  # type: ignore[arg-type]
    ours = published.as_ours()
    batch = _PRESETS[preset]
    pairs = {
        f"training step of {batch} pairs": (
            _stepper(config, ours, batch, device),
            published.stepper(batch),
            1.5,
        )
    }
    for name, (mine, theirs, aim) in pairs.items():
        alike = _features_of_both(config, batch, device)
        own, other, shared = interleaved([mine, theirs, alike], repeats=settings.repeats)
        title = f"{preset}, {name}, over the published code"
        note = f"{_note(settings)}; {_floor('the feature network', own, other, shared)}"
        yield Measurement(title, ratios(other, own), "x", at_least=aim, note=note)
    mine, theirs = _animation(config, published.as_ours(), device), published.animation()
    difference = float((mine() - theirs()).abs().max())
    if difference > 1e-3:
        raise RuntimeError(f"the animations differ by {difference:g}")
    alike = _bottleneck(config, ours, device)
    own, other, shared = interleaved([mine, theirs, alike], repeats=settings.repeats)
    title = f"{preset}, animation, batch 1, over the published code"
    floor = _floor("the bottleneck", own, other, shared)
    note = f"{_note(settings)}; largest difference {difference:.1g}; {floor}"
    yield Measurement(title, ratios(other, own), "x", at_least=2.0, note=note)


def _floor(part: str, own: list[float], other: list[float], shared: list[float]) -> str:
    """How far a ratio could go: what both sides compute with the same calls of the same library."""
    ours, theirs, both = (median(each) for each in (own, other, shared))
    return (
        f"{part}, the same convolutions in both, takes {both / ours:.0%} of ours; "
        f"with all else free {theirs / both:.1f} x"
    )


def _bottleneck(
    config: FamilyConfig, networks: Networks, device: torch.device
) -> Callable[[], object]:
    """The residual blocks of _FRAMES frames, one by one, as we sample."""
    generator = for_sampling(networks.generator.eval())
    with torch.inference_mode():
        features = generator.encode(_frames(config, 1, device))

    @torch.inference_mode()
    def work() -> None:
        for _ in range(_FRAMES):
            x = features
            for block in generator.bottleneck:
                x = block(x)

    return work


def _features_of_both(
    config: FamilyConfig, batch: int, device: torch.device
) -> Callable[[], object]:
    """The perceptual loss of a batch, real and generated, and its gradient."""
    network = _feature_network().to(device)
    pyramid = ImagePyramid(config.losses.scales).to(device)
    real, fake = _frames(config, 2 * batch, device).chunk(2)
    fake = fake.clone().requires_grad_()

    def work() -> None:
        perceptual_parts(network, pyramid(real), pyramid(fake)).sum().backward()

    return work


class Published:
    """The published networks, step and animation, made to run on any device."""

    def __init__(self, folder: Path, config: FamilyConfig, device: torch.device) -> None:
        """folder: a checkout. Puts it on the import path of this process."""
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        torchvision.models.vgg19 = lambda **_: _RandomVgg()
        for name, attributes in _UNUSED.items():
            stand_in = types.ModuleType(name)
            vars(stand_in).update(dict.fromkeys(attributes))
            sys.modules.setdefault(name, stand_in)
        self._config, self._device = config, device
        self._settings = _published_settings(config)
        self._model = importlib.import_module("modules.model")
        models = self._settings["model_params"]
        common = models["common_params"]
        parts = {
            "kp_detector": ("keypoint_detector", "KPDetector", models["kp_detector_params"]),
            "generator": ("generator", "OcclusionAwareGenerator", models["generator_params"]),
            "discriminator": (
                "discriminator",
                "MultiScaleDiscriminator",
                models["discriminator_params"],
            ),
        }
        torch.manual_seed(0)
        self.networks: dict[str, nn.Module] = {
            name: getattr(importlib.import_module(f"modules.{module}"), kind)(
                **settings, **common
            ).to(device)
            for name, (module, kind, settings) in parts.items()
        }

    def as_ours(self) -> Networks:
        """Our networks with the same weights."""
        ours = _built(self._config, self._device)
        states = {name: each.state_dict() for name, each in self.networks.items()}
        scales = self._config.model.discriminator.scales
        ours.keypoint_detector.load_state_dict(checkpoint.keypoint_state(states["kp_detector"]))
        ours.generator.load_state_dict(checkpoint.generator_state(states["generator"]))
        ours.discriminator.load_state_dict(
            checkpoint.discriminator_state(states["discriminator"], scales)
        )
        return ours

    def stepper(self, batch: int) -> Callable[[], object]:
        """Its update, as its train.py makes it."""
        parts = [self.networks[name] for name in ("kp_detector", "generator", "discriminator")]
        generator = self._model.GeneratorFullModel(*parts, self._settings["train_params"])
        discriminator = self._model.DiscriminatorFullModel(*parts, self._settings["train_params"])
        for each in (generator, discriminator):
            each.to(self._device).train()
        adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
        optimizers = [adam(each.parameters()) for each in parts]
        source, driving = _frames(self._config, 2 * batch, self._device).chunk(2)
        inputs = {"source": source, "driving": driving}
        is_adversarial = self._config.losses.generator_gan > 0

        def step() -> object:
            losses, made = generator(inputs)
            sum(value.mean() for value in losses.values()).backward()
            for each in (optimizers[1], optimizers[0]):
                each.step()
                each.zero_grad()
            if is_adversarial:
                optimizers[2].zero_grad()
                losses = discriminator(inputs, made)
                sum(value.mean() for value in losses.values()).backward()
                optimizers[2].step()
                optimizers[2].zero_grad()
            return losses

        return step

    def animation(self) -> Callable[[], Tensor]:
        """Its frame-by-frame loop, in eval mode without grad."""
        normalize = importlib.import_module("animate").normalize_kp
        frames = _frames(self._config, 2 + _FRAMES, self._device)
        detector, generator = (self.networks[each].eval() for each in ("kp_detector", "generator"))

        @torch.no_grad()
        def animate() -> Tensor:
            source, first = detector(frames[:1]), detector(frames[1:2])
            made = []
            for frame in frames[2:].split(1):
                moved = normalize(
                    kp_source=source,
                    kp_driving=detector(frame),
                    kp_driving_initial=first,
                    use_relative_movement=True,
                    use_relative_jacobian=True,
                )
                made.append(generator(frames[:1], kp_source=source, kp_driving=moved)["prediction"])
            return torch.cat(made)

        return animate


class _RandomVgg(nn.Module):
    """torchvision's network without the weights that it would download."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = torchvision.models.vgg
        self.features = layers.make_layers(layers.cfgs["E"])


def _published_settings(config: FamilyConfig) -> dict[str, Any]:
    """What the published classes are called with."""
    model, losses, transform = config.model, config.losses, config.transform
    keypoints, generator = model.keypoints, model.generator
    sizes = ("block_expansion", "max_features", "num_blocks", "scale_factor")
    return {
        "model_params": {
            "common_params": {
                "num_kp": model.num_keypoints,
                "num_channels": model.num_channels,
                "estimate_jacobian": keypoints.has_jacobian,
            },
            "kp_detector_params": {name: getattr(keypoints, name) for name in sizes}
            | {"temperature": keypoints.temperature},
            "generator_params": {
                "block_expansion": generator.block_expansion,
                "max_features": generator.max_features,
                "num_down_blocks": generator.num_down_blocks,
                "num_bottleneck_blocks": generator.num_bottleneck_blocks,
                "estimate_occlusion_map": generator.has_occlusion_map,
                "dense_motion_params": {
                    name: getattr(generator.dense_motion, name) for name in sizes
                },
            },
            "discriminator_params": {
                "scales": [round(each) if each == 1 else each for each in losses.scales[:1]],
                "block_expansion": model.discriminator.block_expansion,
                "max_features": model.discriminator.max_features,
                "num_blocks": model.discriminator.num_blocks,
                "use_kp": model.discriminator.sees_keypoints,
                "sn": model.discriminator.has_spectral_norm,
            },
        },
        "train_params": {
            "scales": [round(each) if each == 1 else each for each in losses.scales],
            "transform_params": transform.model_dump(),
            "loss_weights": {
                "generator_gan": losses.generator_gan,
                "discriminator_gan": losses.discriminator_gan,
                "feature_matching": list(losses.feature_matching),
                "perceptual": list(losses.perceptual),
                "equivariance_value": losses.equivariance_value,
                "equivariance_jacobian": losses.equivariance_jacobian,
            },
        },
    }
