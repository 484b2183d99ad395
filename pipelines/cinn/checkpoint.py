"""Published key names -> ours: pure functions on state dicts (spec: cinn, 2).

`*_state` takes the state dict of one network as a published file holds it, without prefix, and
returns ours. `*_key` does so for one name; None means that the entry is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from pipelines.events import UserError
from pipelines.nn.spectral_norm import spectral_key

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


def weights_in(file: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict inside a published file, which also holds epoch and optimizer, or is bare."""
    return file.get("state_dict", file)


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
    if leaf == "initialized":
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
