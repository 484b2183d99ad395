"""The networks: published sizes, small sizes, and the properties that sampling relies on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipelines.cinn.autoencoder import (
    FixedSpectralConv2d,
    ImageDecoder,
    ImageEncoder,
    code_chunks,
)
from pipelines.cinn.config import AutoencoderConfig, FlowConfig, Stage1Config
from pipelines.cinn.decoder import DecoderBlock, VideoDecoder
from pipelines.cinn.discriminators import PatchDiscriminator, TemporalDiscriminator
from pipelines.cinn.encoder import VideoEncoder
from pipelines.cinn.flow import ENDPOINT_CODE_SIZE, ConditionalFlow, endpoint_code
from pipelines.cinn.networks import build_autoencoder, build_flow, build_stage1
from pipelines.events import UserError
from pipelines.nn.norms import ActNorm, group_norm, num_groups
from pipelines.nn.spectral_norm import SpectralConv2d, SpectralConv3d, fold_spectral_norm

SMALL = {
    "encoder_channels": (8, 8, 8, 12, 12),
    "decoder_width": 3,
    "spade_channels": 6,
    "temporal_channels": (8, 8, 8, 12, 12),
    "patch_width": 6,
    "code_size": 8,
}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def assert_every_parameter_has_a_finite_gradient(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("size_px", "channels", "strides", "parameters"),
    [
        (64, (64, 128, 256, 512, 512), (1, 2, 2, 2), 73_639_488),
        (128, (64, 128, 128, 256, 512), (2, 2, 2, 2), 40_458_048),
        (128, (64, 64, 128, 256, 512), (2, 2, 2, 2), 38_798_528),
    ],
)
def test_video_encoder_has_the_published_number_of_parameters(
    size_px: int, channels: tuple[int, ...], strides: tuple[int, ...], parameters: int
) -> None:
    with torch.device("meta"):
        encoder = VideoEncoder(size_px=size_px, channels=channels, stride_space=strides)
    assert count(encoder) == parameters


def test_other_networks_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert count(VideoDecoder(width=64)) == 152_786_243
        large = VideoDecoder(size_px=128, width=32, upsample_space=(2, 2))
        assert count(large) == 40_868_003
        assert count(TemporalDiscriminator()) == 37_750_336
        assert count(PatchDiscriminator()) == 2_766_529
        assert count(ConditionalFlow(condition_size=128)) == 49_935_360
        controlled = ConditionalFlow(condition_size=64 + ENDPOINT_CODE_SIZE, is_controlled=True)
        assert count(controlled) == 47_559_680


@pytest.mark.parametrize(
    ("size_px", "upsample_space", "stride_space", "temporal_stride"),
    [
        (16, (1, 1), (1, 1, 2, 2), (1, 1, 1, 2)),
        (32, (1, 1), (1, 1, 2, 2), (1, 1, 2, 2)),
        (64, (2, 1), (1, 2, 2, 2), (1, 1, 2, 2)),
        (128, (2, 2), (2, 2, 2, 2), (1, 2, 2, 2)),
    ],
)
def test_small_networks_of_stage_1_train_at_every_size(
    size_px: int,
    upsample_space: tuple[int, int],
    stride_space: tuple[int, int, int, int],
    temporal_stride: tuple[int, int, int, int],
) -> None:
    networks = build_stage1(
        Stage1Config(
            size_px=size_px,
            num_frames=8,
            decoder_upsample_space=upsample_space,
            decoder_upsample_time=(1, 1),
            encoder_stride_space=stride_space,
            temporal_stride_space=temporal_stride,
            **SMALL,
        )
    )
    video = torch.rand(2, 8, 3, size_px, size_px) * 2 - 1
    mean, log_variance = networks.encoder(video)
    assert mean.shape == log_variance.shape == (2, 8)
    made = networks.decoder(video[:, 0], mean + log_variance)
    assert made.shape == video.shape
    assert made.abs().max() < 1
    logits, features = networks.temporal_discriminator(made)
    patches = networks.patch_discriminator(made.flatten(0, 1))
    assert logits.shape == (2, 1)
    assert len(features) == 4
    assert patches.shape[:2] == (16, 1)
    (logits.sum() + patches.sum() + sum(f.square().mean() for f in features)).backward()
    for network in vars(networks).values():
        assert_every_parameter_has_a_finite_gradient(network)


@pytest.mark.parametrize("size_px", [16, 32, 64, 128])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_small_image_autoencoders_train_at_every_size(size_px: int, norm: str) -> None:
    config = AutoencoderConfig(
        embedding_size=12, norm=norm, encoder_width=4, decoder_width=4, class_hidden=10
    )
    networks = build_autoencoder(config, size_px)
    images = torch.rand(2, 3, size_px, size_px) * 2 - 1
    mean, log_variance = networks.encoder(images)
    assert mean.shape == log_variance.shape == (2, 12)
    made = networks.decoder(mean)
    assert made.shape == images.shape
    assert made.abs().max() <= 1
    (made * torch.rand_like(made)).sum().backward(retain_graph=True)
    log_variance.sum().backward()
    assert_every_parameter_has_a_finite_gradient(networks.encoder)
    assert_every_parameter_has_a_finite_gradient(networks.decoder)


@pytest.mark.parametrize("num_frames", [1, 5, 8, 16])
def test_video_encoder_sums_up_clips_of_any_length_up_to_16(num_frames: int) -> None:
    encoder = VideoEncoder(size_px=32, code_size=4, channels=(8, 8, 8, 8, 8))
    mean, _ = encoder(torch.zeros(1, num_frames, 3, 32, 32))
    assert mean.shape == (1, 4)


def test_video_encoder_refuses_a_clip_that_is_too_long() -> None:
    encoder = VideoEncoder(size_px=32, code_size=4, channels=(8, 8, 8, 8, 8))
    with pytest.raises(ValueError, match="17 frames, the encoder takes 16"):
        encoder(torch.zeros(1, 17, 3, 32, 32))


def small_decoder() -> VideoDecoder:
    torch.manual_seed(0)
    return VideoDecoder(size_px=32, code_size=6, width=4, upsample_space=(2, 1), spade_channels=8)


def test_video_depends_on_the_start_frame_and_on_the_code() -> None:
    decoder = small_decoder().eval()
    start, code = torch.rand(1, 3, 32, 32), torch.randn(1, 6)
    with torch.no_grad():
        video = decoder(start, code)
        assert video.shape == (1, 16, 3, 32, 32)
        assert not torch.allclose(video, decoder(start.flip(-1), code), atol=1e-6)
        assert not torch.allclose(video, decoder(start, code + 1), atol=1e-4)


def test_one_set_of_start_maps_serves_every_motion_of_that_frame() -> None:
    decoder = small_decoder().eval()
    start, codes = torch.rand(1, 3, 32, 32), torch.randn(3, 6)
    with torch.no_grad():
        maps = decoder.start_maps(start)
        shared = decoder.render(
            [type(m)(*(x.expand(3, -1, -1, -1) for x in m)) for m in maps], codes
        )
        separate = decoder(start.expand(3, -1, -1, -1), codes)
    torch.testing.assert_close(shared, separate)


@pytest.mark.parametrize("num_frames", [1, 3])
@pytest.mark.parametrize("upsample_time", [1, 2, 3])
def test_decoder_block_equals_its_definition_on_repeated_frames(
    upsample_time: int, num_frames: int
) -> None:
    torch.manual_seed(1)
    block = DecoderBlock(
        32,
        16,
        code_size=5,
        spade_channels=4,
        upsample_space=2,
        upsample_time=upsample_time,
        spectral=False,
    ).double()
    x, code = torch.randn(2, 32, num_frames, 4, 4).double(), torch.randn(2, 5).double()
    maps = block.spade.maps(torch.rand(2, 3, 16, 16).double(), 8)

    large = F.interpolate(x, scale_factor=(upsample_time, 2, 2))
    gain, shift = (each.unsqueeze(2).expand(-1, -1, large.shape[2], -1, -1) for each in maps)
    main = F.leaky_relu(F.group_norm(large, 16) * gain + shift, 0.2)
    main = F.instance_norm(block.conv1(main))
    gamma, beta = block.adain.from_code(code)[..., None, None, None].chunk(2, dim=1)
    main = block.conv2(F.leaky_relu(gamma * main + beta, 0.2))
    torch.testing.assert_close(block(x, maps, code), block.shortcut(large) + main)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_spectral_norm_is_that_of_the_published_layers(dimensions: int) -> None:
    """Two forwards before one backward, as in a discriminator step; then eval mode."""
    torch.manual_seed(2)
    ours = (SpectralConv2d if dimensions == 2 else SpectralConv3d)(4, 6, 3, padding=1)
    theirs = torch.nn.utils.spectral_norm(
        (nn.Conv2d if dimensions == 2 else nn.Conv3d)(4, 6, 3, padding=1)
    )
    theirs.load_state_dict(
        {
            "weight_orig": ours.weight.detach(),
            "bias": ours.bias.detach(),
            "weight_u": ours.norm.left,
            "weight_v": ours.norm.right,
        }
    )
    ours, theirs = ours.double(), theirs.double()
    x = torch.randn(2, 4, *[5] * dimensions).double()
    losses = [(layer(x).square().sum() + layer(x + 1).sum()) for layer in (ours, theirs)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight_orig.grad)
    torch.testing.assert_close(ours.norm.left, theirs.weight_u)
    torch.testing.assert_close(ours.norm.right, theirs.weight_v)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_folding_the_spectral_norm_changes_no_output() -> None:
    decoder = small_decoder().eval()
    start, code = torch.rand(1, 3, 32, 32), torch.randn(1, 6)
    with torch.no_grad():
        before = decoder(start, code)
        after = fold_spectral_norm(decoder)(start, code)
    assert not any(isinstance(m, SpectralConv3d) for m in decoder.modules())
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("is_controlled", [False, True])
def test_inverse_flow_undoes_the_flow(is_controlled: bool) -> None:
    torch.manual_seed(3)
    flow = ConditionalFlow(
        code_size=6, condition_size=4, num_flows=6, hidden_width=16, is_controlled=is_controlled
    ).double()
    code, condition = torch.randn(8, 6).double(), torch.randn(8, 4).double()
    with torch.no_grad():
        residual, _ = flow(code, condition)
        torch.testing.assert_close(flow.inverse(residual, condition), code)
        other = flow.inverse(residual, condition + 1)
    assert not torch.allclose(other, code, atol=1e-3)


def test_log_determinant_is_the_jacobians_but_for_the_leaky_relu() -> None:
    """The published flow leaves the leaky ReLU's slope of 0.9 out; with positive inputs it is 1."""
    torch.manual_seed(4)
    flow = ConditionalFlow(code_size=4, condition_size=2, num_flows=1, hidden_width=8).double()
    code, condition = torch.rand(64, 4).double(), torch.randn(64, 2).double()
    flow(code, condition)  # initialises ActNorm
    flow.blocks[0].norm.loc.data += 10
    x = code[:1].requires_grad_()
    residual, log_det = flow(x, condition[:1])
    rows = [torch.autograd.grad(residual[0, i], x, retain_graph=True)[0][0] for i in range(4)]
    torch.testing.assert_close(log_det[0], torch.stack(rows).det().abs().log())


