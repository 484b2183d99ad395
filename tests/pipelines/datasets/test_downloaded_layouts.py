"""What a download leaves, by the sources that ship with i2v, is what `extract-frames` reads."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.datasets.base import RawVideo
from pipelines.datasets.fetch import fetch
from pipelines.datasets.fetch_config import read_sources
from tests.pipelines.datasets.fetch_cases import Said, noise, request_for, tree
from tests.pipelines.io.archive_makers import honest_zip, split_zip

CONF = Path(__file__).parents[3] / "conf"
VIDEO = b"\x1a\x45\xdf\xa3" + bytes(500)
JPEG = b"\xff\xd8\xff\xe0" + bytes(200)
SKY = "07EX6tI9F4Y"
TABLE = (
    "video_id,start,end,bbox,fps,width,height,partition\n"
    "u6rJiF-gPx8,80,300,0-0-300-300,30.0,640,360,train\n"
)


def plants(hand: Path) -> None:
    files = {f"VID_{n}_0.mkv": VIDEO + noise(9000) for n in range(3)}
    split_zip(files, hand / "poking_plants.zip", part_bytes=10_000)


def iper(hand: Path) -> None:
    files = {f"iPER_1024/001_10_{kind}.mp4": VIDEO for kind in (1, 2)}
    (hand / "iPER_1024_video_release.zip").write_bytes(honest_zip(files))


def landscape(hand: Path) -> None:
    names = [f"{SKY}/{SKY}_1/{SKY}_frames_{n:08d}.jpg" for n in range(20)]
    files = {f"sky_timelapse/sky_train/{name}": JPEG for name in names}
    (hand / "sky_timelapse.zip").write_bytes(honest_zip(files))


def dtdb(hand: Path) -> None:
    files = {f"fire/{part}/a/frame{n}.jpg": JPEG for part in ("train", "eval") for n in range(3)}
    (hand / "dtdb.zip").write_bytes(honest_zip(files))


def kth(hand: Path) -> None:
    for number in (1, 2):
        path = hand / "boxing" / f"person0{number}_boxing_d1_uncomp.avi"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"RIFF" + bytes(4) + b"AVI " + bytes(99))
    lines = "person01_boxing_d1\t\tframes\t1-95, 96-185\nperson02_boxing_d1\t\tframes\t1-60\n"
    (hand / "00sequences.txt").write_text(lines)


def taichi(hand: Path) -> None:
    published_size = 196_418
    (hand / "taichi-metadata.csv").write_text(TABLE.ljust(published_size, "\n"))
    (hand / "u6rJiF-gPx8.mp4").write_bytes(bytes(4) + b"ftypisom" + bytes(99))


def h36m(hand: Path) -> None:
    for camera in (54138969, 55011271):
        path = hand / "S1" / "Videos" / f"Directions 1.{camera}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(4) + b"ftypisom" + bytes(99))


NUM_VIDEOS = {"plants": 3, "iper": 2, "landscape": 1, "dtdb": 2, "kth": 5, "taichi": 1, "h36m": 2}


@pytest.mark.parametrize("make", [plants, iper, landscape, dtdb, kth, taichi, h36m])
def test_files_got_by_hand_are_found_by_the_dataset(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    name = make.__name__
    hand = tmp_path / "Downloads"
    hand.mkdir()
    make(hand)
    before = tree(hand)
    sources = read_sources(CONF, name)
    fetch(request_for(tmp_path, sources, dataset=name, from_dir=hand, accept_terms=True), Said())
    found = list(
        importlib.import_module(f"pipelines.datasets.{name}").layout(
            tmp_path / "data" / name / "raw"
        )
    )
    usable = [each for each in found if isinstance(each, RawVideo)]
    assert len(usable) == NUM_VIDEOS[name], found
    assert tree(hand) == before
