"""fomm: training steps at 64, 128 and 256 px and animation at 256 px, with peak memory.

Processor time of one thread; every value comes from a process that does nothing else, set up as
`i2v` does it. `--against DIR`: a checkout of the published code, whose processes take turns with
ours: the same configuration, batch and convention of sampling, and results that are compared first.
Both feature networks have random weights, which nothing has to be downloaded for.

Where the time goes: at 256 px two thirds of a step are convolutions, of which both programs make
nearly as many multiplications; what is saved is doubled pixels (four products for nine), frozen
feature maps and large maps of the generator by mixtures, detections of three batches at once and
weights that need no new order. A convolution of 64 x 64 x 256 with all gradients takes 85 ms by
mixtures and 144 plainly; its numbers are off by 1e-5 of the largest, the step's losses by 3e-7.
Tried and left out: huge pages, which save page faults and no time; discriminators with channels
last, whose instance norms copy every map.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from pipelines.fomm.losses import draw_transform
from pipelines.fomm.networks import Networks, build, in_order
from pipelines.fomm.steps import Log, Optimizers, fomm_step
from pipelines.training.device import choose_device, prepare_device, states_lie_apart
from pipelines.training.optim import build_adam
from tests.benchmarks.beside import clock_of, difference, how
from tests.benchmarks.rows import Apart, Measurement, Settings, apart, interleaved, ratios

_PRESETS = {"bair-64": 4, "kth-128": 4, "bair-256": 2}
"""Preset -> pairs in a batch: fewer than published, so that a CPU gets through them."""
_ROOT = Path(__file__).resolve().parents[2]
_FRAMES = 4
"""Frames of an animation that are timed at once."""
_ROUNDS = 2
"""Processes of each side, in turns."""
_WARMUPS = 2
"""Steps of each process that are not counted: memory only begins to be kept after the first."""
_STEP_AIM, _ANIMATION_AIM = 1.5, 2.0
_SAME = 1e-3
_TERMS = {
    "perceptual": "perceptual",
    "generator_gan": "gen_gan",
    "feature_matching": "feature_matching",
}
"""Losses without random warps, and the published names."""
_UNUSED = {
    "tqdm": ("tqdm",),
    "imageio": (),
    "logger": ("Logger", "Visualizer"),
    "frames_dataset": ("PairedDataset",),
}
"""What the published animation imports but does not need for a frame."""


class Task(NamedTuple):
    """What a process measures. repeats: values, after those that warm up."""

    preset: str
    device: str
    repeats: int
    against: Path | None = None


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of training steps and of animation."""
    presets = list(_PRESETS)[:1] if settings.quick else list(_PRESETS)
    for preset in presets:
        title = f"{preset}, training step of {_PRESETS[preset]} pairs"
        yield from _rows(title, step_seconds, preset, settings, _STEP_AIM)
    title = f"{presets[-1]}, animation of {_FRAMES} frames, batch 1"
    yield from _rows(title, animation_seconds, presets[-1], settings, _ANIMATION_AIM)
    if settings.against is not None:
        for preset in presets:
            done = apart(differences, Task(preset, settings.device, 1, settings.against))
            for name, value in done.result.items():
                title = f"{preset}, {name}, largest difference from the published code's"
                note = "the same weights and inputs"
                yield Measurement(title, [value], "relative", at_most=_SAME, note=note)