def test_first_batch_leaves_act_norm_standardised_and_no_later_one_changes_it() -> None:
    torch.manual_seed(5)
    norm = ActNorm(3)
    x = torch.randn(4, 3, 5, 5) * 7 + 2
    assert torch.equal(norm.eval()(x), x)
    y = norm.train()(x)
    torch.testing.assert_close(y.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.transpose(0, 1).flatten(1).std(dim=1), torch.ones(3))
    before = norm.loc.clone()
    norm(x + 100)
    assert torch.equal(norm.loc, before)


def test_loading_weights_decides_whether_act_norm_is_initialised() -> None:
    fresh, used = ActNorm(3), ActNorm(3)
    used(torch.randn(8, 3))
    reloaded = ActNorm(3)
    reloaded.load_state_dict(used.state_dict())
    reloaded(torch.randn(8, 3) + 50)
    assert torch.equal(reloaded.loc, used.loc)
    used.load_state_dict(fresh.state_dict())
    used(torch.ones(8, 3))
    torch.testing.assert_close(used.loc, -torch.ones(3))


def test_flow_initialises_on_its_first_batch_in_eval_mode_too() -> None:
    flow = ConditionalFlow(code_size=4, condition_size=2, num_flows=1, hidden_width=8).eval()
    flow(torch.randn(16, 4) + 3, torch.randn(16, 2))
    assert bool(flow.blocks[0].norm.initialized)


