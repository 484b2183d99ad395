"""The request of `i2v serve`, and what can be asked of the server. Light: pydantic only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.schema import AbsolutePath, Config

Share = Annotated[float, Field(ge=0, lt=1)]
"""A place along the width or height of a picture."""

Move = Annotated[float, Field(ge=-1.5, le=1.5)]
"""A distance in widths or heights of a picture."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
NumFrames = Annotated[int, Field(ge=1, le=256)]

MAX_ARROWS = 16


class ServeRequest(Config):
    """`i2v serve`."""

    runs: tuple[AbsolutePath, ...] = Field(
        (), max_length=100, description="runs to offer; all under runs_root when none is given"
    )
    runs_root: AbsolutePath
    session_dir: AbsolutePath = Field(description="where pictures and answers are kept")
    port: int | None = Field(
        None, ge=0, le=65535, description="port to listen on; the first free one from 8765"
    )
    allow_remote: bool = Field(False, description="listen to other machines too, not encrypted")
    host_names: tuple[str, ...] = Field(
        (), max_length=20, description="further names this machine is called by, with allow_remote"
    )
    device: str = "auto"


class Limits(Config):
    """What the server takes before it refuses."""

    json_bytes: int = Field(64 * 1024, gt=0, description="body of a question")
    image_bytes: int = Field(20_000_000, gt=0, description="body of an uploaded picture")
    clip_bytes: int = Field(64_000_000, gt=0, description="body of an uploaded clip")
    pixels: int = Field(40_000_000, gt=0, description="width x height of a picture")
    clip_pixels: int = Field(4_000_000, gt=0, description="width x height of a clip's frame")
    clip_frames: int = Field(512, gt=0, description="frames of a clip that are read")
    uploads: int = Field(500, gt=0, description="pictures and clips of one session")
    uploads_at_once: int = Field(4, gt=0)
    waiting: int = Field(8, gt=0, description="questions that wait for the model")
    connections: int = Field(256, gt=0)
    header_s: float = Field(10.0, gt=0, description="time for a request line and its headers")
    json_s: float = Field(5.0, gt=0, description="time for the body of a question")
    upload_s: float = Field(60.0, gt=0, description="time for the body of an upload")
    silence_s: float = Field(180.0, gt=0, description="time between two signs of life of a model")


class Arrow(Config):
    """What the picture shows at (x, y) shall move by (dx, dy), right and down."""

    x: Share = Field(description="place, as a part of the picture's width")
    y: Share = Field(description="place, as a part of its height")
    dx: Move = Field(description="how far to the right, as a part of the width")
    dy: Move = Field(description="how far down, as a part of the height")


class Question(Config):
    """What all questions to a model have."""

    run: Name = Field(description="name of a run, from GET /api/runs")
    slot: str = Field(
        "", max_length=64, description="a newer question of the same slot takes this one's place"
    )


class PokeQuestion(Question):
    """How does this picture answer these arrows?"""

    image: Name = Field(description="id of a picture")
    arrows: tuple[Arrow, ...] = Field(
        min_length=1, max_length=MAX_ARROWS, description="all of them act at once"
    )
    frames: NumFrames | None = Field(None, description="as many as in training")
    directions: int | None = Field(
        None, ge=2, le=16, description="one video for each of so many turns of a single arrow"
    )


class TruthQuestion(Config):
    """How does the simulator of a generated picture answer this arrow?"""

    run: Name = Field(description="run beside whose answer it is shown: same length and pace")
    image: Name = Field(description="id of a generated picture")
    arrow: Arrow
    frames: NumFrames | None = None


class SampleQuestion(Question):
    """What may become of this picture?"""

    image: Name = Field(description="id of a picture")
    num: int = Field(6, ge=1, le=24, description="different videos")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    temperature: float = Field(1.0, ge=0, le=3, description="scale of the random part")
    frames: NumFrames = 16
    endpoint: tuple[Share, Share] | None = Field(
        None, description="where the arm shall end, for a controlled model"
    )


class TransferQuestion(Question):
    """How does this picture move the way that clip does?"""

    image: Name = Field(description="id of a picture")
    clip: Name = Field(description="id of a clip")
    frames: NumFrames = Field(16, description="at most as many as the clip, with keypoints")
    relative: bool = Field(
        False, description="with keypoints: by what the clip moves, not to where it is"
    )
    adapt_scale: bool = Field(
        False, description="with relative: moves as large as the picture's keypoints lie apart"
    )


class BetweenQuestion(Question):
    """What lies between these two pictures?"""

    start: Name = Field(description="id of the first picture")
    end: Name = Field(description="id of the last picture, of the same size")
    num: int = Field(3, ge=1, le=24, description="different videos")
    seed: int = Field(0, ge=0, le=2**31 - 1)
