"""Finds the weights of feature networks, reads them safely, and says where they are from."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipelines import files
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.features.tensorflow_checkpoint import read_tensorflow_weights
from pipelines.features.torchscript_weights import is_torchscript, read_torchscript_weights
from pipelines.metrics.scenes import Resources

MODULE_NAME = "saved_model.pb"
HUB_HANDLE = "https://tfhub.dev/deepmind/i3d-kinetics-400/1"
HUB_CACHE_NAME = hashlib.sha1(HUB_HANDLE.encode(), usedforsecurity=False).hexdigest()


class Place(NamedTuple):
    """Where a download puts a file. sha256: what it begins with, where the publisher says so."""

    download: str
    file: str
    sha256: str = ""


PLACES: Mapping[str, tuple[Place, ...]] = {
    "i3d": (
        Place("i3d-tf", "i3d-kinetics-400"),
        Place("i3d-torchscript", "i3d_torchscript.pt"),
        Place("i3d-tats", "i3d_pretrained_400.pt"),
    ),
    "i3d-tf": (Place("i3d-tf", "i3d-kinetics-400"),),
    "i3d-torch": (Place("i3d-torch", "model_rgb.pth"),),
    "dti3d-16": (Place("dti3d", "length16/I3D_16.pth.tar"),),
    "dti3d-32": (Place("dti3d", "length32/I3D_32.pth.tar"),),
    "fid-inception": (Place("fid-inception", "pt_inception-2015-12-05-6726825d.pth", "6726825d"),),
    "inception-v3": (Place("inception-v3", "inception_v3_google-1a9a5a14.pth", "1a9a5a14"),),
    "vgg16": (Place("vgg16", "vgg16-397923af.pth", "397923af"),),
    "alexnet": (Place("alexnet", "alexnet-owt-7be5be79.pth", "7be5be79"),),
}
"""By what the weights are for; the first that is there is taken."""


@dataclass(frozen=True)
class Weights:
    """A published state dict. source: in words, for protocols."""

    state: dict[str, Tensor]
    sha256: str
    source: str


def find(name: str, resources: Resources) -> Path:
    """The file or folder of some weights. Raises UserError that says how to get them."""
    if name in resources.weights:
        given = resources.weights[name]
        if given.exists():
            return given
        raise UserError(
            f"no weights '{name}' there",
            {"looked for": given, "to fix": f"correct weights.{name}=PATH"},
            EXIT_NO_DATA,
        )
    places = PLACES[name]
    root = resources.weights_root
    for place in places:
        path = root / place.download / place.file if root else None
        if path is not None and path.exists():
            return path
    first = places[0]
    raise UserError(
        f"no weights '{name}'",
        {
            "looked for": root / first.download / first.file if root else first.file,
            "run first": f"i2v download weights/{first.download}",
            "or give": f"weights.{name}=PATH, a file that you have",
            "to try out": "--generated-weights, with which numbers mean nothing",
        },
        EXIT_NO_DATA,
    )


def load(name: str, resources: Resources, generate: Callable[[], Mapping[str, Tensor]]) -> Weights:
    """Some weights, from their file; or made up, if the resources say so."""
    if resources.is_generated and name not in resources.weights:
        from pipelines.features.generated_weights import digest

        state = dict(generate())
        return Weights(state, digest(state), "made-up weights: the number means nothing")
    path = find(name, resources)
    state, sha256 = read_state(path), _digest(path)
    known = [place.sha256 for place in PLACES[name] if place.sha256]
    source = f"weights {path.name}"
    if known:
        is_published = any(sha256.startswith(each) for each in known)
        source += ", published" if is_published else ", not the published file"
    return Weights(state, sha256, source)


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a hub module, TensorFlow checkpoint, TorchScript file or torch file.

    Nothing in a file is run. Raises UserError when it cannot be read.
    """
    if path.is_dir():
        return read_tensorflow_weights(module_dir(path) / "variables" / "variables")
    if path.suffix == ".index":
        return read_tensorflow_weights(path.with_suffix(""))
    if is_torchscript(path):
        return read_torchscript_weights(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        found: dict[str, Tensor] = load_file(path)
        return found
    return _read_torch(path)


def module_dir(path: Path) -> Path:
    """The hub module in a folder: the folder itself, or the one of I3D in a hub cache."""
    for candidate in (path, path / HUB_CACHE_NAME):
        if (candidate / MODULE_NAME).is_file():
            return candidate
    raise UserError(
        f"'{path.name}' is no TensorFlow hub module",
        {
            "looked for": f"{path / MODULE_NAME}, or {HUB_CACHE_NAME} as in a hub cache",
            "run first": "i2v download weights/i3d-tf",
        },
        EXIT_NO_DATA,
    )


def fitted(network: torch.nn.Module, state: Mapping[str, Tensor], source: str) -> torch.nn.Module:
    """The network with these weights, frozen. Raises UserError when they are another network's."""
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = str(error).splitlines()
        raise UserError(
            "weights do not match the network",
            {"from": source, "reason": reason[min(1, len(reason) - 1)].strip()},
        ) from error
    return network.eval().requires_grad_(False)


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise UserError(
            f"weights file '{path.name}' cannot be read",
            {"file": path, "reason": str(error).splitlines()[0], "to fix": "download it again"},
        ) from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not any(isinstance(each, Tensor) for each in found.values()):
        raise UserError(
            f"'{path.name}' holds no weights",
            {"file": path, "to fix": "give a file with a state dict"},
        )
    return {
        name.removeprefix("module."): value
        for name, value in found.items()
        if isinstance(value, Tensor)
    }


def _digest(path: Path) -> str:
    if path.is_file():
        return files.sha256(path)
    variables = sorted((module_dir(path) / "variables").glob("variables.data-*"))
    return files.fingerprint([files.sha256(each) for each in variables]) if variables else ""
