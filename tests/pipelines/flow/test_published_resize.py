"""What --compat promises, against the libraries that the published code used."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.io.images import read_image
from pipelines.io.published_resize import float_linear, opencv_grey, opencv_linear
from pipelines.io.video import read_video
from tests.pipelines.io.video_makers import encode, photo_like

SIZES = [
    *((1024, 1024, 256), (256, 256, 128), (256, 256, 64), (120, 160, 64), (120, 120, 128)),
    *((360, 640, 128), (360, 640, 144), (200, 292, 256), (1080, 1920, 256), (1002, 1000, 256)),
    *((37, 91, 50), (512, 256, 128), (33, 33, 64), (4, 6, 64), (300, 128, 128)),
]


@pytest.fixture(scope="module")
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("size", SIZES)
def test_bytes_are_resized_bit_for_bit_as_opencv_does(
    random: np.random.Generator, size: tuple[int, int, int]
) -> None:
    height, width, size_px = size
    frame = random.integers(0, 256, (height, width, 3), np.uint8)
    expected = cv2.resize(frame, (size_px, size_px))
    assert np.array_equal(opencv_linear(frame, size_px), expected)


def test_every_colour_has_opencvs_grey() -> None:
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 86, 3)
    expected = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(opencv_grey(colours)[..., 0], expected)


@pytest.mark.parametrize("size", SIZES)
def test_floats_are_resized_as_torch_does_up_to_a_rounding_border(
    random: np.random.Generator, size: tuple[int, int, int]
) -> None:
    height, width, size_px = size
    frame = random.integers(0, 256, (height, width, 3), np.uint8)
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].double()
    resized = torch.nn.functional.interpolate(
        image, (size_px, size_px), mode="bilinear", align_corners=False
    )
    exact = resized[0].permute(1, 2, 0).numpy()
    found = float_linear(frame, size_px)
    # Never off by more than the rounding itself, give or take float32 (their loaders' own error).
    assert np.abs(found - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_video_is_decoded_to_the_pixels_of_opencvs_reader(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"clip{suffix}", photo_like(12, width=160, height=120))
    capture = cv2.VideoCapture(str(path))
    expected = []
    while (read := capture.read())[0]:
        expected.append(read[1][..., ::-1])
    assert len(expected) == 12
    assert np.array_equal(read_video(path, scaler="plain"), np.stack(expected))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_has_the_pixels_of_opencvs_reader(
    tmp_path: Path, random: np.random.Generator, suffix: str
) -> None:
    noise = random.integers(0, 256, (45, 61, 3), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    path = tmp_path / f"image{suffix}"
    Image.fromarray(smooth).save(path, quality=90)
    assert np.array_equal(read_image(path), cv2.imread(str(path))[..., ::-1])
