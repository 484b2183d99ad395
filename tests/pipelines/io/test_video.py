from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.events import UserError
from pipelines.io.ffmpeg import program
from pipelines.io.images import fit_image, to_grey
from pipelines.io.video import (
    VIDEO_SUFFIXES,
    DamagedVideo,
    iter_video,
    probe,
    read_video,
    write_gif,
    write_mp4,
)
from tests.pipelines.io.video_makers import (
    CODECS,
    encode,
    ffmpeg,
    levels,
    moving_square,
    numbers,
    photo_like,
)

ODD_NAMES = (
    "two words.mp4",
    "line\nbreak.mp4",
    "ünïcode 雪.mp4",
    "-i.mp4",
    "--help.mp4",
    "a'quote\".mp4",
    "100%d:[x],y;z=.mp4",
)


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_every_container_gives_all_its_frames_in_order(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"clip{suffix}", levels(12))
    frames = read_video(path)
    assert frames.shape == (12, 24, 32, 3)
    assert numbers(frames) == list(range(12))
    assert probe(path, count_frames=True).num_frames == 12


def test_an_upper_case_suffix_makes_no_difference(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", levels(3)).rename(tmp_path / "CLIP.MP4")
    assert len(read_video(path)) == 3


def test_probe_says_size_rate_length_and_sound(tmp_path: Path) -> None:
    silent = encode(tmp_path / "silent.mp4", levels(10, width=40), fps=12.5)
    info = probe(silent)
    assert (info.width, info.height, info.fps) == (40, 24, 12.5)
    assert info.duration_s == pytest.approx(0.8)
    assert (info.rotation, info.has_audio, info.num_frames) == (0, False, None)
    ffmpeg("-i", silent, "-f", "lavfi", "-i", "sine=d=0.8", "-c:v", "copy", tmp_path / "loud.mp4")
    assert probe(tmp_path / "loud.mp4").has_audio


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_neither_options_nor_patterns(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    write_mp4(path, levels(4), 25)
    assert numbers(read_video(path)) == [0, 1, 2, 3]
    assert os.listdir() == [name]


def test_a_name_that_looks_like_ffmpegs_own_words_does_not_confuse_probe(tmp_path: Path) -> None:
    name = "x':\n  Stream #0:0: Video: h264, yuv420p, 999x999, 7 fps\n.mp4"
    path = encode(tmp_path / "clip.mp4", levels(2)).rename(tmp_path / name)
    info = probe(path)
    assert (info.width, info.height, info.fps) == (32, 24, 25)


@pytest.mark.parametrize(("degrees", "clockwise"), [(90, 270), (-90, 90), (180, 180)])
def test_rotation_in_the_file_is_applied(tmp_path: Path, degrees: int, clockwise: int) -> None:
    frames = np.zeros((3, 24, 40, 3), np.uint8)
    frames[:, :8, :8] = 250  # bright corner, top left
    upright = encode(tmp_path / "upright.mp4", frames)
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation:v:0", str(degrees), "-i", upright, "-c", "copy", turned)
    info = probe(turned)
    assert info.rotation == clockwise
    expected = np.rot90(frames, degrees // 90, axes=(1, 2))
    assert (info.height, info.width) == expected.shape[1:3]
    difference = np.abs(read_video(turned).astype(int) - expected)
    assert difference.mean() < 3
    small = read_video(turned, size_px=16)
    assert np.unravel_index(small[0].mean(axis=2).argmax(), (16, 16)) == np.unravel_index(
        np.asarray(Image.fromarray(expected[0]).resize((16, 16))).mean(axis=2).argmax(), (16, 16)
    )


@pytest.fixture
def varying(tmp_path: Path) -> Path:
    """12 frames at 10 per second of which 3, 4, 5 and 9 are left out: the rate varies."""
    whole = encode(tmp_path / "whole.mkv", levels(12), fps=10)
    path = tmp_path / "varying.mkv"
    kept = "select='not(between(n,3,5)+eq(n,9))'"
    ffmpeg("-i", whole, "-vf", kept, "-fps_mode", "passthrough", "-c:v", "libx264", path)
    return path


def test_varying_rate_passes_every_frame_once(varying: Path) -> None:
    assert numbers(read_video(varying)) == [0, 1, 2, 6, 7, 8, 10, 11]


def test_varying_rate_becomes_constant_by_repeating(varying: Path) -> None:
    assert numbers(read_video(varying, fps=10)) == [0, 1, 2, 2, 2, 2, 6, 7, 8, 8, 10, 11]


def test_fps_changes_the_number_of_frames_not_the_time(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", levels(20), fps=20)
    assert len(read_video(path, fps=10)) == 10
    assert len(read_video(path, fps=40)) == 40
    assert numbers(read_video(path, fps=40))[::2] == list(range(20))


def test_stride_and_range_pick_frames_of_the_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", levels(20))
    assert numbers(read_video(path, stride=3)) == [0, 3, 6, 9, 12, 15, 18]
    assert numbers(read_video(path, max_frames=2)) == [0, 1]
    assert numbers(read_video(path, first_frame=5, stride=4, max_frames=3)) == [5, 9, 13]
    part = iter_video(path, first_frame=4, max_source_frames=6, stride=2)
    assert numbers(np.stack(list(part))) == [4, 6, 8]


def test_odd_sizes_are_read_as_they_are(tmp_path: Path) -> None:
    frames = photo_like(3, width=33, height=17)
    path = encode(tmp_path / "odd.avi", frames, options=("-q:v", "1"))
    assert read_video(path).shape == (3, 17, 33, 3)
    assert read_video(path, size_px=16).shape == (3, 16, 16, 3)


def test_one_frame_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = encode(tmp_path / "one.mp4", levels(1))
    assert numbers(read_video(path)) == [0]


def test_pad_keeps_the_shape_and_center_crop_the_middle(tmp_path: Path) -> None:
    frames = np.zeros((2, 32, 64, 3), np.uint8)
    frames[:, :, 16:48] = 200  # the middle square
    path = encode(tmp_path / "wide.mp4", frames)
    padded = read_video(path, size_px=32, fit="pad")[0].mean(axis=2)
    assert padded[:8].max() == 0 and padded[24:].max() == 0
    assert padded[12:20, 12:20].min() > 190
    cropped = read_video(path, size_px=32, fit="center-crop")[0]
    assert cropped[:, 2:30].min() > 190


def test_pixels_that_are_not_square_count_when_the_shape_is_kept(tmp_path: Path) -> None:
    # 32 x 32 stored, shown as 64 x 32
    path = encode(tmp_path / "wide.mp4", levels(2, width=32, height=32)[1:] + 100)
    wide = tmp_path / "anamorphic.mp4"
    ffmpeg("-i", path, "-vf", "setsar=2", "-c:v", "libx264", wide)
    assert probe(wide).pixel_aspect == 2
    rows = read_video(wide, size_px=32, fit="pad")[0].mean(axis=(1, 2))
    assert (rows[:7] == 0).all() and (rows[25:] == 0).all() and rows[10:22].min() > 100


@pytest.mark.parametrize("fit", ["squash", "center-crop", "pad"])
@pytest.mark.parametrize(("width", "height"), [(202, 120), (96, 150), (40, 30)])
def test_videos_and_images_are_resized_alike(
    tmp_path: Path, fit: str, width: int, height: int
) -> None:
    frames = photo_like(2, width=width, height=height)
    path = encode(tmp_path / "clip.mkv", frames, options=("-crf", "4"))
    full = read_video(path)
    ours = read_video(path, size_px=48, fit=fit)
    images = [np.asarray(fit_image(Image.fromarray(frame), 48, fit=fit)) for frame in full]
    difference = np.abs(ours.astype(int) - np.stack(images))
    assert difference.mean() < 1.5
    assert abs((ours.astype(int) - np.stack(images)).mean()) < 0.3


def test_grey_is_the_luma_of_the_colour_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", photo_like(3, width=64, height=64))
    colour = read_video(path, size_px=32)
    grey = read_video(path, size_px=32, grey=True)
    assert grey.shape == (3, 32, 32, 1)
    assert np.array_equal(grey, np.stack([to_grey(frame) for frame in colour]))


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = (200, 0, 0, 255)
    first = Image.fromarray(pixels)
    first.save(tmp_path / "clear.gif", save_all=True, append_images=[first], disposal=2)
    frame = read_video(tmp_path / "clear.gif")[0]
    assert np.array_equal(frame[0, 0], (200, 0, 0))
    assert np.array_equal(frame[7, 7], (255, 255, 255))


def test_reading_twice_gives_equal_bytes(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", photo_like(6, width=160, height=90))
    assert np.array_equal(read_video(path, size_px=32), read_video(path, size_px=32))


def _sound(path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "aac", path)


def _sound_with_a_cover(path: Path) -> None:
    cover = path.with_suffix(".png")
    Image.new("RGB", (16, 16), "red").save(cover)
    picture = ("-map", "0", "-map", "1", "-c:v", "png", "-disposition:v:0", "attached_pic")
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.3", "-i", cover, *picture, path)


@pytest.mark.parametrize("make", [_sound, _sound_with_a_cover])
def test_sound_alone_is_refused(tmp_path: Path, make: object) -> None:
    path = tmp_path / "song.mp4"
    make(path)  # type: ignore[operator]
    with pytest.raises(UserError, match=r"no pictures in 'song\.mp4', only sound") as caught:
        read_video(path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"this is no video" * 99, "Invalid data")],
    ids=["empty", "text"],
)
def test_what_is_no_video_is_refused_with_a_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot decode the video 'x\.mp4'") as caught:
        read_video(path)
    assert caught.value.exit_code == 4
    assert reason in caught.value.details["reason"]
    assert list(caught.value.details)[-1] == "to fix"


@pytest.mark.parametrize("name", ["nothing.mp4", "."])
def test_a_missing_file_or_a_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no video") as caught:
        probe(tmp_path / name)
    assert caught.value.exit_code == 4
    assert str(tmp_path) in caught.value.details["looked for"]


def test_a_playlist_does_not_open_other_files(tmp_path: Path) -> None:
    secret = encode(tmp_path / "secret.mp4", levels(4))
    for text in (f"ffconcat version 1.0\nfile '{secret}'\n", f"#EXTM3U\n#EXTINF:1,\n{secret}\n"):
        path = tmp_path / "list.mp4"
        path.write_text(text)
        with pytest.raises(UserError, match="cannot decode"):
            read_video(path)


@pytest.fixture(scope="module")
def whole_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
    return {
        suffix: encode(folder / f"clip{suffix}", noise)
        for suffix in (".mp4", ".mkv", ".webm", ".avi", ".gif")
    }


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".gif"])
@pytest.mark.parametrize("part", [0.35, 0.8])
def test_a_cut_off_file_is_refused_unless_the_good_frames_are_wanted(
    tmp_path: Path, whole_clips: dict[str, Path], suffix: str, part: float
) -> None:
    whole = whole_clips[suffix]
    data = whole.read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(DamagedVideo, match="is damaged after") as caught:
        read_video(path)
    assert caught.value.exit_code == 4
    kept = read_video(path, keep_damaged=True)
    assert 1 <= len(kept) < 40
    assert np.array_equal(kept[:-1], read_video(whole)[: len(kept) - 1])


def test_damage_in_the_middle_ends_the_good_frames(
    tmp_path: Path, whole_clips: dict[str, Path]
) -> None:
    data = bytearray(whole_clips[".mp4"].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = os.urandom(2000)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with pytest.raises(DamagedVideo):
        read_video(path)
    assert 5 < len(read_video(path, keep_damaged=True)) < 35


def test_a_file_whose_index_is_cut_off_cannot_be_decoded_at_all(tmp_path: Path) -> None:
    whole = encode(tmp_path / "clip.mov", moving_square(10))
    path = tmp_path / "cut.mov"
    path.write_bytes(whole.read_bytes()[:-900])
    for keep in (False, True):
        with pytest.raises(UserError, match="cannot decode") as caught:
            read_video(path, keep_damaged=keep)
        assert caught.value.details["reason"] == "moov atom not found"


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=s=320x240:r=25:d=20", "-c:v", "libx264", path)
    tracemalloc.start()
    try:
        count = sum(1 for _ in iter_video(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 500
    assert peak < 8 * 320 * 240 * 3


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to list processes")
@pytest.mark.parametrize("how", ["close", "error"])
def test_leaving_early_ends_ffmpeg(tmp_path: Path, how: str) -> None:
    path = tmp_path / "long.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=20", "-c:v", "libx264", path)
    frames = iter_video(path)
    next(frames)
    assert _readers_of(path) == 1
    if how == "close":
        frames.close()
    else:
        with contextlib.closing(frames), contextlib.suppress(ZeroDivisionError):
            raise ZeroDivisionError
    assert _readers_of(path) == 0


def _readers_of(path: Path) -> int:
    """Processes other than this one that have the file as their standard input."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            count += os.readlink(process / "fd" / "0") == str(path)
    return count


def test_progress_rises_to_the_end_of_the_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mkv", photo_like(60, width=320, height=240))
    parts: list[float] = []
    for _ in iter_video(path, size_px=16, progress=parts.append):
        pass
    assert all(before <= after for before, after in pairwise(parts))
    assert len(parts) == 60 and parts[-1] == 1.0


def test_mp4_comes_back_as_it_was_written(tmp_path: Path) -> None:
    frames = np.repeat(levels(10, width=48, height=32), 1, axis=0)
    write_mp4(tmp_path / "out.mp4", frames, 12.5)
    info = probe(tmp_path / "out.mp4", count_frames=True)
    assert (info.width, info.height, info.fps, info.num_frames) == (48, 32, 12.5, 10)
    assert np.abs(read_video(tmp_path / "out.mp4").astype(int) - frames).max() <= 2


def test_mp4_keeps_its_colours(tmp_path: Path) -> None:
    colours = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [250, 250, 10]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (4, 32, 32, 3))
    write_mp4(tmp_path / "out.mp4", frames, 25)
    assert np.abs(read_video(tmp_path / "out.mp4").astype(int) - frames).max() <= 4


def test_mp4_can_be_played_while_it_loads_and_everywhere(tmp_path: Path) -> None:
    write_mp4(tmp_path / "out.mp4", moving_square(10), 25)
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    described = subprocess.run(
        [program(), "-hide_banner", "-i", tmp_path / "out.mp4"], capture_output=True, text=True
    ).stderr
    assert "h264" in described and "yuv420p(tv, bt709" in described


def test_mp4_of_odd_size_gains_a_row_and_a_column(tmp_path: Path) -> None:
    frames = photo_like(3, width=33, height=17)
    write_mp4(tmp_path / "out.mp4", frames, 25, crf=1)
    back = read_video(tmp_path / "out.mp4")
    assert back.shape == (3, 18, 34, 3)
    assert np.abs(back[:, 17, :33].astype(int) - back[:, 16, :33]).mean() < 4


@pytest.mark.parametrize("write", [write_mp4, write_gif])
def test_equal_frames_give_equal_bytes(tmp_path: Path, write: object) -> None:
    frames = photo_like(8, width=64, height=48)
    for name in ("first", "second"):
        write(tmp_path / name, frames, 25)  # type: ignore[operator]
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize("write", [write_mp4, write_gif])
def test_grey_frames_and_generators_can_be_written(tmp_path: Path, write: object) -> None:
    grey = levels(5)[..., :1]
    write(tmp_path / "out.mp4", (frame for frame in grey), 25)  # type: ignore[operator]
    assert numbers(read_video(tmp_path / "out.mp4")) == [0, 1, 2, 3, 4]


def test_gif_shows_all_frames_at_its_rate_in_fitting_colours(tmp_path: Path) -> None:
    frames = photo_like(8, width=64, height=48)
    write_gif(tmp_path / "out.gif", frames, 10)
    with Image.open(tmp_path / "out.gif") as image:
        assert (image.n_frames, image.info["duration"], image.info["loop"]) == (8, 100, 0)
    back = read_video(tmp_path / "out.gif")
    assert back.shape == frames.shape
    blurred = [[np.asarray(Image.fromarray(f).resize((16, 12))) for f in v] for v in (back, frames)]
    assert np.abs(np.array(blurred[0], int) - np.array(blurred[1], int)).mean() < 3


@pytest.mark.parametrize("write", [write_mp4, write_gif])
def test_a_failure_while_writing_leaves_what_was_there(tmp_path: Path, write: object) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"before")

    def frames() -> object:
        yield from levels(3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write(path, frames(), 25)  # type: ignore[operator]
    with pytest.raises(ValueError, match="one size"):
        write(path, [levels(1)[0], levels(1, width=40)[0]], 25)  # type: ignore[operator]
    with pytest.raises(ValueError, match="at least one frame"):
        write(path, [], 25)  # type: ignore[operator]
    with pytest.raises(ValueError, match="uint8"):
        write(path, levels(2).astype(float), 25)  # type: ignore[operator]
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_ctrl_c_in_the_terminal_does_not_make_a_video_look_damaged(tmp_path: Path) -> None:
    """ffmpeg answers SIGINT by ending early, which must not be taken for the end of the file."""
    path = tmp_path / "long.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=8", "-c:v", "libx264", path)
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from pipelines.io.video import iter_video;"
        "signal.signal(signal.SIGINT, signal.SIG_IGN);"
        f"frames = iter_video(Path({str(path)!r})); next(frames);"
        "os.killpg(0, signal.SIGINT);"
        "print(1 + sum(1 for _ in frames))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, process_group=0
    )
    assert done.stdout.strip() == "200", done.stderr


def test_all_codecs_of_the_tests_are_suffixes_the_tool_takes() -> None:
    assert set(CODECS) == VIDEO_SUFFIXES
