"""shape-pose: a training step and rendering at 256 px, with peak memory.

`--against DIR`: a checkout of the published code, which then takes turns with ours: same weights,
same pictures. VGG-19 has random weights on both sides, which nothing has to be downloaded for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from pipelines.features.vgg19 import Vgg19Loss, vgg19_state
from pipelines.nn.norm_conv import fold_for_inference
from pipelines.shape_pose import checkpoint
from pipelines.shape_pose.appearance import as_images
from pipelines.shape_pose.config import FamilyConfig
from pipelines.shape_pose.networks import ShapePoseNet
from pipelines.shape_pose.preview import to_bytes
from pipelines.shape_pose.sample import Renderer
from pipelines.shape_pose.steps import Batch, Networks, build_networks, draw_noise, renderer_step
from pipelines.shape_pose.stick_figure import stick_figure
from pipelines.training.device import choose_device
from pipelines.training.optim import build_adam
from tests.benchmarks import beside, published_behavior
from tests.benchmarks.beside import Sides
from tests.benchmarks.rows import Measurement, Settings, apart, interleaved

_BATCH, _PUBLISHED_BATCH, _FRAMES, _NUM_JOINTS = 2, 12, 8, 17
_FLOOR = "what is left are 3 x 3 convolutions, most of them VGG-19's"
_RENDER_FLOOR = (
    "the person is encoded once, by the published code for each frame (33 of its 43 GFLOP a frame "
    "are left); its ELU is torch's, whose e^x - 1 takes 1 or 13 ns a number on the same processor "
    "(AVX-512), and the ratio is 1.6 to 4 accordingly; half of our time are products"
)


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of each part in a process of its own, for its memory; then beside the published code."""
    size_px = 64 if settings.quick else 256
    step = f"training step of {_BATCH} pictures at {size_px} px"
    rendering = f"rendering {_FRAMES} frames at {size_px} px"
    note = f"{beside.how(settings.device)}; published batches have {_PUBLISHED_BATCH}"
    done = apart(step_seconds, settings.device, settings.repeats, size_px)
    found = [1000 * each for each in done.result]
    yield Measurement(step, found, "ms", note=note, peak_mb=done.peak_mb)
    done = apart(rendering_seconds, settings.device, settings.repeats, size_px)
    rates = [_FRAMES / each for each in done.result]
    note = beside.how(settings.device)
    yield Measurement(rendering, rates, "frames/s", note=note, peak_mb=done.peak_mb)
    if settings.against is None:
        return
    yield beside.speed(step, settings, step_sides, size_px, at_least=1.5, note=_FLOOR)
    yield beside.memory(step, settings, step_sides, size_px)
    floor = _RENDER_FLOOR
    yield beside.speed(rendering, settings, rendering_sides, size_px, at_least=2.0, note=floor)
    yield beside.memory(rendering, settings, rendering_sides, size_px)


def step_seconds(device: str, repeats: int, size_px: int) -> list[float]:
    """Seconds of an update, the regressor's five included."""
    beside.prepare(device)
    config = _config(size_px)
    work = _step(build_networks(config), config, choose_device(device))
    return interleaved([work], repeats=repeats, clock=beside.clock_of(device))[0]


def rendering_seconds(device: str, repeats: int, size_px: int) -> list[float]:
    """Seconds of _FRAMES frames of one person, stick figures included."""
    beside.prepare(device)
    work = renderer(size_px, device)
    return interleaved([work], repeats=repeats, clock=beside.clock_of(device))[0]


def renderer(size_px: int, device: str = "cpu") -> Callable[[], np.ndarray]:
    """_FRAMES frames of one person."""
    place, config = choose_device(device), _config(size_px)
    return _rendering(ShapePoseNet(config.network).to(place).eval(), config, place)


def _config(size_px: int) -> FamilyConfig:
    return FamilyConfig.model_validate({"network": {"size_px": size_px}, "batch_size": _BATCH})


def _step(networks: Networks, config: FamilyConfig, device: torch.device) -> Callable[[], object]:
    for network in networks.by_name.values():
        network.to(device)
    optimizers = {name: build_adam([n], config.optimizer) for name, n in networks.by_name.items()}
    images, others = _images(config, device), _images(config, device, count=4 * _BATCH)
    joints = torch.rand(5 * _BATCH, 2 * _NUM_JOINTS, device=device)
    batch = Batch(images, images.flip(-1), images, joints[:_BATCH], (others, joints[_BATCH:]))
    generator = torch.Generator().manual_seed(0)
    noise = draw_noise(config.network, _BATCH, generator, device)
    other_noise = draw_noise(config.network, 4 * _BATCH, generator, device)
    perceptual = Vgg19Loss()
    perceptual.load_state_dict(vgg19_state(_RandomVgg().state_dict()))
    perceptual.to(device).eval().requires_grad_(False)

    def step() -> object:
        return renderer_step(
            networks,
            optimizers,
            batch,
            noise=noise,
            other_noise=other_noise,
            perceptual=perceptual,
            kl_weight=0.01,
            config=config,
        )

    return step


def _rendering(
    net: ShapePoseNet, config: FamilyConfig, device: torch.device
) -> Callable[[], np.ndarray]:
    fold_for_inference(net)
    renderer, person, places = Renderer(net, config, device), _person(config), _places()

    def render() -> np.ndarray:
        return renderer.render(renderer.appearance(person, None), places)

    return render


# The published code, taking turns with ours


