"""The sound of one video beside the pictures of another."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import ffmpeg

from pipelines.events import UserError
from pipelines.io.ffmpeg import Process, command
from pipelines.io.video import probe

_INPUT = {
    # A playlist that calls itself .mp4 must not make ffmpeg open other files.
    "protocol_whitelist": "fd",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv",
}


def add_sound(video_path: Path, source_path: Path) -> bool:
    """Give an mp4 the sound of another video, from its beginning and no longer than the pictures.

    The pictures stay as they are, to the byte; the sound becomes AAC, which every browser plays.
    Returns whether there was any. Raises UserError when the sound cannot be read.
    """
    if not probe(source_path).has_audio:
        return False
    pictures = ffmpeg.input(f"file:{video_path.absolute()}")["v:0"]
    sound = ffmpeg.input("fd:", **_INPUT)["a:0"].filter("apad")  # as long as the pictures, at least
    with tempfile.TemporaryDirectory(dir=video_path.parent, prefix=".sounding-") as folder:
        made = Path(folder).absolute() / video_path.name
        output = ffmpeg.output(
            pictures,
            sound,
            f"file:{made}",
            vcodec="copy",
            acodec="aac",
            shortest=None,
            movflags="+faststart",
            map_metadata=-1,
            fflags="+bitexact",
            **{"flags:a": "+bitexact"},
        )
        arguments = command(output, loglevel="error")
        with source_path.open("rb") as source, Process(arguments, stdin=source) as process:
            is_made = process.finish() == 0
        if not is_made:
            raise UserError(
                f"the sound of '{source_path.name}' cannot be read",
                {
                    "video": source_path,
                    "ffmpeg says": next(iter(process.messages), "nothing"),
                    "to fix": "give sound=false",
                },
            )
        os.replace(made, video_path)
    return True
