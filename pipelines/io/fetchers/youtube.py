"""Videos of a list of YouTube ids, through yt-dlp.

Many listed videos are gone. Each that cannot be had is reported with its reason in a word, and a
part of the list is a usable result. What yt-dlp says goes to the log in full.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yt_dlp

from pipelines.events import UserError
from pipelines.io.download import (
    Fetched,
    Meter,
    SourceClosed,
    Stopped,
    Unavailable,
    Wanted,
    check_file,
)
from pipelines.io.fetchers.video_list import read_table

_REASONS: tuple[tuple[str, str], ...] = (
    ("bot check", r"not a bot"),
    ("age", r"confirm your age|age.restricted|inappropriate for some users"),
    ("private", r"private video|video is private"),
    ("members only", r"members.only|channel's members|join this channel"),
    ("copyright", r"copyright"),
    ("region", r"in your country|in your region|geo.?restrict|your location"),
    ("rate limit", r"http error 429|too many requests|rate.limited"),
    (
        "removed",
        r"video unavailable|has been removed|no longer available|been terminated|does not exist"
        r"|http error (404|410)|not available anymore",
    ),
    ("no mp4", r"requested format is not available|no video formats"),
    ("network", r"timed out|connection|resolve|network|http error 5\d\d|ssl"),
)
_BOT_CHECKS = 3


class YoutubeFetcher:
    """The videos that a table lists.

    table: a CSV file.  id_column, split_column: its columns.  watch_url: with {id} in it.
    into: folder put before the names, which are ID.mp4.  cookies_path, cookies_from_browser: how
    to appear as a signed-in user.  pause_s: wait between two videos.
    """

    max_parallel = 1

    def __init__(
        self,
        table: Path,
        *,
        id_column: str,
        split_column: str,
        watch_url: str,
        into: str,
        max_height_px: int,
        cookies_path: Path | None = None,
        cookies_from_browser: str | None = None,
        pause_s: float = 0.0,
        read_timeout_s: float = 60.0,
    ) -> None:
        self.videos = read_table(table, id_column=id_column, split_column=split_column)
        self._watch_url = watch_url
        self._into = into
        self._pause_s = pause_s
        self._num_bot_checks = 0
        height = f"[height<=?{max_height_px}]"
        self._options: dict[str, Any] = {
            # Picture only: sound is not used and would need a merge.
            "format": f"bv[ext=mp4]{height}/b[ext=mp4]{height}/bv*[ext=mp4]",
            "logger": _Log(),
            "noplaylist": True,
            "noprogress": True,
            "color": "no_color",
            "fixup": "never",
            "updatetime": False,
            "retries": 5,
            "socket_timeout": read_timeout_s,
            "js_runtimes": {"deno": {}, "node": {}, "bun": {}, "quickjs": {}},
        }
        if cookies_path:
            # As a stream: yt-dlp writes to the file that it is given.
            self._options["cookiefile"] = io.StringIO(cookies_path.read_text(encoding="utf-8"))
        if cookies_from_browser:
            self._options["cookiesfrombrowser"] = (cookies_from_browser,)

    def list_files(self) -> list[Wanted]:
        """One file per video."""
        return [
            Wanted(f"{self._into}{video.id}.mp4", self._watch_url.format(id=video.id), key=video)
            for video in self.videos
        ]

    def measure(self, wanted: Wanted) -> Wanted:
        """The file as it is: sizes are known only to YouTube."""
        return wanted

    def fetch(self, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
        """Get one video. Raises Unavailable with its reason, SourceClosed, Stopped."""
        meter.pause(self._pause_s)
        destination.parent.mkdir(parents=True, exist_ok=True)
        # yt-dlp gives its files their final name before we have looked at them.
        unchecked = destination.with_name(destination.name + ".unchecked.mp4")
        template = str(unchecked).replace("%", "%%")
        failure: UserError | None = None
        try:
            with yt_dlp.YoutubeDL(
                self._options | {"outtmpl": template, "progress_hooks": [_hook(meter)]}
            ) as client:
                client.extract_info(wanted.url)
        except yt_dlp.utils.DownloadCancelled:
            raise Stopped from None
        except yt_dlp.utils.YoutubeDLError as problem:
            failure = self._explained(str(problem), wanted)
        if failure is not None:
            raise failure  # without its cause, which would keep connections open for as long
        self._num_bot_checks = 0
        fetched = check_file(unchecked, replace(wanted, kinds=("mp4",)))
        unchecked.replace(destination)
        return fetched

    def _explained(self, text: str, wanted: Wanted) -> UserError:
        reason, text = reason_of(text), " ".join(text.split())[:300]
        self._num_bot_checks = self._num_bot_checks + 1 if reason == "bot check" else 0
        if self._num_bot_checks >= _BOT_CHECKS:
            return SourceClosed(
                "YouTube takes this machine for a robot",
                {
                    "YouTube says": text,
                    "to fix": "give --cookies-from-browser NAME or --cookies FILE, and --sleep 5",
                    "or": "run the same command from another network; it goes on from here",
                },
            )
        return Unavailable(
            f"'{wanted.name}' cannot be had: {reason}",
            {"YouTube says": text, "url": wanted.url},
            reason=reason,
        )


class _Log:
    """Sends all that yt-dlp says to standard output, which is the job's log."""

    def debug(self, message: str) -> None:
        print(message, flush=True)

    info = warning = error = debug


def _hook(meter: Meter) -> Any:
    def saw(state: Mapping[str, Any]) -> None:
        try:
            meter.check()
        except Stopped:
            raise yt_dlp.utils.DownloadCancelled from None
        done = int(state.get("downloaded_bytes") or meter.done)
        meter.received += max(0, done - meter.done)
        meter.done = done
        total = state.get("total_bytes") or state.get("total_bytes_estimate")
        meter.total = int(total) if total else meter.total

    return saw


def reason_of(text: str) -> str:
    """The word for what yt-dlp says about a video that it could not get; 'other' when unknown."""
    plain = text.replace("\u2019", "'").lower()
    return next((word for word, pattern in _REASONS if re.search(pattern, plain)), "other")
