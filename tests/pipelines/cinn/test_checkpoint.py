"""Published key names: every entry finds its place, and foreign files are refused with a reason.

The parity cases check the names of every published network; here are the rules they cannot show.
"""

from __future__ import annotations

import pytest
import torch

from pipelines.cinn import checkpoint
from pipelines.events import UserError


@pytest.mark.parametrize(
    ("rename", "published", "ours"),
    [
        (checkpoint.encoder_key, "layer.2.0.downsample.1.bias", "groups.2.0.shortcut.1.bias"),
        (checkpoint.decoder_key, "head_0.conv_0.weight_u", "blocks.0.conv1.norm.left"),
        (checkpoint.decoder_key, "g_4.norm_0.conv_beta.bias", "blocks.5.spade.to_beta.bias"),
        (
            checkpoint.temporal_discriminator_key,
            "layer.0.0.conv2.weight_orig",
            "groups.0.0.conv2.weight",
        ),
        (checkpoint.patch_discriminator_key, "main.9.scale", "norms.2.scale"),
        (checkpoint.patch_discriminator_key, "main.11.weight_v", "to_logits.norm.right"),
        (checkpoint.image_encoder_key, "model.layer4.2.bn3.bias", "stages.3.2.norm3.bias"),
        (
            checkpoint.image_decoder_key,
            "decoder.GBlock.1.HyperBN_1.beta_embed.module.weight_bar",
            "blocks.1.norm2.to_beta.weight",
        ),
        (checkpoint.image_decoder_key, "decoder.G_linear.module.weight_v", None),
        (
            checkpoint.flow_key,
            "sub_layers.12.coupling.t.1.main.4.bias",
            "blocks.12.coupling.shift.1.4.bias",
        ),
        (checkpoint.flow_key, "sub_layers.0.shuffle.backward_shuffle_idx", None),
    ],
)
def test_published_names_become_ours(rename, published: str, ours: str | None) -> None:
    assert rename(published) == ours


def test_last_layer_of_a_shallow_patch_discriminator_is_found() -> None:
    state = checkpoint.patch_discriminator_state(
        {"main.0.bias": torch.zeros(1), "main.2.bias": torch.ones(1), "main.5.bias": torch.ones(2)}
    )
    assert set(state) == {"convs.0.bias", "convs.1.bias", "to_logits.bias"}


def test_four_block_decoder_drops_the_attention_it_never_uses() -> None:
    attention = {"decoder.attention.gamma": torch.zeros(1)}
    with_five = attention | {"decoder.GBlock.4.conv0.module.bias": torch.zeros(1)}
    assert checkpoint.image_decoder_state(attention) == {}
    assert "attention.gain" in checkpoint.image_decoder_state(with_five)


def test_file_of_another_network_is_refused_by_name() -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.encoder_state({"sub_layers.0.norm_layer.loc": torch.zeros(1, 4, 1, 1)})
    assert caught.value.details["unknown entry"] == "sub_layers.0.norm_layer.loc"
    with pytest.raises(UserError, match="patch discriminator"):
        checkpoint.patch_discriminator_state({"conv1.weight": torch.zeros(1)})
