"""Published key names -> ours: pure functions on state dicts (spec: poke, 2 and 11); and the import
of whole published models, which uses them.

`*_state` takes the content of `model` in a published file, of one network, and returns ours.
`published_entry` finds one published entry, or its gradient, among ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.nn.spectral_norm import spectral_key
from pipelines.poke import published
from pipelines.poke.build import build_networks
from pipelines.poke.config import FamilyConfig
from pipelines.poke.run_config import FAMILY
from pipelines.training.config import ImportRequest
from pipelines.training.published import (
    ImportedRun,
    check_fit,
    read_checkpoint,
    state_of,
    write_run,
)

State = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]

# Each rule is a pattern for the start of a published name and what to put in its place.
_MODEL: Rules = (
    (r"shape_enc\.", "image_encoder."),
    (r"dynamics_enc\.model\.", "poke_encoder.blocks."),
    (r"dynamics_enc\.", "poke_encoder."),
    (r"fusion_block\.cells\.(\d+)\.up_gate\.", r"cells.\1.upsample."),
    (r"dec\.out_conv\.conv\.", "decoder.to_image."),
    (r"dec\.", "decoder."),
)
_PATCH: Rules = (
    (r"in_conv\.", "from_image."),
    (r"layers\.", "layers."),
    (r"out_conv\.", "to_logits."),
)
_TEMPORAL: Rules = (
    (r"conv1\.", "stem."),
    (r"gn1\.", "stem_norm."),
    (r"final\.", "to_logits."),
    (r"fc\.", "to_logits."),
    (r"spade_emb\.mlp_shared\.0\.", "poke_norm.shared."),
    (r"spade_emb\.mlp_(gamma|beta)\.", r"poke_norm.to_\1."),
)
_GATE = re.compile(r"fusion_block\.cells\.(\d+)\.(reset|update|out)_gate\.(weight|bias)")
_GATES = ("reset", "update", "out")
_NEWER_SPECTRAL = {
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


def import_published(request: ImportRequest, work: Work) -> dict[str, Any]:
    """Make a run folder of a published model: its network and the discriminators beside it."""
    found = published.find_model(request.path)
    config = _imported_config(found)
    convert: dict[str, Callable[[Mapping[str, Tensor]], State]] = {
        "model": model_state,
        "patch": patch_discriminator_state,
        "temporal": temporal_discriminator_state,
    }
    with torch.device("meta"):
        networks = vars(build_networks(config))
    states = {}
    for number, (name, path) in enumerate(found.files.items(), 1):
        content = read_checkpoint(path, trust=request.trust_checkpoint)
        inner = content.get("model", content) if isinstance(content, Mapping) else content
        states[name] = convert[name](state_of(inner, path))
        check_fit(networks[name], states[name], path)
        work.progress("read published weights", number, len(found.files), "files")
    settings = {
        "config": config.model_dump(mode="json"),
        "stage": "1",
        "run_dir": str(request.run_dir),
        "imported_from": str(request.path),
    }
    sources = list(found.files.values())
    write_run(request.run_dir, ImportedRun(FAMILY, "1", settings, states, sources))
    work.artifact(request.run_dir, "run")
    files = [str(path) for path in sources]
    return {"run": str(request.run_dir), "family": FAMILY, "stage": "1", "files": files}


def _imported_config(found: published.PublishedModel) -> FamilyConfig:
    try:
        return FamilyConfig.model_validate(published.our_settings(found.settings))
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise UserError(
            "the published settings describe no poke model",
            {
                "looked in": found.folder,
                "setting": f"{name}: {problem['msg']}",
                "to fix": "download the folder again",
            },
            EXIT_USAGE,
        ) from error


def model_state(published: Mapping[str, Tensor]) -> State:
    """The main network (`reg_ckpt_*.pt`), hierarchical or single-scale."""
    plain = unwrapped(published)
    state = {model_key(key): value for key, value in plain.items() if not _GATE.fullmatch(key)}
    cells = {found[1] for key in plain if (found := _GATE.fullmatch(key))}
    for cell in cells:
        gates = {
            (gate, leaf): plain[f"fusion_block.cells.{cell}.{gate}_gate.{leaf}"]
            for gate in _GATES
            for leaf in ("weight", "bias")
        }
        state |= {f"cells.{cell}.{key}": value for key, value in _joined_gates(gates).items()}
    return state


def _joined_gates(gates: Mapping[tuple[str, str], Tensor]) -> State:
    """The three convolutions of [input, state], each cut into its two halves."""
    weights = [gates[gate, "weight"] for gate in _GATES]
    num_inputs = weights[0].shape[1] - weights[0].shape[0]
    states = [weight[:, num_inputs:] for weight in weights]
    return {
        "from_input.weight": torch.cat([weight[:, :num_inputs] for weight in weights]),
        "from_input.bias": torch.cat([gates[gate, "bias"] for gate in _GATES]),
        "gates_from_state.weight": torch.cat(states[:2]),
        "candidate_from_state.weight": states[2].clone(),
    }


def model_key(key: str) -> str:
    """One entry of the main network; those of the gates are not one to one, see model_state."""
    return spectral_key(_renamed(key, _MODEL).replace(".res_conv.", ".shortcut."))


def published_entry(ours: Mapping[str, Tensor], key: str) -> Tensor:
    """A published entry of the main network, put together from ours: weights, or gradients."""
    found = _GATE.fullmatch(key)
    if not found:
        return ours[model_key(key)]
    cell, gate, leaf = found.groups()
    place = _GATES.index(gate)
    inputs = ours[f"cells.{cell}.from_input.{leaf}"].chunk(3)[place]
    if leaf == "bias":
        return inputs
    if gate == "out":
        return torch.cat((inputs, ours[f"cells.{cell}.candidate_from_state.weight"]), dim=1)
    states = ours[f"cells.{cell}.gates_from_state.weight"].chunk(2)[place]
    return torch.cat((inputs, states), dim=1)


def patch_discriminator_state(published: Mapping[str, Tensor]) -> State:
    """The patch discriminator (`disc_patch_*.pt`)."""
    return {_renamed(key, _PATCH): value for key, value in unwrapped(published).items()}


def temporal_discriminator_state(published: Mapping[str, Tensor]) -> State:
    """The temporal discriminator (`disc_temp_*.pt`), in either form."""
    plain = unwrapped(published)
    return {temporal_discriminator_key(key): value for key, value in plain.items()}


def temporal_discriminator_key(key: str) -> str:
    """One entry of the temporal discriminator."""
    counted = re.sub(r"^layers\.(\d+)", lambda found: f"layers.{int(found[1]) + 1}", key)
    ours = re.sub(r"^layer1\.", "layers.0.", counted)
    ours = re.sub(r"\.bn(\d)\.", r".norm\1.", ours).replace(".downsample.", ".shortcut.")
    return spectral_key(ours if ours.startswith("layers.") else _renamed(ours, _TEMPORAL))


def unwrapped(published: Mapping[str, Tensor]) -> State:
    """Without the prefix of a data-parallel wrapper, and with the older names of spectral norm."""
    plain = {}
    for key, value in published.items():
        name = key.removeprefix("module.")
        for newer, older in _NEWER_SPECTRAL.items():
            name = name.replace(newer, older)
        plain[name] = value
    return plain


def _renamed(key: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        found = re.match(pattern, key)
        if found:
            return found.expand(replacement) + key[found.end() :]
    raise UserError(
        "the checkpoint is not of the network it is read for",
        {"unknown entry": key, "to fix": "give each network its own file"},
    )
