"""Published weights to ours: whole folders, and key names as pure functions (spec: cinn, 2).

`*_state` takes the state dict of one network as a published file holds it, without prefix, and
returns ours. `*_key` does so for one name; None means that the entry is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pipelines.cinn import networks, published
from pipelines.cinn.config import FamilyConfig, Stage
from pipelines.cinn.frozen import FAMILY
from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.nn.spectral_norm import spectral_key
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
_RESNET_3D: Rules = (
    (r"conv1\.", "conv."),
    (r"norm1\.", "norm."),
    (r"layer\.(\d)\.(\d)\.conv(\d)\.", r"groups.\1.\2.conv\3."),
    (r"layer\.(\d)\.(\d)\.bn(\d)\.", r"groups.\1.\2.norm\3."),
    (r"layer\.(\d)\.(\d)\.downsample\.", r"groups.\1.\2.shortcut."),
    (r"conv_mu\.", "to_mean."),
    (r"conv_var\.", "to_log_variance."),
    (r"fc\.", "to_logit."),
)
_DECODER: Rules = (
    (r"fc\.", "from_code."),
    (r"conv_img\.", "to_frames."),
    (r"(BLOCK)conv_0\.", r"\1conv1."),
    (r"(BLOCK)conv_1\.", r"\1conv2."),
    (r"(BLOCK)norm_0\.conv\.", r"\1spade.conv."),
    (r"(BLOCK)norm_0\.conv_", r"\1spade.to_"),
    (r"(BLOCK)norm_1\.linear\.", r"\1adain.from_code."),
    (r"(BLOCK)norm_s\.bn\.", r"\1shortcut.0."),
    (r"(BLOCK)conv_s\.", r"\1shortcut.1."),
)
_IMAGE_ENCODER: Rules = (
    (r"model\.conv1\.", "conv."),
    (r"model\.bn1\.", "norm."),
    (r"model\.layer(STAGE)\.(\d+)\.conv(\d)\.", r"stages.\1.\2.conv\3."),
    (r"model\.layer(STAGE)\.(\d+)\.bn(\d)\.", r"stages.\1.\2.norm\3."),
    (r"model\.layer(STAGE)\.(\d+)\.downsample\.", r"stages.\1.\2.shortcut."),
    (r"model\.fc\.sub_layers\.0\.", "to_moments."),
)
_IMAGE_DECODER: Rules = (
    (r"map_to_class_embedding\.main\.", "to_classes."),
    (r"decoder\.linear\.", "class_embedding."),
    (r"decoder\.G_linear\.module\.", "seed."),
    (r"decoder\.GBlock\.(\d)\.conv0\.module\.", r"blocks.\1.conv1."),
    (r"decoder\.GBlock\.(\d)\.conv1\.module\.", r"blocks.\1.conv2."),
    (r"decoder\.GBlock\.(\d)\.conv_sc\.module\.", r"blocks.\1.shortcut."),
    (r"decoder\.GBlock\.(\d)\.HyperBN\.bn\.", r"blocks.\1.norm1.norm."),
    (r"decoder\.GBlock\.(\d)\.HyperBN_1\.bn\.", r"blocks.\1.norm2.norm."),
    (r"decoder\.GBlock\.(\d)\.HyperBN\.(gamma|beta)_embed\.module\.", r"blocks.\1.norm1.to_\2."),
    (r"decoder\.GBlock\.(\d)\.HyperBN_1\.(gamma|beta)_embed\.module\.", r"blocks.\1.norm2.to_\2."),
    (r"decoder\.attention\.gamma", "attention.gain"),
    (r"decoder\.attention\.theta\.module\.", "attention.query."),
    (r"decoder\.attention\.phi\.module\.", "attention.key."),
    (r"decoder\.attention\.g\.module\.", "attention.value."),
    (r"decoder\.attention\.o_conv\.module\.", "attention.output."),
    (r"decoder\.ScaledCrossReplicaBN\.", "norm."),
    (r"decoder\.colorize\.module\.", "to_image."),
)
_FLOW: Rules = (
    (r"sub_layers\.(\d+)\.norm_layer\.", r"blocks.\1.norm."),
    (r"sub_layers\.(\d+)\.coupling\.s\.(\d)\.main\.", r"blocks.\1.coupling.log_scale.\2."),
    (r"sub_layers\.(\d+)\.coupling\.t\.(\d)\.main\.", r"blocks.\1.coupling.shift.\2."),
    (r"sub_layers\.(\d+)\.shuffle\.forward_shuffle_idx", r"blocks.\1.order"),
)
_FIXED_SPECTRAL_NORM = {"weight_bar": "weight", "weight_u": "norm.vector"}


def import_published(request: ImportRequest, work: Work) -> dict[str, Any]:
    """Make a run folder of a published model, or of its stage 1 or its image encoder alone."""
    found = published.find_model(request.path)
    parts = [part for part in (found.stage1, found.autoencoder, found.flow) if part]
    files = {path: role for part in parts for role, path in part.files.items()}
    states: dict[Path, State] = {}
    for number, (path, role) in enumerate(files.items(), 1):
        content = read_checkpoint(path, trust=request.trust_checkpoint)
        states[path] = _convert(found, path, role, state_of(content, path))
        work.progress("read published weights", number, len(files), "files")
    run = _run(found, states, request)
    write_run(request.run_dir, run)
    work.artifact(request.run_dir, "run")
    return {
        "run": str(request.run_dir),
        "family": FAMILY,
        "stage": run.stage,
        "files": [str(path) for path in files],
    }


def _convert(
    found: published.PublishedModel, path: Path, role: str, state: Mapping[str, Tensor]
) -> State:
    """The state dict of a published file in our names. role: what the file is, in its part."""
    is_image = found.autoencoder is not None and path == found.autoencoder.files.get(role)
    convert: dict[str, Callable[[Mapping[str, Tensor]], State]] = {
        "encoder": image_encoder_state if is_image else encoder_state,
        "decoder": decoder_state,
        "temporal_discriminator": temporal_discriminator_state,
        "patch_discriminator": patch_discriminator_state,
        "flow": flow_state,
    }
    return convert[role](state)


def _run(
    found: published.PublishedModel, states: Mapping[Path, State], request: ImportRequest
) -> ImportedRun:
    """The run of the whole model, or of the one part that is there; all weights fit."""
    config = _config(found, states)
    runs: dict[Stage, ImportedRun] = {}
    sections: dict[Stage, published.Part | None] = {
        "1": found.stage1,
        "ae": found.autoencoder,
        "2": found.flow,
    }
    for stage, part in sections.items():
        if part is None:
            continue
        chosen = {role: states[path] for role, path in part.files.items()}
        for role, network in _networks(stage, config, chosen).items():
            check_fit(network, chosen[role], part.files[role])
        runs[stage] = ImportedRun(
            family=FAMILY,
            stage=stage,
            request=_request(stage, config, request),
            states=chosen,
            sources=list(part.files.values()),
            frozen={"stage1": runs["1"], "ae": runs["ae"]} if stage == "2" else {},
        )
    return next(runs[stage] for stage in ("2", "1", "ae") if stage in runs)


def _config(found: published.PublishedModel, states: Mapping[Path, State]) -> FamilyConfig:
    """Our settings for a published model: from its yaml files, and what only the weights say."""
    sections: dict[str, Any] = {}
    if found.stage1:
        hidden = states[found.stage1.files["decoder"]]["blocks.0.spade.conv.bias"]
        sections["stage1"] = published.stage1_settings(found.stage1)
        sections["stage1"]["spade_channels"] = len(hidden)
    elif found.autoencoder:
        sections["stage1"] = {"size_px": published.image_size_px(found.autoencoder)}
    if found.autoencoder:
        state = states[found.autoencoder.files["encoder"]]
        sections["ae"] = published.autoencoder_settings(found.autoencoder) | {
            "embedding_size": len(state["to_moments.bias"]) // 2,
            "encoder_width": len(state["conv.weight"]),
            "norm": "batch" if "norm.weight" in state else "instance",
        }
    if found.flow:
        code_size = sections["stage1"].get("code_size", 64)
        sections["stage2"] = published.flow_settings(found.flow, code_size=code_size)
    main = found.flow or found.stage1 or found.autoencoder
    assert main is not None
    sections["data"] = published.data_settings(main)
    try:
        return FamilyConfig.model_validate(sections)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise UserError(
            "the published settings describe no cinn model",
            {
                "looked in": main.folder,
                "setting": f"{name}: {problem['msg']}",
                "to fix": "download the folder again",
            },
            EXIT_USAGE,
        ) from error


def _networks(
    stage: Stage, config: FamilyConfig, chosen: Mapping[str, State]
) -> Mapping[str, nn.Module]:
    """Networks without weights, for the roles of a stage that there are files for."""
    with torch.device("meta"):
        if stage == "1":
            built: Mapping[str, nn.Module] = vars(networks.build_stage1(config.stage1))
        elif stage == "ae":
            built = {"encoder": networks.build_embedder(config.ae, config.stage1.size_px)}
        else:
            sizes = (config.stage1.code_size, config.ae.embedding_size)
            built = {"flow": networks.build_flow(config.stage2, *sizes)}
    return {role: built[role] for role in chosen}


def _request(stage: Stage, config: FamilyConfig, request: ImportRequest) -> dict[str, Any]:
    """Content of config.yaml: what a training of this model would have been asked for."""
    return {
        "config": config.model_dump(mode="json"),
        "stage": stage,
        "run_dir": str(request.run_dir),
        "imported_from": str(request.path),
    }


def encoder_state(published: Mapping[str, Tensor]) -> State:
    """Video encoder (`*_ENC.pth`)."""
    return _converted(published, encoder_key)


def encoder_key(key: str) -> str:
    """One entry of the video encoder."""
    return _renamed(key, _RESNET_3D)


def decoder_state(published: Mapping[str, Tensor]) -> State:
    """Video decoder (`*_GEN.pth`)."""
    return _converted(published, decoder_key)


def decoder_key(key: str) -> str:
    """One entry of the video decoder."""
    blocks = re.sub(r"^g_(\d)\.", lambda found: f"blocks.{int(found[1]) + 1}.", key)
    blocks = re.sub(r"^head_0\.", "blocks.0.", blocks)
    rules = tuple((old.replace("BLOCK", r"blocks\.\d\."), new) for old, new in _DECODER)
    return spectral_key(_renamed(blocks, rules))


def temporal_discriminator_state(published: Mapping[str, Tensor]) -> State:
    """Temporal discriminator (`*_DISC_t.pth`)."""
    return _converted(published, temporal_discriminator_key)


def temporal_discriminator_key(key: str) -> str:
    """One entry of the temporal discriminator."""
    return spectral_key(_renamed(key, _RESNET_3D))


def patch_discriminator_state(published: Mapping[str, Tensor]) -> State:
    """Patch discriminator (`*_DISC_s.pth`), with any number of layers."""
    last = max(_layer_index(key) for key in published)
    return _converted(published, lambda key: patch_discriminator_key(key, last_index=last))


def patch_discriminator_key(key: str, *, last_index: int = 11) -> str:
    """One entry of the patch discriminator, whose last convolution is `main.<last_index>`."""
    index, leaf = _layer_index(key), key.split(".", 2)[2]
    group, place = divmod(index - 2, 3)  # after the first layer: convolution, ActNorm, activation
    if index == last_index:
        ours = f"to_logits.{leaf}"
    elif index == 0:
        ours = f"convs.0.{leaf}"
    else:
        ours = f"convs.{group + 1}.{leaf}" if place == 0 else f"norms.{group}.{leaf}"
    return spectral_key(ours)


def image_encoder_state(published: Mapping[str, Tensor]) -> State:
    """Encoder of the image autoencoder (`encoder_stage2.pth`)."""
    return _converted(published, image_encoder_key)


def image_encoder_key(key: str) -> str:
    """One entry of the image encoder."""
    # torchvision counts stages from 1
    counted = re.sub(r"^model\.layer(\d)", lambda found: f"model.layer{int(found[1]) - 1}", key)
    rules = tuple((old.replace("STAGE", r"\d"), new) for old, new in _IMAGE_ENCODER)
    return _renamed(counted, rules)


def image_decoder_state(published: Mapping[str, Tensor]) -> State:
    """Decoder of the image autoencoder (never published; for continuing one's own old training).

    The four-block version holds an attention layer that it never uses: left out.
    """
    has_attention = any(key.startswith("decoder.GBlock.4.") for key in published)
    used = {
        key: value
        for key, value in published.items()
        if has_attention or not key.startswith("decoder.attention.")
    }
    return _converted(used, image_decoder_key)


def image_decoder_key(key: str) -> str | None:
    """One entry of the image decoder; `weight_v` is never used and has no counterpart."""
    ours = _renamed(key, _IMAGE_DECODER)
    stem, _, leaf = ours.rpartition(".")
    if leaf == "weight_v":
        return None
    return f"{stem}.{_FIXED_SPECTRAL_NORM.get(leaf, leaf)}"


def flow_state(published: Mapping[str, Tensor]) -> State:
    """The flow (`cINN.pth`)."""
    return _converted(published, flow_key)


def flow_key(key: str) -> str | None:
    """One entry of the flow; the inverse permutation follows from the permutation."""
    return None if key.endswith(".backward_shuffle_idx") else _renamed(key, _FLOW)


def fitted(key: str, value: Tensor) -> Tensor:
    """A published entry in the shape that ours has; `key` is the published name."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf in ("loc", "scale"):  # published as 1 C 1 1
        return value.flatten()
    if leaf in ("initialized", "num_batches_tracked"):
        return value.reshape(())
    if key == "model.fc.sub_layers.0.weight":  # a linear layer, published as a 1x1 convolution
        return value.flatten(1)
    return value


def _converted(published: Mapping[str, Tensor], rename: Callable[[str], str | None]) -> State:
    renamed = ((rename(key), fitted(key, value)) for key, value in published.items())
    return {key: value for key, value in renamed if key is not None}


def _renamed(key: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        found = re.match(pattern, key)
        if found:
            return found.expand(replacement) + key[found.end() :]
    raise UserError(
        "the checkpoint is not of the network it is read for",
        {"unknown entry": key, "to fix": "give each network its own file"},
    )


def _layer_index(key: str) -> int:
    found = re.match(r"main\.(\d+)\.", key)
    if not found:
        raise UserError(
            "the checkpoint is not a patch discriminator",
            {"unknown entry": key, "to fix": "give each network its own file"},
        )
    return int(found[1])
