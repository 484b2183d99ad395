"""Files got by hand (--from-dir) are taken over in whatever shape a browser left them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.datasets.fetch import fetch
from pipelines.datasets.fetch_config import SourceSet
from pipelines.events import UserError
from tests.pipelines.datasets.fetch_cases import (
    ACTIONS,
    SEQUENCES,
    Said,
    kth_like,
    manifest,
    noise,
    request_for,
    run,
    source_set,
    tree,
)
from tests.pipelines.io.archive_makers import honest_tar, honest_zip, split_zip
from tests.pipelines.io.loopback import Host, serving, without_proxies

CHECKPOINTS = {
    "config/config.yaml": b"general: 1\n",
    "ckpt/reg_ckpt_10.pt": noise(9000),
    "notes.txt": b"x",
}


@pytest.fixture(autouse=True)
def no_proxies() -> Iterator[None]:
    with without_proxies():
        yield


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as running:
        yield running


@pytest.fixture
def hand(tmp_path: Path) -> Path:
    """The folder that the user saved files in."""
    folder = tmp_path / "Downloads"
    folder.mkdir()
    return folder


def weights(url: str = "https://example.org/d/abc/") -> SourceSet:
    return source_set(
        {
            "kind": "seafile",
            "url": url,
            "into": "plants_64x64/",
            "content": ["config/config.yaml", "ckpt", "*"],
            "content_into": "plants_64x64",
        }
    )


def adopt_weights(tmp_path: Path, hand: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    result = run(tmp_path, weights(), dataset="weights/poke", from_dir=hand)
    return result, tree(tmp_path / "weights" / "poke")


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("below", ["", "kth", "a/b/c"])
def test_published_files_are_found_in_any_folder_and_unpacked(
    host: Host, tmp_path: Path, hand: Path, below: str
) -> None:
    write(hand / below, {f"{name}.zip": honest_zip(files) for name, files in ACTIONS.items()})
    write(hand, {"unrelated.bin": noise(10)})
    result = run(tmp_path, kth_like(host), from_dir=hand)
    raw = tmp_path / "data" / "kth" / "raw"
    for action, files in ACTIONS.items():
        for name, data in files.items():
            assert (raw / action / name).read_bytes() == data
    assert (result["num_files"], result["num_files_here"]) == (4, 3)
    assert {row["name"]: row["state"] for row in result["files"]}["00sequences.txt"] == "missing"
    assert manifest(raw)["files"]["walking.zip"]["adopted_from"] == str(hand)
    assert host.requests == [], "a hand-over asks no server"


def test_what_is_missing_is_fetched_later(host: Host, tmp_path: Path, hand: Path) -> None:
    sources = kth_like(host)
    write(hand, {"walking.zip": honest_zip(ACTIONS["walking"])})
    run(tmp_path, sources, from_dir=hand)
    assert run(tmp_path, sources)["num_files_here"] == 4
    assert "/kth/walking.zip" not in host.paths()


def test_the_users_folder_is_left_as_it_was(host: Host, tmp_path: Path, hand: Path) -> None:
    write(hand, {"walking.zip": honest_zip(ACTIONS["walking"]), "00sequences.txt": SEQUENCES})
    before = tree(hand)
    run(tmp_path, kth_like(host), from_dir=hand, keep_archives=False)
    assert tree(hand) == before
    assert not (tmp_path / "data" / "kth" / "raw" / "walking.zip").exists()


def test_unpacked_content_is_taken_over_as_it_is(host: Host, tmp_path: Path, hand: Path) -> None:
    write(hand / "my kth", {f"walking/{name}": data for name, data in ACTIONS["walking"].items()})
    write(hand / "my kth", {"walking/cover.jpg": b"x"})
    sources = kth_like(host)
    run(tmp_path, sources, from_dir=hand)
    raw = tmp_path / "data" / "kth" / "raw"
    assert tree(raw) == {f"walking/{name}": data for name, data in ACTIONS["walking"].items()}
    result = run(tmp_path, sources)
    assert host.requests == [], "what was handed over whole is not fetched"
    assert result["num_files_here"] == 1


@pytest.mark.parametrize(
    "shape",
    [
        "folder",
        "folder in a folder",
        "zip",
        "zip with an extra folder",
        "zip of two folders deep",
        "exported zip",
        "tar.gz",
    ],
)
def test_weights_are_taken_over_in_every_shape(tmp_path: Path, hand: Path, shape: str) -> None:
    deep = {f"plants_64x64/{name}": data for name, data in CHECKPOINTS.items()}
    deeper = {f"models/{name}": data for name, data in deep.items()}
    if shape == "folder":
        write(hand, CHECKPOINTS)
    elif shape == "folder in a folder":
        write(hand, deep)
    elif shape == "tar.gz":
        write(hand, {"weights.tar.gz": honest_tar(deep)})
    else:
        names = {"exported zip": "documents-export-2021-06-01.zip"}
        content = {
            "zip": CHECKPOINTS,
            "zip with an extra folder": deep,
            "zip of two folders deep": deeper,
            "exported zip": deep,
        }[shape]
        write(hand, {names.get(shape, "plants_64x64.zip"): honest_zip(content)})
    result, files = adopt_weights(tmp_path, hand)
    assert files == {f"plants_64x64/{name}": data for name, data in CHECKPOINTS.items()}
    assert result["num_files_here"] == len(result["files"]) == 3


def test_weights_that_were_handed_over_are_not_fetched(
    host: Host, tmp_path: Path, hand: Path
) -> None:
    write(hand, CHECKPOINTS)
    sources = weights(f"{host.url}/d/abc/")
    run(tmp_path, sources, dataset="weights/poke", from_dir=hand)
    run(tmp_path, sources, dataset="weights/poke")
    assert host.requests == []
    shutil.rmtree(tmp_path / "weights" / "poke" / "plants_64x64")
    with pytest.raises(UserError):
        run(tmp_path, sources, dataset="weights/poke")
    assert host.requests != []


def test_parts_of_a_split_zip_are_taken_over_and_joined(tmp_path: Path, hand: Path) -> None:
    videos = {f"VID_{n}_1.mkv": noise(20_000) for n in range(3)}
    split_zip(videos, hand / "poking_plants.zip", part_bytes=25_000, method=0)
    sources = source_set(
        {"kind": "seafile", "url": "https://example.org/d/abc/", "include": ["poking_plants.z*"]},
        unpack=[{"match": r"poking_plants\.zip", "into": "videos"}],
    )
    run(tmp_path, sources, from_dir=hand, keep_archives=False)
    raw = tmp_path / "data" / "kth" / "raw"
    assert tree(raw) == {f"videos/{name}": data for name, data in videos.items()}


def test_parts_inside_an_exported_zip_are_found(tmp_path: Path, hand: Path) -> None:
    videos = {f"VID_{n}_1.mkv": noise(9000) for n in range(3)}
    parts = split_zip(videos, tmp_path / "poking_plants.zip", part_bytes=10_000, method=0)
    packed = honest_zip({f"export/{part.name}": part.read_bytes() for part in parts})
    write(hand, {"documents-export.zip": packed})
    sources = source_set(
        {"kind": "seafile", "url": "https://example.org/d/abc/", "include": ["poking_plants.z*"]},
        unpack=[{"match": r"poking_plants\.zip", "into": "videos"}],
    )
    run(tmp_path, sources, from_dir=hand, keep_archives=False)
    raw = tmp_path / "data" / "kth" / "raw"
    assert tree(raw) == {f"videos/{name}": data for name, data in videos.items()}


def test_videos_of_a_list_are_known_by_their_ids(tmp_path: Path, hand: Path) -> None:
    table = b"video_id,partition\naaaaaaaaaaa,train\nbbbbbbbbbbb,test\n"
    write(
        hand, {"table.csv": table, "clips/aaaaaaaaaaa.mp4": b"\x00\x00\x00\x10ftypisom" + noise(9)}
    )
    sources = source_set(
        {"kind": "https", "files": [{"name": "table.csv", "urls": ["https://example.org/t"]}]},
        {
            "kind": "youtube",
            "table": "table.csv",
            "id_column": "video_id",
            "split_column": "partition",
        },
    )
    result = run(tmp_path, sources, from_dir=hand)
    assert result["coverage"]["train"]["videos_here"] == 1
    assert result["coverage"]["test"]["videos_here"] == 0
    assert (tmp_path / "data/kth/raw/videos/aaaaaaaaaaa.mp4").is_file()


def test_a_file_with_a_wrong_checksum_is_refused_and_the_others_are_taken(
    tmp_path: Path, hand: Path
) -> None:
    files = [
        {"name": "a.zip", "urls": ["https://example.org/a"], "checksums": ["md5:" + "0" * 32]},
        {"name": "b.txt", "urls": ["https://example.org/b"]},
    ]
    write(hand, {"a.zip": honest_zip({"a": b"1"})})
    sources = source_set({"kind": "https", "files": files})
    with pytest.raises(UserError, match=r"'a\.zip' is not the published file"):
        run(tmp_path, sources, from_dir=hand)
    write(hand, {"b.txt": b"text"})
    said = Said()
    result = fetch(request_for(tmp_path, sources, from_dir=hand), said)
    assert result["num_files_here"] == 1
    assert any("'a.zip' is not the published file" in line for line in said.lines())


def test_a_page_saved_instead_of_the_archive_is_refused(
    host: Host, tmp_path: Path, hand: Path
) -> None:
    write(hand, {"walking.zip": b"<!DOCTYPE html><html>quota</html>"})
    with pytest.raises(UserError, match=r"'walking\.zip' is not the published file") as caught:
        run(tmp_path, kth_like(host), from_dir=hand)
    assert caught.value.details["got"] == "a web page"


def test_a_hostile_archive_in_the_folder_is_refused(tmp_path: Path, hand: Path) -> None:
    write(hand, {"weights.zip": honest_zip(CHECKPOINTS | {"../../evil": b"1"})})
    with pytest.raises(UserError, match="is refused: the name"):
        adopt_weights(tmp_path, hand)
    assert not list(tmp_path.rglob("evil"))


def test_archives_that_have_nothing_to_do_with_it_are_left_alone(
    tmp_path: Path, hand: Path
) -> None:
    write(hand, {"broken.zip": b"PK\x03\x04 not really", "other.zip": honest_zip({"a": b"1"})})
    write(hand, {"more.tar.gz": honest_tar({"b/c": b"1"})})
    write(hand, {"w.zip": honest_zip(CHECKPOINTS)})
    _, files = adopt_weights(tmp_path, hand)
    assert set(files) == {f"plants_64x64/{name}" for name in CHECKPOINTS}


def test_the_datasets_own_folder_is_not_taken_over(host: Host, tmp_path: Path) -> None:
    raw = tmp_path / "data" / "kth" / "raw"
    write(raw / "here", {"walking.zip": honest_zip(ACTIONS["walking"])})
    for folder in (raw, raw / "here"):
        with pytest.raises(UserError, match="the dataset's own folder already"):
            run(tmp_path, kth_like(host), from_dir=folder)


def test_a_hand_over_replaces_what_a_download_has_begun(
    host: Host, tmp_path: Path, hand: Path
) -> None:
    raw = tmp_path / "data" / "kth" / "raw"
    write(raw, {"walking.zip.part": b"PK", "walking.zip.part.json": b"{}"})
    write(hand, {"walking.zip": honest_zip(ACTIONS["walking"])})
    run(tmp_path, kth_like(host), from_dir=hand)
    assert not list(raw.glob("*.part*"))


def test_a_folder_without_anything_that_fits_says_what_is_wanted(
    host: Host, tmp_path: Path, hand: Path
) -> None:
    with pytest.raises(UserError, match="nothing in 'Downloads' fits") as caught:
        run(tmp_path, kth_like(host), from_dir=hand)
    assert caught.value.exit_code == 4
    assert "walking.zip" in caught.value.details["files wanted"]
    with pytest.raises(UserError, match="no folder 'elsewhere'"):
        run(tmp_path, kth_like(host), from_dir=hand / "elsewhere")


def test_links_that_lead_in_circles_do_no_harm(tmp_path: Path, hand: Path) -> None:
    write(hand, CHECKPOINTS)
    (hand / "ckpt" / "again").symlink_to(hand)
    (hand / "again").symlink_to(hand)
    _, files = adopt_weights(tmp_path, hand)
    own = {name: data for name, data in files.items() if "/again/" not in name}
    assert own == {f"plants_64x64/{name}": data for name, data in CHECKPOINTS.items()}


def test_an_archive_on_another_disk_may_be_linked(host: Host, tmp_path: Path, hand: Path) -> None:
    write(tmp_path / "elsewhere", {"walking.zip": honest_zip(ACTIONS["walking"])})
    (hand / "walking.zip").symlink_to(tmp_path / "elsewhere" / "walking.zip")
    run(tmp_path, kth_like(host), from_dir=hand)
    assert not (tmp_path / "data" / "kth" / "raw" / "walking.zip").is_symlink()