def _rows(
    title: str,
    function: Callable[[Task], list[float]],
    preset: str,
    settings: Settings,
    aim: float,
) -> Iterator[Measurement]:
    """Ours; with published code also its own, in turns, and what lies between them."""
    task = Task(preset, settings.device, max(1, settings.repeats // _ROUNDS))
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(apart(function, task))
        if settings.against is not None:
            published = task._replace(against=settings.against)
            theirs.append(apart(function, published, is_ours=False))
    yield _seconds(title, ours, settings)
    if theirs:
        yield _seconds(f"{title}, published code", theirs, settings)
        mine, others = (sorted(_values(each)) for each in (ours, theirs))
        name = f"{title}, over the published code"
        note = "smallest to smallest and so on"
        yield Measurement(name, ratios(others, mine), "x", at_least=aim, note=note)
        mine_mb, other_mb = (max(done.peak_mb for done in each) for each in (ours, theirs))
        name = f"{title}, peak memory over the published code's"
        yield Measurement(name, [mine_mb / other_mb], "x", at_most=1, peak_mb=mine_mb)


def _seconds(title: str, done: Sequence[Apart], settings: Settings) -> Measurement:
    peak_mb = max(each.peak_mb for each in done)
    note = f"random weights; {how(settings.device)}"
    return Measurement(title, _values(done), "s", peak_mb=peak_mb, note=note)


def _values(done: Sequence[Apart]) -> list[float]:
    return [value for each in done for value in each.result]


def step_seconds(task: Task) -> list[float]:
    """Seconds of training steps."""
    device, config = _begin(task), _config(task.preset)
    batch = _PRESETS[task.preset]
    if task.against is not None:
        work = Published(task.against, config, device).stepper(batch)
    else:
        work = _stepper(config, _built(config, device), batch, device)
    clock = clock_of(task.device)
    return interleaved([work], repeats=task.repeats, warmups=_WARMUPS, clock=clock)[0]


def animation_seconds(task: Task) -> list[float]:
    """Seconds of _FRAMES frames, one by one, from driving frames to frames."""
    device, config = _begin(task), _config(task.preset)
    if task.against is not None:
        work = Published(task.against, config, device).animation()
    else:
        work = _animation(config, _built(config, device), device)
    return interleaved([work], repeats=task.repeats, clock=clock_of(task.device))[0]


def differences(task: Task) -> dict[str, float]:
    """Between both programs' frames and losses, those without random warps, over their size."""
    assert task.against is not None
    device, config, batch = choose_device(task.device), _config(task.preset), _PRESETS[task.preset]
    published = Published(task.against, config, device)
    mine, theirs = _animation(config, published.as_ours(), device)(), published.animation()()
    log = _stepper(config, published.as_ours(), batch, device)()
    losses = published.stepper(batch)()
    pairs = [(log[name], losses[its].mean()) for name, its in _TERMS.items() if its in losses]
    found = [float((one - other).abs() / other.abs()) for one, other in pairs]
    return {"frames": difference(mine, theirs), "losses": max(found)}


def stepper(preset: str) -> Callable[[], object]:
    """One update as a training on a CPU makes it."""
    device, config = prepare_device("cpu", threads=1), _config(preset)
    return _stepper(config, _built(config, device), _PRESETS[preset], device)


def animator(preset: str) -> Callable[[], object]:
    """_FRAMES frames, one by one."""
    device, config = prepare_device("cpu", threads=1), _config(preset)
    return _animation(config, _built(config, device), device)


def _begin(task: Task) -> torch.device:
    """One thread; our own process set up as a training or a sampling is."""
    if task.against is None:
        return prepare_device(task.device, threads=1)
    torch.set_num_threads(1)
    return choose_device(task.device)


def _config(preset: str) -> FamilyConfig:
    text = (_ROOT / "conf" / "fomm" / f"{preset}.yaml").read_text(encoding="utf-8")
    config = FamilyConfig.model_validate(yaml.safe_load(text))
    # as the published code samples today
    model = config.model.model_copy(update={"grid_align_corners": False})
    return config.model_copy(update={"model": model})


def _built(config: FamilyConfig, device: torch.device) -> Networks:
    networks = build(config.model)
    in_order(networks, device)
    return networks


def _frames(config: FamilyConfig, count: int, device: torch.device) -> Tensor:
    shape = (count, config.model.num_channels, config.model.size_px, config.model.size_px)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)


def _stepper(
    config: FamilyConfig, networks: Networks, batch: int, device: torch.device
) -> Callable[[], Log]:
    """One update on a batch that stays the same; new random warps each time."""
    source, driving = _frames(config, 2 * batch, device).chunk(2)
    optimizers = Optimizers(
        **{name: build_adam([each], config.optimizer) for name, each in vars(networks).items()}
    )
    perceptual = _feature_network().to(device).pack()
    pyramid, generator = ImagePyramid(config.losses.scales).to(device), torch.Generator()

    def step() -> Log:
        transform = draw_transform(config.transform, batch, generator, align_corners=False)
        with states_lie_apart(vars(optimizers).values()):
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


# The published code


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

    def stepper(self, batch: int) -> Callable[[], Mapping[str, Tensor]]:
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

        def step() -> Mapping[str, Tensor]:
            losses, made = generator(inputs)
            judged = {}
            sum(value.mean() for value in losses.values()).backward()
            for each in (optimizers[1], optimizers[0]):
                each.step()
                each.zero_grad()
            if is_adversarial:
                optimizers[2].zero_grad()
                judged = discriminator(inputs, made)
                sum(value.mean() for value in judged.values()).backward()
                optimizers[2].step()
                optimizers[2].zero_grad()
            return {**losses, **judged}

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
