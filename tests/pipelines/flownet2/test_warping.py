"""What a cascade sees of the flow so far."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from pipelines.flownet2.warping import brightness_error, channel_norm, resample


def test_whole_pixels_of_flow_move_the_image_exactly() -> None:
    images = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(2, 2, 9, 12)
    moved = resample(images, flow)
    assert torch.equal(moved[..., 2:, :-3], images[..., :-2, 3:])


def test_places_outside_take_the_nearest_border_pixel() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    far = torch.full((1, 2, 3, 4), 1e6)
    assert torch.equal(resample(image, far), torch.full_like(image, 11.0))
    assert torch.equal(resample(image, -far), torch.zeros_like(image))


def test_it_is_bilinear_sampling_with_a_clamped_border() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 20, 30, generator=generator)
    flow = 8 * torch.randn(1, 2, 20, 30, generator=generator)
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    places = torch.stack(((x + flow[:, 0]) / 29 * 2 - 1, (y + flow[:, 1]) / 19 * 2 - 1), dim=-1)
    wanted = F.grid_sample(image, places, padding_mode="border", align_corners=True)
    torch.testing.assert_close(resample(image, flow), wanted, atol=1e-4, rtol=0)


def test_the_right_flow_leaves_no_brightness_error() -> None:
    first = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    second = first.roll(2, dims=3)
    flow = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 10, 10)
    warped, error = brightness_error(first, second, flow)
    assert torch.equal(warped[..., :-2], first[..., :-2])
    assert error.shape == (1, 1, 10, 10)
    assert error[..., :-2].max() == 0
    assert error[..., -2:].max() > 0


def test_the_length_of_a_zero_vector_has_a_finite_gradient() -> None:
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    channel_norm(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