def test_endpoint_code_bins_each_axis_and_clamps_what_lies_outside() -> None:
    code = endpoint_code(torch.tensor([[0.0, 0.55, 1.0], [-3.0, 0.1, 7.0]]))
    assert code.shape == (2, 30)
    assert code.view(2, 3, 10).argmax(dim=2).tolist() == [[0, 5, 9], [0, 0, 9]]
    assert code.sum().item() == 6


def test_group_norm_lowers_its_groups_until_they_divide_the_channels() -> None:
    assert [num_groups(c) for c in (64, 24, 12, 7, 17, 3)] == [16, 12, 12, 7, 1, 3]
    assert group_norm(20)(torch.randn(1, 20, 2, 2)).shape == (1, 20, 2, 2)


def test_image_decoder_splits_the_code_as_published() -> None:
    assert code_chunks(64, 4) == [24, 10, 10, 10, 10]
    assert code_chunks(128, 4) == [88, 10, 10, 10, 10]
    assert code_chunks(128, 5) == [28, 20, 20, 20, 20, 20]
    assert code_chunks(16, 3) == [4, 4, 4, 4]


def test_image_decoders_spectral_norm_is_the_same_in_training_and_eval() -> None:
    decoder = ImageDecoder(size_px=16, embedding_size=8, width=4, class_hidden=8)
    layer, maps = decoder.to_image, torch.randn(1, 4, 16, 16)
    first, second = layer(maps), layer(maps)
    assert torch.equal(first, second)
    decoder.eval()
    assert torch.equal(first, layer(maps))