def step_sides(against: str, device: str, size_px: int) -> Sides:
    """An update; the same where nothing is trained: pictures made again."""
    place, config = choose_device(device), _config(size_px)
    theirs = _published(Path(against), config, place)
    networks = build_networks(config)
    networks.net.load_state_dict(checkpoint.shape_pose_state(theirs.state_dict()))
    networks.net.to(place)
    images = _images(config, place)

    @torch.no_grad()
    def difference() -> float:
        torch.manual_seed(0)
        expected = theirs(images, images.flip(-1))[0]
        torch.manual_seed(0)
        sizes = [*reversed(config.network.code_sizes_px)]
        noise = [torch.randn(_BATCH, 128, size, size).to(place) for size in sizes]
        found = networks.net.encode(images, noise)
        made = networks.net.render(images.flip(-1), found.codes)  # type: ignore[operator]
        return beside.difference(made, expected)

    ours = _step(networks, config, place)
    return Sides(ours, _published_step(theirs, config, place), difference)


def rendering_sides(against: str, device: str, size_px: int) -> Sides:
    """Frames of a person from stick figures."""
    place, config = choose_device(device), _config(size_px)
    theirs = _published(Path(against), config, place).eval()
    net = ShapePoseNet(config.network).to(place).eval()
    net.load_state_dict(checkpoint.shape_pose_state(theirs.state_dict()))
    # contiguous: its encoder draws random numbers in the order of memory
    person = as_images(torch.from_numpy(_person(config))[None]).to(place).contiguous()
    skeleton = Renderer(net, config, place).skeleton

    @torch.no_grad()
    def published_render() -> np.ndarray:
        made = []
        for each in _places():  # one by one, the person encoded anew for each
            drawn = stick_figure(each * size_px, size_px, skeleton=skeleton)
            figure = as_images(torch.from_numpy(drawn)[None]).to(place)
            made.append(to_bytes(theirs.transfer(person, figure)))
        return np.concatenate(made)

    sizes = [*reversed(config.network.code_sizes_px)]
    return Sides(
        _rendering(net, config, place),
        published_render,
        lambda: _rendered_difference(theirs, net, person, sizes),
    )


@torch.no_grad()
def _rendered_difference(
    theirs: Any, net: ShapePoseNet, person: Tensor, sizes_px: list[int]
) -> float:
    """Of a picture with the same random coarse code on both sides: ours has none by itself."""
    torch.manual_seed(0)
    expected = theirs.transfer(person, person.flip(-1))
    torch.manual_seed(0)
    noise = [torch.randn(1, 128, each, each).to(person) for each in sizes_px]
    found = net.encode(person, noise)
    return beside.difference(net.render(person.flip(-1), found.means), expected)


def _published(folder: Path, config: FamilyConfig, device: torch.device) -> Any:
    network = config.network
    settings = {
        "n_latent_scales": 2,
        "conv_layer_type": "l1",
        "nf_start": network.width,
        "nf_max": network.max_width,
        "subpixel_upsampling": True,
        "n_scales": 0,
        "n_rnb": 2,
        "spatial_size": network.size_px,
        "box_factor": network.box_factor,
        "bottleneck_factor": network.bottleneck_factor,
    }
    return published_behavior.renderer(folder, device, settings)


def _published_step(
    theirs: Any, config: FamilyConfig, device: torch.device
) -> Callable[[], object]:
    """Its update: VGG-19 learns along in vain, and the target's maps have a gradient too."""
    regressor = published_behavior.keypoint_regressor(
        2 * _NUM_JOINTS, list(config.network.code_sizes_px)
    ).to(device)
    likelihood = published_behavior.likelihood(_RandomVgg().features.to(device))
    net_optimizer = torch.optim.Adam(theirs.parameters(), lr=5e-4, betas=(0.5, 0.9))
    regressor_optimizer = torch.optim.Adam(regressor.parameters(), lr=1e-3)
    images, others = _images(config, device), _images(config, device, count=5 * _BATCH)
    joints = torch.rand(5 * _BATCH, 2 * _NUM_JOINTS, device=device)

    def step() -> object:
        made, means, log_stds, _ = theirs(images, images.flip(-1))
        terms = [
            (-s + 0.5 * ((2 * s).exp() + m**2) - 0.5).flatten(1).sum(1).mean()
            for m, s in zip(means, log_stds, strict=True)
        ]
        loss = likelihood(images, made) + 0.01 * torch.stack(terms).mean()
        for number in range(5):
            part = slice(number * _BATCH, (number + 1) * _BATCH)
            with torch.no_grad():
                _, means, _, _ = theirs.ed(theirs.eu(others[part]))
            error = (regressor(means) - joints[part]).norm(dim=1).mean()
            regressor_optimizer.zero_grad()
            error.backward()
            regressor_optimizer.step()
        net_optimizer.zero_grad()
        loss.backward()
        net_optimizer.step()
        return loss

    return step


def _images(config: FamilyConfig, device: torch.device, *, count: int = _BATCH) -> Tensor:
    shape = (count, 3, config.network.size_px, config.network.size_px)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1


def _person(config: FamilyConfig) -> np.ndarray:
    size = config.network.size_px
    return np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)


def _places() -> np.ndarray:
    return np.random.default_rng(1).uniform(0.1, 0.9, (_FRAMES, _NUM_JOINTS, 2))


class _RandomVgg(nn.Module):
    """torchvision's network without the weights that it would download."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = torchvision.models.vgg
        self.features = layers.make_layers(layers.cfgs["E"])
