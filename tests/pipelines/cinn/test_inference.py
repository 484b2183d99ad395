"""Sampling and transfer: lengths, many motions of one frame, and where motion comes from."""

from __future__ import annotations

import pytest
import torch

from pipelines.cinn import inference
from pipelines.cinn.autoencoder import ImageEncoder
from pipelines.cinn.decoder import VideoDecoder
from pipelines.cinn.encoder import VideoEncoder
from pipelines.cinn.flow import ENDPOINT_CODE_SIZE, ConditionalFlow
from pipelines.cinn.inference import Model
from pipelines.cinn.sampling_decoder import for_sampling


def small_model(*, is_controlled: bool = False) -> Model:
    torch.manual_seed(0)
    return Model(
        decoder=VideoDecoder(
            size_px=32,
            code_size=6,
            width=2,
            upsample_space=(1, 1),
            upsample_time=(1, 1),
            spade_channels=4,
        ).eval(),
        flow=ConditionalFlow(
            code_size=6,
            condition_size=4 + (ENDPOINT_CODE_SIZE if is_controlled else 0),
            num_flows=3,
            hidden_width=8,
            is_controlled=is_controlled,
        ).eval(),
        embedder=ImageEncoder(size_px=32, embedding_size=4, width=4).eval(),
        encoder=VideoEncoder(size_px=32, code_size=6, channels=(8, 8, 8, 8, 8)).eval(),
    )


STARTS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
RESIDUALS = torch.randn(2, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("num_frames", [1, 8, 11, 20])
def test_video_has_the_wanted_number_of_frames_for_every_start_frame(num_frames: int) -> None:
    video = inference.sample_video(small_model(), STARTS, RESIDUALS, num_frames)
    assert video.shape == (2, num_frames, 3, 32, 32)


def test_longer_video_begins_with_the_shorter_one() -> None:
    model = small_model()
    short = inference.sample_video(model, STARTS, RESIDUALS, 5)
    long = inference.sample_video(model, STARTS, RESIDUALS, 19)
    torch.testing.assert_close(long[:, :5], short)


def test_video_goes_on_from_its_last_frame_with_the_same_code() -> None:
    model = small_model()
    code = inference.motion_code(model, STARTS, RESIDUALS)
    video = inference.render(model.decoder, STARTS, code, 16)
    with torch.no_grad():
        continued = model.decoder(video[:, 7].clone(), code.clone())
    torch.testing.assert_close(video[:, 8:], continued)


def test_many_motions_of_each_frame_equal_one_motion_at_a_time() -> None:
    model = small_model()
    residuals = torch.randn(2, 3, 6)
    together = inference.sample_video(model, STARTS, residuals, 10)
    assert together.shape == (2, 3, 10, 3, 32, 32)
    for n in range(3):
        alone = inference.sample_video(model, STARTS, residuals[:, n], 10)
        torch.testing.assert_close(together[:, n], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[:, 0], together[:, 1], atol=1e-4)


def test_endpoint_changes_the_motion_of_a_controlled_model() -> None:
    model = small_model(is_controlled=True)
    near, far = torch.full((2, 3), 0.1), torch.full((2, 3), 0.9)
    codes = [inference.motion_code(model, STARTS, RESIDUALS, endpoint=e) for e in (near, far)]
    assert not torch.allclose(*codes, atol=1e-5)


def test_a_clips_own_motion_returns_to_its_own_code() -> None:
    model = small_model()
    clip = torch.rand(1, 9, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        mean, _ = model.encoder(clip[:, 1:])
        model.flow(torch.randn(16, 6), torch.randn(16, 4))  # ActNorm before its first use
    residual = inference.encode_motion(model, clip)
    torch.testing.assert_close(
        inference.motion_code(model, clip[:, 0], residual), mean, atol=1e-4, rtol=1e-4
    )


def test_transferred_motion_is_the_clips_residual_for_every_start_frame() -> None:
    model = small_model()
    clip = torch.rand(1, 9, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        model.flow(torch.randn(16, 6), torch.randn(16, 4))
    moved = inference.transfer_motion(model, clip, STARTS, 12)
    residual = inference.encode_motion(model, clip).expand(2, -1)
    torch.testing.assert_close(moved, inference.sample_video(model, STARTS, residual, 12))


@pytest.mark.parametrize("upsample_time", [(1, 1), (2, 1)])
def test_the_form_for_sampling_gives_the_same_frames(upsample_time):
    torch.manual_seed(0)
    decoder = VideoDecoder(
        size_px=32,
        code_size=8,
        width=2,
        upsample_space=(1, 1),
        upsample_time=upsample_time,
        spade_channels=4,
    ).eval()
    start, code = torch.rand(2, 3, 32, 32), torch.randn(2, 8)
    with torch.no_grad():
        expected = decoder(start, code)
        folded = for_sampling(decoder)(start, code)
    torch.testing.assert_close(folded, expected, atol=1e-5, rtol=0)
