"""The server's side of the model process: a short queue, and a new process when one dies.

Everything here happens in the server's event loop; only the pipe is read by a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from pipelines.serve import model_process
from pipelines.serve.config import Limits
from pipelines.serve.uploads import Refused

Message = dict[str, Any]

_LAST_WORDS = frozenset({"done", "error", "cancelled"})
_DIED = {
    "type": "error",
    "message": "the model process has ended",
    "details": {"to fix": "ask again: it is started anew", "most likely": "memory ran out"},
}
_SILENT = {
    "type": "error",
    "message": "the model gave no sign of life and was ended",
    "details": {"to fix": "ask for fewer frames, or choose a smaller model"},
}


@dataclass(eq=False)
class Ticket:
    """A question on its way. Iterate over it for what the model says; the last is a last word."""

    question: Message
    slot: str
    number: int
    _heard: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    is_over: bool = False

    async def __aiter__(self) -> AsyncIterator[Message]:
        """What the model says, as it comes."""
        while True:
            message = await self._heard.get()
            yield message
            if message["type"] in _LAST_WORDS:
                return

    def hear(self, message: Message) -> None:
        """Take in a message; nothing after the last word."""
        if not self.is_over:
            self.is_over = message["type"] in _LAST_WORDS
            self._heard.put_nowait(message)


class Engine:
    """Asks one model process, one question at a time."""

    def __init__(self, limits: Limits, device: str) -> None:
        self._limits, self._device = limits, device
        self._waiting: deque[Ticket] = deque()
        self._running: Ticket | None = None
        self._numbers = itertools.count(1)
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._farewell = _DIED

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked at the moment."""
        return self._running is None and not self._waiting

    @property
    def process_id(self) -> int | None:
        """Of the model process, None while there is none."""
        return self._process.pid if self._process else None

    def ask(self, question: Message, slot: str) -> Ticket:
        """Put a question. An older one of the same slot, unless it is empty, is given up.

        Raises Refused (429) when too many are waiting.
        """
        if slot:
            for each in [self._running, *self._waiting]:
                if each and each.slot == slot:
                    self.give_up(each)
        if len(self._waiting) >= self._limits.waiting:
            raise Refused(429, "the model is busy with other questions: try again in a moment")
        number = next(self._numbers)
        ticket = Ticket({**question, "number": number}, slot, number)
        self._waiting.append(ticket)
        self._next()
        return ticket

    def give_up(self, ticket: Ticket) -> None:
        """Nobody waits for this answer any more."""
        if ticket is self._running and not ticket.is_over:
            self._send({"cancel": ticket.number})
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
        ticket.hear({"type": "cancelled"})

    def close(self) -> None:
        """End the model process; what was asked is not answered."""
        for each in [self._running, *self._waiting]:
            if each:
                self.give_up(each)
        self._waiting.clear()
        process = self._process
        self._forget_process()
        if process:
            process.kill()
            process.join()

    def _next(self) -> None:
        if self._running is not None or not self._waiting:
            return
        self._running = self._waiting.popleft()
        if self._process is None:
            self._start()
        self._rewind_watch()
        self._send(self._running.question)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._farewell = _DIED
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=model_process.run, args=(theirs, self._device), name="model", daemon=True
        )
        self._process.start()
        theirs.close()
        arguments = (self._process, self._pipe, asyncio.get_running_loop())
        threading.Thread(target=self._listen, args=arguments, daemon=True).start()

    def _listen(
        self, process: BaseProcess, pipe: Connection, loop: asyncio.AbstractEventLoop
    ) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
            try:
                while True:
                    loop.call_soon_threadsafe(self._heard, process, pipe.recv())
            except (EOFError, OSError):
                pipe.close()
                loop.call_soon_threadsafe(self._died, process)

    def _heard(self, process: BaseProcess, message: Message) -> None:
        ticket = self._running
        if process is not self._process or ticket is None or message["number"] != ticket.number:
            return
        self._rewind_watch()
        ticket.hear(message)
        if message["type"] in _LAST_WORDS:
            self._running = None
            self._next()
        if self._running is None and self._watch:
            self._watch.cancel()

    def _died(self, process: BaseProcess) -> None:
        if process is not self._process:
            return
        farewell, ticket = self._farewell, self._running
        self._forget_process()
        process.join()
        self._running = None
        if ticket:
            ticket.hear(dict(farewell))
        self._next()

    def _forget_process(self) -> None:
        if self._watch:
            self._watch.cancel()
        self._process = self._pipe = None  # the thread that reads the pipe closes it

    def _send(self, message: Message) -> None:
        # If the process has just died, _died will answer for it.
        with contextlib.suppress(OSError):
            if self._pipe:
                self._pipe.send(message)

    def _rewind_watch(self) -> None:
        if self._watch:
            self._watch.cancel()
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(self._limits.silence_s, self._lose_patience)

    def _lose_patience(self) -> None:
        if self._process and self._running:
            self._farewell = _SILENT
            self._process.kill()
