"""What can be asked over HTTP: pictures and clips to send, questions to models, answers to fetch.

Answers come as lines of JSON, each as soon as it is there:
  {"type": "start", "answer": ID, "videos": 1, "frames": 10, "width": 64, "height": 64, "fps": 5,
   "start": PNG, "box": [0, 0, 1, 1], "command": "i2v sample ..."}
  {"type": "frame", "video": 0, "index": 0, "png": PNG}        many; PNG is in base64
  {"type": "done"}, {"type": "cancelled"} or {"type": "error", "message": "...", "details": {...}}
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

from fastapi import APIRouter, Header, Request, Security
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer

from pipelines.serve import examples
from pipelines.serve.config import (
    Arrow,
    BetweenQuestion,
    Limits,
    PokeQuestion,
    Question,
    SampleQuestion,
    ServeRequest,
    TransferQuestion,
    TruthQuestion,
)
from pipelines.serve.engine import Engine, Message, Ticket
from pipelines.serve.examples import Example
from pipelines.serve.replies import (
    ClipReply,
    PictureReply,
    RunReply,
    StatusReply,
    clip_reply,
    picture_reply,
    run_reply,
)
from pipelines.serve.runs import Ability, Facts, ServedRun, list_runs
from pipelines.serve.session import Answer, Session, StoredClip, StoredPicture
from pipelines.serve.uploads import Refused, to_png

LINES = "application/x-ndjson"
FILE_TYPES = {
    ".mp4": "video/mp4",
    ".gif": "image/gif",
    ".png": "image/png",
    ".json": "application/json",
}
FileName = Annotated[str, Header(max_length=600, description="percent-encoded, for people")]
AnswerFile = Annotated[
    str,
    PathParameter(pattern=r"^((answer(-s\d{1,2})?|grid)\.(mp4|gif|png)|arrow\.png|meta\.json)$"),
]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "lines of JSON: start, frames, done"},
    404: {"description": "no such run, picture or clip"},
    422: {"description": "the question makes no sense"},
    429: {"description": "too many questions are waiting"},
}

_NO_PICTURE: dict[int | str, dict[str, Any]] = {404: {"description": "no such picture or clip"}}


class Lines(StreamingResponse):
    """Lines of JSON as they come."""

    media_type = LINES


class Png(FileResponse):
    """A file that is a PNG."""

    media_type = "image/png"


class Gif(FileResponse):
    """A file that is a gif."""

    media_type = "image/gif"


Kept = TypeVar("Kept", StoredPicture, StoredClip)


class Desk:
    """What the routes work with."""

    def __init__(
        self, request: ServeRequest, session: Session, engine: Engine, limits: Limits
    ) -> None:
        self.request, self.session, self.engine, self.limits = request, session, engine, limits
        self.uploads_now = 0
        self.checking = asyncio.Semaphore(1)  # one picture is unpacked at a time

    def runs(self) -> list[ServedRun]:
        """The runs there are now."""
        return list_runs(self.request.runs, self.request.runs_root)

    def run(self, name: str, ability: Ability | None = None) -> ServedRun:
        """A run by its name. Raises Refused: 404 for none, 422 when it cannot do that."""
        for each in self.runs():
            if each.name == name:
                if ability and ability not in each.facts.can:
                    raise Refused(422, f"the run '{name}' cannot {ability}")
                return each
        raise Refused(404, "there is no such run: GET /api/runs lists them")

    def picture(self, id_: str) -> StoredPicture:
        """A picture by its id, a generated one too. Raises Refused (404)."""
        example = examples.named(id_)
        return self.session.add_example(example) if example else self.session.picture(id_)

    def clip(self, id_: str) -> StoredClip:
        """A clip by its id, a generated one too. Raises Refused (404)."""
        example = examples.clip_named(id_)
        return self.session.add_example_clip(example) if example else self.session.clip(id_)


def routes(desk: Desk) -> APIRouter:
    """All endpoints."""
    # The guard has looked at the token long before; this only says so in the description.
    bearer = HTTPBearer(auto_error=False, description="the token of the printed address")
    router = APIRouter(prefix="/api", dependencies=[Security(bearer)])
    _add_lists(router, desk)
    _add_uploads(router, desk)
    _add_questions(router, desk)
    _add_answers(router, desk)
    return router


def _add_lists(router: APIRouter, desk: Desk) -> None:
    @router.get("/status", summary="Is the server there, and where does it keep things?")
    async def status() -> StatusReply:
        return StatusReply(
            session=str(desk.session.folder),
            is_idle=desk.engine.is_idle,
            answers=desk.session.num_answers,
        )

    @router.get("/runs", summary="The models that can be asked, and what")
    async def runs() -> list[RunReply]:
        return [run_reply(each) for each in await asyncio.to_thread(desk.runs)]

    @router.post(
        "/warm",
        summary="Load a model, so that its first answer comes quickly",
        responses=_STREAM,
        response_class=Lines,
    )
    async def warm(question: Question) -> Lines:
        run = desk.run(question.run)
        ticket = desk.engine.ask(_put("warm", run, {}), question.slot)
        return _streamed(desk, ticket, "warm", keep=False)

    @router.get("/examples", summary="Generated pictures that fit a run")
    async def shown_examples(run: str) -> list[PictureReply]:
        facts = desk.run(run).facts
        offered = examples.offered(facts)
        pictures = [await asyncio.to_thread(desk.session.add_example, each) for each in offered]
        ends = [_end_of(each, facts) for each in offered]
        return [picture_reply(each, end=end) for each, end in zip(pictures, ends, strict=True)]

    @router.get("/clips", summary="Generated clips whose motion a run can take")
    async def shown_clips(run: str) -> list[ClipReply]:
        offered = examples.offered_clips(desk.run(run, "transfer").facts)
        take = desk.session.add_example_clip
        return [clip_reply(await asyncio.to_thread(take, each)) for each in offered]


def _add_uploads(router: APIRouter, desk: Desk) -> None:
    body = {"requestBody": {"content": {"application/octet-stream": {}}, "required": True}}
    refusals: dict[int | str, dict[str, Any]] = {
        408: {"description": "the body came too slowly"},
        413: {"description": "too many bytes or pixels"},
        415: {"description": "no picture or clip that is taken"},
        422: {"description": "damaged, or two kinds of file at once"},
        507: {"description": "the session is full"},
    }

    @router.post(
        "/pictures",
        summary="Send a picture",
        openapi_extra=body,
        status_code=201,
        responses=refusals,
    )
    async def picture(request: Request, x_name: FileName = "picture") -> PictureReply:
        limit = desk.limits.image_bytes
        return picture_reply(
            await _received(desk, request, x_name, limit, desk.session.add_picture)
        )

    @router.post(
        "/clips", summary="Send a clip", openapi_extra=body, status_code=201, responses=refusals
    )
    async def clip(request: Request, x_name: FileName = "clip") -> ClipReply:
        limit = desk.limits.clip_bytes
        return clip_reply(await _received(desk, request, x_name, limit, desk.session.add_clip))

    @router.get(
        "/pictures/{id}",
        summary="A picture, at most 1024 pixels wide and high",
        responses={200: {"description": "the picture"}, **_NO_PICTURE},
        response_class=Png,
    )
    async def picture_preview(id: str) -> Png:
        found = await asyncio.to_thread(desk.picture, id)
        return Png(found.preview_path)

    @router.get(
        "/clips/{id}",
        summary="The first frame of a clip",
        responses={200: {"description": "the frame"}, **_NO_PICTURE},
        response_class=Png,
    )
    async def clip_preview(id: str) -> Png:
        found = await asyncio.to_thread(desk.clip, id)
        return Png(found.preview_path)

    @router.get(
        "/clips/{id}/film",
        summary="A generated clip as a gif",
        responses={200: {"description": "the clip"}, **_NO_PICTURE},
        response_class=Gif,
    )
    async def clip_film(id: str) -> Gif:
        found = await asyncio.to_thread(desk.clip, id)
        if not found.is_generated:
            raise Refused(404, "only generated clips are given out")
        return Gif(found.path)


def _add_questions(router: APIRouter, desk: Desk) -> None:
    def ask(kind: Ability, question: Question, **paths: Path) -> Lines:
        run = desk.run(question.run, kind)
        fields = question.model_dump(mode="json", exclude={"run", "slot", *paths})
        files = {name: str(path) for name, path in paths.items()}
        ticket = desk.engine.ask(_put(kind, run, fields | files), question.slot)
        return _streamed(desk, ticket, kind)

    @router.post(
        "/poke",
        summary="How does a picture answer arrows?",
        responses=_STREAM,
        response_class=Lines,
    )
    async def poke(question: PokeQuestion) -> Lines:
        if question.directions and len(question.arrows) > 1:
            raise Refused(422, "directions turn one arrow: give one")
        picture = desk.picture(question.image)
        for arrow in question.arrows:
            _refuse_long(arrow, picture)
        return ask("poke", question, image=picture.path)

    @router.post(
        "/truth",
        summary="How does a generated plant really answer?",
        responses=_STREAM,
        response_class=Lines,
    )
    async def truth(question: TruthQuestion) -> Lines:
        picture = desk.picture(question.image)
        if picture.example is None:
            raise Refused(422, "only generated pictures have a true answer")
        _refuse_long(question.arrow, picture)
        facts = desk.run(question.run, "poke").facts
        num_frames = question.frames or facts.num_frames
        frames = await asyncio.to_thread(
            lambda: list(
                examples.true_answer(picture.example, question.arrow, facts, num_frames)  # type: ignore[arg-type]
            )
        )
        lines: list[Message] = [
            {
                "type": "start", "answer": "", "videos": 1, "frames": num_frames,
                "width": facts.size_px, "height": facts.size_px, "fps": facts.fps,
                "start": _text(picture.preview_path.read_bytes()),
                "box": (0, 0, 1, 1), "command": "",
            },
            *(
                {"type": "frame", "video": 0, "index": index, "png": _text(to_png(frame))}
                for index, frame in enumerate(frames)
            ),
            {"type": "done"},
        ]  # fmt: skip
        return Lines(iter([_line(each) for each in lines]))

    @router.post(
        "/sample", summary="What may become of a picture?", responses=_STREAM, response_class=Lines
    )
    async def sample(question: SampleQuestion) -> Lines:
        has_endpoint = desk.run(question.run, "sample").facts.has_endpoint
        if has_endpoint != (question.endpoint is not None):
            needs = "must be told" if has_endpoint else "cannot be told"
            raise Refused(422, f"this model {needs} where the arm shall end")
        return ask("sample", question, image=desk.picture(question.image).path)

    @router.post(
        "/transfer",
        summary="Move a picture the way a clip moves",
        responses=_STREAM,
        response_class=Lines,
    )
    async def transfer(question: TransferQuestion) -> Lines:
        if question.relative and not desk.run(question.run, "transfer").facts.has_keypoints:
            raise Refused(422, "this model moves no keypoints: nothing in it can be relative")
        image = await asyncio.to_thread(desk.picture, question.image)
        clip = await asyncio.to_thread(desk.clip, question.clip)
        return ask("transfer", question, image=image.path, clip=clip.path)

    @router.post(
        "/between",
        summary="What lies between two pictures?",
        responses=_STREAM,
        response_class=Lines,
    )
    async def between(question: BetweenQuestion) -> Lines:
        start, end = desk.picture(question.start), desk.picture(question.end)
        if (start.width, start.height) != (end.width, end.height):
            raise Refused(
                422,
                f"start and end have different sizes, {_size(start)} and {_size(end)}:"
                " crop them to one size",
            )
        return ask("between", question, start=start.path, end=end.path)


def _add_answers(router: APIRouter, desk: Desk) -> None:
    @router.get(
        "/answers/{id}/{name}",
        summary="A file of an answer",
        response_model=None,
        response_class=FileResponse,
        responses={
            200: {"description": "mp4, gif, png or json"},
            404: {"description": "no such answer or file"},
        },
    )
    async def answer_file(id: str, name: AnswerFile) -> FileResponse:
        folder = await asyncio.to_thread(desk.session.answer_folder, id)
        path = folder / name
        if not path.is_file():
            raise Refused(404, "this answer has no such file")
        return FileResponse(
            path, media_type=FILE_TYPES[path.suffix], filename=f"{folder.name}-{name}"
        )


def refusal(problem: Refused) -> JSONResponse:
    """The answer to a request that is not carried out."""
    headers = {"retry-after": "1"} if problem.status == 429 else {}
    if problem.status in (408, 413):
        headers["connection"] = "close"  # what is left of the body is not read
    body = {"error": {"message": problem.message, "details": {}}}
    return JSONResponse(body, status_code=problem.status, headers=headers)


async def _received(
    desk: Desk,
    request: Request,
    name: str,
    most_bytes: int,
    take: Callable[[Path, str], Kept],
) -> Kept:
    """Read a body into a file and take it in."""
    if desk.uploads_now >= desk.limits.uploads_at_once:
        raise Refused(429, "too many uploads at once: try again in a moment")
    desk.uploads_now += 1
    try:
        with desk.session.incoming() as path:
            try:
                async with asyncio.timeout(desk.limits.upload_s):
                    await _write_body(request, path, most_bytes)
            except TimeoutError:
                raise Refused(408, "the body came too slowly") from None
            async with desk.checking:
                return await asyncio.to_thread(take, path, unquote(name)[:200])
    finally:
        desk.uploads_now -= 1


async def _write_body(request: Request, path: Path, most_bytes: int) -> None:
    length = 0
    with path.open("wb") as stream:
        async for chunk in request.stream():
            length += len(chunk)
            if length > most_bytes:
                raise Refused(413, f"the file is too large: {most_bytes // 1_000_000} MB are taken")
            stream.write(chunk)
    if length == 0:
        raise Refused(422, "the file is empty")


def _refuse_long(arrow: Arrow, picture: StoredPicture) -> None:
    length = math.hypot(arrow.dx * picture.width, arrow.dy * picture.height)
    if length > math.hypot(picture.width, picture.height):
        raise Refused(422, "an arrow is longer than the picture")


def _put(kind: str, run: ServedRun, fields: Mapping[str, Any]) -> Message:
    return {"kind": kind, "run": str(run.path), "family": run.family, **fields}


def _streamed(desk: Desk, ticket: Ticket, what: str, *, keep: bool = True) -> Lines:
    return Lines(_lines(desk, ticket, what, keep))


async def _lines(desk: Desk, ticket: Ticket, what: str, keep: bool) -> AsyncIterator[bytes]:
    """What the model says, as lines; what it has said to the end is kept."""
    id_ = secrets.token_hex(8)
    start: Message = {}
    videos: list[list[bytes]] = []
    try:
        async for message in ticket:
            kind = message["type"]
            shown = {name: value for name, value in message.items() if name != "number"}
            if kind == "start":
                start = message
                videos = [[] for _ in range(message["videos"])]
                shown = _shown_start(message) | {"answer": id_}
            elif kind == "frame":
                videos[message["video"]].append(message["png"])
                shown["png"] = _text(message["png"])
            elif kind == "done" and keep:
                desk.session.keep(_answer(id_, what, start, videos))
            yield _line(shown)
    finally:
        with contextlib.suppress(RuntimeError):
            desk.engine.give_up(ticket)


def _shown_start(message: Message) -> Message:
    hidden = ("number", "meta", "arrow")
    shown = {name: value for name, value in message.items() if name not in hidden}
    return shown | {
        "start": _text(message["start"]),
        "has_arrow": message["arrow"] is not None,
        "command": message["meta"]["command"],
    }


def _answer(id_: str, what: str, start: Message, videos: list[list[bytes]]) -> Answer:
    return Answer(
        id=id_,
        what=what,
        videos=tuple(tuple(each) for each in videos),
        start=start["start"],
        arrow=start["arrow"],
        fps=start["fps"],
        meta=start["meta"],
    )


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _end_of(example: Example, facts: Facts) -> str | None:
    """Id of the picture that a generated one becomes, for a model that fills in between."""
    if facts.end_after is None or example.frame:
        return None
    return replace(example, frame=facts.end_after).id


def _size(picture: StoredPicture) -> str:
    return f"{picture.width} x {picture.height}"
