"""Lists of videos through the real yt-dlp, which takes them from a loopback server."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.events import UserError
from pipelines.io.download import Meter, SourceClosed, Stopped, Unavailable
from pipelines.io.fetchers.video_list import ListedVideo, coverage, read_table
from pipelines.io.fetchers.youtube import YoutubeFetcher, reason_of
from tests.pipelines.io.loopback import Fault, Host, Request, serving, without_proxies

noise = random.Random(3).randbytes
TABLE = """video_id,start,end,bbox,fps,width,height,partition
u6rJiF-gPx8,80,300,118-82-508-472,29.97,640,480,train
u6rJiF-gPx8,575,717,168-99-488-419,29.97,640,480,train
-NBGys-uxSc,134,312,152-118-440-406,29.97,640,480,train
uEqWZ9S_-Lw,89,581,51-38-489-476,25.0,600,480,test
gonegonegon,89,581,51-38-489-476,25.0,600,480,test
"""


def mp4(num_bytes: int) -> bytes:
    """Something that begins like an mp4 file."""
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + noise(num_bytes)


@pytest.fixture(autouse=True)
def no_proxies() -> Iterator[None]:
    with without_proxies():
        yield


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as running:
        yield running


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "taichi-metadata.csv"
    path.write_text(TABLE)
    return path


def fetcher_of(host: Host, table: Path) -> YoutubeFetcher:
    return YoutubeFetcher(
        table,
        id_column="video_id",
        split_column="partition",
        watch_url=host.url + "/watch/{id}.mp4",
        into="videos/",
        max_height_px=1080,
        read_timeout_s=3,
    )


def test_the_listed_videos_that_exist_arrive_and_the_others_have_a_reason(
    host: Host, table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    videos = {name: mp4(50_000) for name in ("u6rJiF-gPx8", "-NBGys-uxSc", "uEqWZ9S_-Lw")}
    for name, data in videos.items():
        host.add(f"/watch/{name}.mp4", data, type="video/mp4")
    fetcher = fetcher_of(host, table)
    wanted = fetcher.list_files()
    assert [each.name for each in wanted] == [
        "videos/u6rJiF-gPx8.mp4",
        "videos/-NBGys-uxSc.mp4",
        "videos/uEqWZ9S_-Lw.mp4",
        "videos/gonegonegon.mp4",
    ]
    for each in wanted[:3]:
        fetched = fetcher.fetch(each, tmp_path / each.name, Meter())
        name = Path(each.name).stem
        assert (tmp_path / each.name).read_bytes() == videos[name]
        assert fetched.size == len(videos[name])
    with pytest.raises(Unavailable) as caught:
        fetcher.fetch(wanted[3], tmp_path / wanted[3].name, Meter())
    assert caught.value.reason == "removed"
    assert "404" in caught.value.details["YouTube says"]
    assert "404" in capfd.readouterr().out, "what yt-dlp says belongs into the log"
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == [
        "-NBGys-uxSc.mp4",
        "u6rJiF-gPx8.mp4",
        "uEqWZ9S_-Lw.mp4",
    ]


def test_a_page_is_not_kept_as_a_video(host: Host, table: Path, tmp_path: Path) -> None:
    host.add("/watch/u6rJiF-gPx8.mp4", b"<html>no</html>" * 50, type="video/mp4")
    fetcher = fetcher_of(host, table)
    wanted = fetcher.list_files()[0]
    with pytest.raises(UserError):
        fetcher.fetch(wanted, tmp_path / wanted.name, Meter())
    assert not (tmp_path / wanted.name).exists()


def test_a_video_that_was_begun_goes_on(host: Host, table: Path, tmp_path: Path) -> None:
    data = mp4(300_000)
    host.add("/watch/u6rJiF-gPx8.mp4", data, type="video/mp4")
    host.piece_delay_s = 0.03
    fetcher = fetcher_of(host, table)
    wanted = fetcher.list_files()[0]
    stop = threading.Event()
    meter = Meter(stop)
    threading.Thread(target=lambda: _stop_after(meter, stop, 60_000), daemon=True).start()
    with pytest.raises(Stopped):
        fetcher.fetch(wanted, tmp_path / wanted.name, meter)
    assert not (tmp_path / wanted.name).exists()
    host.piece_delay_s = 0
    fetcher.fetch(wanted, tmp_path / wanted.name, Meter())
    assert (tmp_path / wanted.name).read_bytes() == data
    assert any("range" in request.headers for request in host.requests)


def _stop_after(meter: Meter, stop: threading.Event, num_bytes: int) -> None:
    while meter.done < num_bytes and not stop.wait(0.005):
        pass
    stop.set()


def test_a_machine_taken_for_a_robot_stops_the_list(
    host: Host, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yt_dlp

    def refuse(*_: object, **__: object) -> None:
        raise yt_dlp.utils.DownloadError(
            "ERROR: [youtube] x: Sign in to confirm you\u2019re not a bot."
        )

    monkeypatch.setattr(yt_dlp.YoutubeDL, "extract_info", refuse)
    fetcher = fetcher_of(host, table)
    wanted = fetcher.list_files()
    for each in wanted[:2]:
        with pytest.raises(Unavailable) as caught:
            fetcher.fetch(each, tmp_path / each.name, Meter())
        assert caught.value.reason == "bot check"
    with pytest.raises(SourceClosed, match="takes this machine for a robot") as closed:
        fetcher.fetch(wanted[2], tmp_path / wanted[2].name, Meter())
    assert "--cookies-from-browser" in closed.value.details["to fix"]


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("ERROR: Video unavailable. This video has been removed by the uploader", "removed"),
        ("ERROR: [youtube] a: Video unavailable", "removed"),
        ("This video is no longer available because the account has been terminated", "removed"),
        ("ERROR: [youtube] a: Private video. Sign in if you've been granted access", "private"),
        ("Join this channel to get access to members-only content like this video", "members only"),
        ("This video is available to this channel's members on level: A", "members only"),
        ("Sign in to confirm your age. This video may be inappropriate for some users.", "age"),
        ("Sign in to confirm you\u2019re not a bot. Use --cookies-from-browser", "bot check"),
        ("Sign in to confirm you're not a bot", "bot check"),
        ("The uploader has not made this video available in your country", "region"),
        ("Video unavailable. It contains content from X, who blocked it in your country", "region"),
        ("This video is no longer available due to a copyright claim by X", "copyright"),
        ("Video unavailable. This content isn't available, try again later. The current session has"
         " been rate-limited by YouTube", "rate limit"),
        ("Unable to download webpage: HTTP Error 429: Too Many Requests", "rate limit"),
        ("Requested format is not available. Use --list-formats", "no mp4"),
        ("Unable to download webpage: HTTP Error 404: Not Found", "removed"),
        ("Unable to download API page: timed out", "network"),
        ("something new", "other"),
    ],
)  # fmt: skip
def test_what_youtube_says_is_put_into_a_word(says: str, reason: str) -> None:
    assert reason_of(says) == reason


def test_a_table_gives_each_video_once_with_its_clips(table: Path) -> None:
    assert read_table(table, id_column="video_id", split_column="partition")[:2] == [
        ListedVideo("u6rJiF-gPx8", "train", 2),
        ListedVideo("-NBGys-uxSc", "train", 1),
    ]


@pytest.mark.parametrize(
    "text", ["<html>404</html>\n<p>", "a,b\n1,2\n", "video_id,partition\n../x,t\n"]
)
def test_another_file_than_the_table_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(UserError, match="not the expected table"):
        read_table(tmp_path / "table.csv", id_column="video_id", split_column="partition")


def test_coverage_counts_videos_and_clips_per_split(table: Path) -> None:
    videos = read_table(table, id_column="video_id", split_column="partition")
    assert coverage(videos, {"u6rJiF-gPx8", "uEqWZ9S_-Lw"}) == {
        "train": {"videos": 2, "videos_here": 1, "clips": 3, "clips_here": 2},
        "test": {"videos": 2, "videos_here": 1, "clips": 2, "clips_here": 1},
    }


def test_yt_dlp_asks_only_for_the_listed_addresses(host: Host, table: Path, tmp_path: Path) -> None:
    seen: list[Request] = host.requests
    host.always["/watch/u6rJiF-gPx8.mp4"] = Fault(status=403)
    fetcher = fetcher_of(host, table)
    with pytest.raises(Unavailable):
        fetcher.fetch(fetcher.list_files()[0], tmp_path / "videos/u6rJiF-gPx8.mp4", Meter())
    assert {request.path for request in seen} == {"/watch/u6rJiF-gPx8.mp4"}
