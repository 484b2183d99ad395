"""`i2v serve`: the application, and its life from the first line to Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import mimetypes
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines.events import EXIT_USAGE, Interrupted, UserError, Work
from pipelines.serve.api import Desk, refusal, routes
from pipelines.serve.config import Limits, ServeRequest
from pipelines.serve.engine import Engine
from pipelines.serve.security import OPEN_API_PATH, Guard
from pipelines.serve.session import Session
from pipelines.serve.uploads import Refused

FIRST_PORT, NUM_PORTS = 8765, 20
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
_STATIC_DIR = Path(__file__).parent / "static"
_WRITE_AFTER_S = 1.0
_STOP_S = 5.0
_MMAP_THRESHOLD, _LARGE_BYTES = -3, 1 << 20  # the first is glibc's name for what it sets


def serve(request: ServeRequest, work: Work) -> dict[str, Any]:
    """Serve the page until asked to stop. The address, with its token, is told but not recorded."""
    _give_large_memory_back()
    limits = Limits()
    listener = _listen(request)
    port = listener.getsockname()[1]
    session = Session(request.session_dir, limits)
    token = secrets.token_urlsafe(32)
    desk = Desk(request, session, Engine(limits, request.device), limits)
    server = make_server(make_app(desk, token=token), limits)
    thread = threading.Thread(target=server.run, args=([listener],), name="server", daemon=True)
    try:
        thread.start()
        work.log(f"answers are kept in {request.session_dir}")
        for host in _shown_hosts(request):
            work.address(f"http://{host}:{port}/#token={token}")
        thread.join()
        raise UserError("the server has ended by itself", {"to fix": "see its log"})
    except (Interrupted, KeyboardInterrupt):
        server.should_exit = True
        thread.join(_STOP_S)
    finally:
        session.close()
    return {"session": str(request.session_dir), "answers": session.num_answers}


def _give_large_memory_back() -> None:
    """Let what large pictures needed go back to the system at once, not only to this process.

    Without it the memory of a server that was sent photographs stays 80 MB higher. Other C
    libraries do so by themselves.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)


def make_app(desk: Desk, *, token: str) -> Guard:
    """The application with its guard; it starts and ends the model process with itself."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        _warm_first(desk)
        writer = asyncio.create_task(_write_when_idle(desk))
        yield
        writer.cancel()
        desk.engine.close()

    app = FastAPI(
        title="i2v serve",
        description="Ask trained models to move still pictures. Every request but the one for this"
        " description carries the header `Authorization: Bearer TOKEN`.",
        version="1",
        openapi_url=OPEN_API_PATH,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(routes(desk))
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _not_there)
    _add_page(app)
    request = desk.request
    names = {"localhost", LOOPBACK, "::1", *request.host_names}
    if request.allow_remote:
        names |= {socket.gethostname(), socket.getfqdn()}
    return Guard(
        app,
        token=token,
        hosts=names,
        limits=desk.limits,
        any_address=request.allow_remote,
    )


def make_server(app: Guard, limits: Limits) -> uvicorn.Server:
    """uvicorn as this page needs it: no log of requests, bounded connections."""
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=16 * 1024,
    )
    # Whatever the host program does with its loggers: addresses are nobody's business.
    logging.getLogger("uvicorn.access").disabled = True
    return uvicorn.Server(config)


def _protocol(limits: Limits) -> type[H11Protocol]:
    class BoundedProtocol(H11Protocol):
        """Refuses connections beyond a number, and those that take their time to ask."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.close()
                return
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(limits.header_s, self._close_silent, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            with contextlib.suppress(AttributeError):
                self._patience.cancel()
            super().connection_lost(exc)

        def _close_silent(self, transport: Any) -> None:
            if self.scope is None:  # no request so far
                transport.close()

    return BoundedProtocol


def _listen(request: ServeRequest) -> socket.socket:
    host = EVERYWHERE if request.allow_remote else LOOPBACK
    ports = range(FIRST_PORT, FIRST_PORT + NUM_PORTS) if request.port is None else [request.port]
    for port in ports:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(256)
        except OSError as problem:
            listener.close()
            reason = problem.strerror
        else:
            listener.setblocking(False)
            return listener
    raise UserError(
        f"cannot listen on port {ports[0]}"
        if len(ports) == 1
        else f"no free port from {ports[0]} to {ports[-1]}",
        {"reason": reason, "to fix": "give another --port, or 0 for any that is free"},
        EXIT_USAGE,
    )


def _shown_hosts(request: ServeRequest) -> list[str]:
    if not request.allow_remote:
        return [LOOPBACK]
    return [LOOPBACK, *(request.host_names or (socket.gethostname(),))]


def _warm_first(desk: Desk) -> None:
    """Load the first model before anybody asks."""
    if runs := desk.runs():
        run = runs[0]
        desk.engine.ask({"kind": "warm", "run": str(run.path), "family": run.family}, "warm")


async def _write_when_idle(desk: Desk) -> None:
    """Write answers to disk when the processor has nothing better to do."""
    while True:
        await asyncio.sleep(_WRITE_AFTER_S)
        if desk.engine.is_idle and desk.session.has_unwritten:
            await asyncio.to_thread(desk.session.write_answers)


def _add_page(app: FastAPI) -> None:
    for name, path in _static_files().items():
        content = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        for url in (f"/{name}", "/") if name == "index.html" else (f"/{name}",):
            give = _giver(content, kind)
            app.add_api_route(url, give, methods=["GET", "HEAD"], include_in_schema=False)


def _static_files() -> dict[str, Path]:
    """Name in the address -> file; nothing else is ever read for a request."""
    return {
        path.relative_to(_STATIC_DIR).as_posix(): path
        for path in sorted(_STATIC_DIR.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def _giver(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def give() -> Response:
        return Response(content, media_type=kind)

    return give


async def _refused(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, Refused)
    return refusal(problem)


async def _not_there(request: Request, problem: Exception) -> JSONResponse:
    """No such address, or not in this way."""
    assert isinstance(problem, HTTPException)
    return refusal(Refused(problem.status_code, str(problem.detail).lower()))


async def _not_understood(request: Request, problem: Exception) -> JSONResponse:
    """What did not fit, without repeating what was sent."""
    assert isinstance(problem, RequestValidationError)
    first = problem.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return refusal(Refused(422, f"{where or 'the question'}: {first['msg']}"))
