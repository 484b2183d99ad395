"""--compat against what OpenCV itself gave; tests/pipelines/flow compares with a live OpenCV."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets.base import Resize
from pipelines.datasets.raw_frames import image_paths
from pipelines.events import UserError
from pipelines.io.images import read_image
from pipelines.io.published_resize import float_linear, opencv_grey, opencv_linear, resize
from pipelines.io.video import read_video
from tests.pipelines.datasets import published_makers
from tests.pipelines.datasets.preparing import prepared
from tests.pipelines.io.video_makers import encode, ffmpeg, photo_like

# SHA-256 of cv2.resize(pattern(height, width), (size, size)) by OpenCV 4.10.0; 5.0.0 agrees.
OPENCV = {
    (120, 160, 64): "3eb2e6e61bb4978f",
    (256, 256, 128): "a976132f7074e49f",
    (360, 640, 256): "82376ef9a47e6f2e",
    (37, 91, 50): "6048ffda03ee8257",
    (20, 30, 64): "e120e3dc7c5119b7",
}
OPENCV_GREY = "0aa6353ef1b149e1"


def pattern(height: int, width: int) -> np.ndarray:
    """Bytes that look like noise, the same everywhere: uint8 H W 3."""
    numbers = np.arange(height * width * 3, dtype=np.uint64)
    mixed = (numbers * 2654435761 + (numbers * numbers) % 7919) >> 7
    return (mixed & 0xFF).astype(np.uint8).reshape(height, width, 3)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("case", OPENCV)
def test_bytes_are_resized_as_opencv_does(case: tuple[int, int, int]) -> None:
    height, width, size = case
    assert digest(opencv_linear(pattern(height, width), size)) == OPENCV[case]


def test_colours_are_weighed_as_opencv_does() -> None:
    assert digest(opencv_grey(pattern(120, 160))) == OPENCV_GREY


def test_floats_are_mixed_between_pixel_centres() -> None:
    row = np.array([0, 100, 200, 40], np.uint8)
    frame = np.broadcast_to(row[None, :, None], (4, 4, 3)).copy()
    assert float_linear(frame, 2)[0, :, 0].tolist() == [50, 120]
    assert float_linear(frame, 8)[0, :, 0].tolist() == [0, 25, 75, 125, 175, 160, 80, 40]


def test_plants_take_both_published_steps(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    path = encode(raw / "videos" / "VID_1_1.mkv", photo_like(24, width=320, height=200))
    packed = prepared(tmp_path, "plants", raw, size_px=64, compat=True)
    frames = read_video(path, scaler="plain")
    expected = [opencv_linear(opencv_linear(frame, 256), 64) for frame in frames[:19]]
    assert np.array_equal(packed.frames(0, 0, 19), np.stack(expected))
    assert packed.index["filter"].endswith("(II2V): opencv to 256, opencv to the size")
    smooth = prepared(tmp_path, "plants", raw, size_px=64)
    assert not np.array_equal(smooth.frames(0, 0, 19), packed.frames(0, 0, 19))


def test_prepared_images_of_the_published_code_take_the_second_step_only(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    frames = photo_like(24, width=256, height=256)
    published_makers.images(raw / "processed" / "VID_1_1", frames, "frame_{0}.png")
    packed = prepared(tmp_path, "plants", raw, size_px=64, compat=True)
    expected = [opencv_linear(frame, 64) for frame in frames[:19]]
    assert np.array_equal(packed.frames(0, 0, 19), np.stack(expected))


def test_the_cinn_code_resizes_floats(tmp_path: Path) -> None:
    raw = published_makers.dtdb(tmp_path / "raw")
    packed = prepared(tmp_path, "dtdb", raw, size_px=16, compat=True)
    row = packed.ids.index("clouds/train/clouds_1")
    source = read_images(raw / "clouds" / "train" / "clouds_1")
    expected = np.stack([float_linear(frame, 16) for frame in source])
    assert np.array_equal(packed.frames(row, 0, 24), expected)


def test_mcnet_squashes_and_then_takes_the_grey(tmp_path: Path) -> None:
    raw = published_makers.kth(tmp_path / "raw", persons=(3,))
    options = {"protocol": "mcnet", "compat": True, "grey": True, "min_frames": 16, "size_px": 64}
    packed = prepared(tmp_path, "kth", raw, **options)
    path = raw / packed.rows[0].source
    frames = read_video(path, scaler="plain")[:25]
    expected = np.stack([opencv_grey(opencv_linear(frame, 64)) for frame in frames])
    assert np.array_equal(packed.frames(0, 0, 25), expected)


def test_svg_lets_ffmpeg_resize(tmp_path: Path) -> None:
    raw = published_makers.kth(tmp_path / "raw", persons=(3,))
    options = {"protocol": "svg", "compat": True, "grey": True, "min_frames": 16, "size_px": 64}
    packed = prepared(tmp_path, "kth", raw, **options)
    path = raw / packed.rows[0].source
    ffmpeg("-i", path, "-r", "25", "-s", "64x64", "-f", "image2", tmp_path / "%03d.png")
    expected = read_images(tmp_path)[:25, :, :, :1]
    assert np.array_equal(packed.frames(0, 0, 25), expected)
    folders = published_makers.kth(tmp_path / "other", persons=(3,))
    (folders / "walking" / "person03_walking_d1_uncomp.avi").unlink()
    folder = folders / "walking" / "person03_walking_d1"
    published_makers.images(folder, expected[..., 0], "i{0}.png")
    packed = prepared(tmp_path / "b", "kth", folders, **(options | {"size_px": 64}))
    assert np.array_equal(packed.frames(0, 0, 25), expected), "of the size already"
    with pytest.raises(UserError, match="no usable video"):
        prepared(tmp_path / "c", "kth", folders, **(options | {"size_px": 32}))


@pytest.mark.parametrize(
    ("kind", "protocol", "remedy"),
    [("kth", "official", "svg or mcnet or whole"), ("taichi", "fomm", "ii2v"), ("kth", "own", "")],
)
def test_where_no_published_resizing_is_known_that_is_said(
    tmp_path: Path, kind: str, protocol: str, remedy: str
) -> None:
    with pytest.raises(UserError) as error:
        prepared(tmp_path, kind, tmp_path, protocol=protocol, compat=True)
    assert error.value.exit_code == 2
    assert remedy in str(error.value.details["to fix"])


def test_folders_of_ones_own_have_no_published_resizing(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        prepared(tmp_path, "custom", tmp_path, compat=True)
    assert error.value.details["to fix"] == "leave out --compat"


def test_a_rule_that_only_ffmpeg_can_follow_is_refused_for_arrays() -> None:
    with pytest.raises(UserError, match="while a video is decoded"):
        resize(pattern(8, 8), 4, rule=Resize("swscale"))


def read_images(folder: Path) -> np.ndarray:
    return np.stack([read_image(path) for path in image_paths(folder)])