def test_image_encoder_limits_its_log_variance() -> None:
    encoder = ImageEncoder(size_px=32, embedding_size=4, width=4)
    encoder.to_moments.bias.data = torch.tensor([0.0] * 4 + [1e3, -1e3, 0, 0])
    _, log_variance = encoder(torch.rand(1, 3, 32, 32))
    assert log_variance[0, :2].tolist() == [10.0, -30.0]


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"num_frames": 8}, "decoder_upsample_time"),
        ({"size_px": 48}, "decoder_upsample_space"),
        ({"encoder_stride_time": (1, 1, 2, 2)}, "encoder_stride_time"),
    ],
)
def test_settings_that_do_not_fit_together_are_explained(wrong: dict, remedy: str) -> None:
    with pytest.raises(UserError) as caught:
        build_stage1(
            Stage1Config(**SMALL, decoder_upsample_space=(2, 2), **{"size_px": 64, **wrong})
        )
    assert remedy in caught.value.details["to fix"]
    assert caught.value.exit_code == 2


def test_autoencoder_for_an_odd_image_size_is_refused() -> None:
    with pytest.raises(UserError, match="16, 32, 64, 128 pixels, not 48"):
        build_autoencoder(AutoencoderConfig(), 48)


def test_flow_is_built_for_the_sizes_of_the_other_stages() -> None:
    config = FlowConfig(num_flows=2, hidden_width=8, is_controlled=True)
    flow = build_flow(config, 6, 10)
    residual, log_det = flow(torch.randn(4, 6), torch.randn(4, 10 + ENDPOINT_CODE_SIZE))
    assert residual.shape == (4, 6)
    assert log_det.shape == (4,)
    assert math.isfinite(log_det.sum().item())
    with pytest.raises(UserError, match="halves"):
        build_flow(config, 7, 10)


@pytest.mark.parametrize("size_px", [2, 32])
def test_the_image_decoders_spectral_norm_is_of_the_weight_for_small_and_large_maps(
    size_px: int,
) -> None:
    """Whichever is the smaller one is divided: the values and all gradients are the same."""
    torch.manual_seed(0)
    layer = FixedSpectralConv2d(6, 5, 3).double()
    x = torch.randn(1, 6, size_px, size_px).double().requires_grad_()
    assert (x.numel() < layer.weight.numel()) == (size_px == 2)
    right = layer.weight.flatten(1).t() @ layer.norm.vector
    product = layer.weight.flatten(1) @ (right / (right.norm() + 1e-4))
    largest = (product / (product.norm() + 1e-4)) @ product
    expected = F.conv2d(x, layer.weight / largest, layer.bias, padding=1)
    made = layer(x)
    torch.testing.assert_close(made, expected)
    weighting = torch.randn_like(made)
    gradients = [
        torch.autograd.grad((each * weighting).sum(), (x, layer.weight, layer.bias))
        for each in (made, expected)
    ]
    torch.testing.assert_close(*gradients)
