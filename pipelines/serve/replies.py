"""What the server says of itself, of runs, pictures and clips. Light: pydantic only."""

from __future__ import annotations

from pydantic import Field

from pipelines.schema import Config
from pipelines.serve.runs import Ability, ServedRun
from pipelines.serve.session import StoredClip, StoredPicture


class StatusReply(Config):
    """How the server is."""

    session: str = Field(description="folder in which pictures, clips and answers are kept")
    is_idle: bool = Field(description="whether no question is being answered")
    answers: int = Field(description="answers given so far")


class RunReply(Config):
    """A model that can be asked."""

    name: str = Field(description="what questions call it")
    family: str
    step: int = Field(description="training steps of its newest checkpoint")
    path: str
    can: tuple[Ability, ...] = Field(description="the questions it answers")
    size_px: int = Field(description="width and height of its videos")
    frames: int = Field(description="frames of an answer that is not asked for another number")
    fps: float = Field(description="frames per second at which answers are shown")
    has_endpoint: bool = Field(description="whether it must be told where an arm shall end")
    has_keypoints: bool = Field(description="whether a transferred motion may be relative")


class PictureReply(Config):
    """A picture that can be asked about."""

    id: str = Field(description="what questions call it")
    name: str
    width: int
    height: int
    is_generated: bool
    has_truth: bool = Field(description="whether POST /api/truth knows its answers")
    end: str | None = Field(None, description="id of the picture that it becomes, where known")


class ClipReply(Config):
    """A clip whose motion can be taken."""

    id: str = Field(description="what questions call it")
    name: str
    frames: int
    is_generated: bool


def run_reply(run: ServedRun) -> RunReply:
    """What is said of a run."""
    facts = run.facts
    return RunReply(
        name=run.name,
        family=run.family,
        step=run.step,
        path=str(run.path),
        can=facts.can,
        size_px=facts.size_px,
        frames=facts.num_frames,
        fps=facts.fps,
        has_endpoint=facts.has_endpoint,
        has_keypoints=facts.has_keypoints,
    )


def picture_reply(picture: StoredPicture, *, end: str | None = None) -> PictureReply:
    """What is said of a picture. end: id of the picture it becomes."""
    return PictureReply(
        id=picture.id,
        name=picture.name,
        width=picture.width,
        height=picture.height,
        is_generated=picture.example is not None,
        has_truth=picture.example is not None and picture.example.has_truth,
        end=end,
    )


def clip_reply(clip: StoredClip) -> ClipReply:
    """What is said of a clip."""
    return ClipReply(
        id=clip.id, name=clip.name, frames=clip.num_frames, is_generated=clip.is_generated
    )
