"""Requests over a control channel: who answers which method, what is pending, what was nonsense.

    requests = Requests(send, on_nonsense=...)
    requests.register({"scene.clear": handler})
    requests.receive(text)          as messages come; answers leave by ``send`` when they are there
    await requests.close()          pending ones are broken off, nothing is answered any more

A method's handler gets the message, converts its parameters itself and returns the result or raises
:class:`FarframeError`. Requests are worked on at the same time. Everything here runs in the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from farframe.protocol import messages
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import Incoming, Message
from farframe.server.frame_loop import microseconds

log = structlog.get_logger("farframe.connection")

MAX_PENDING_REQUESTS = 64
MAX_BAD_MESSAGES = 200
"""Malformed messages and records after which a device is sent away: it speaks something else."""

FIRST_METHOD = "connection.open"
"""What a device must ask first."""

Handler = Callable[[Incoming], Awaitable[Message | None]]


def _unknown(method: str) -> FarframeError:
    return FarframeError(Result.NOT_SUPPORTED, f"There is no method {method[:80]!r}.")


class Requests:
    """One device's control channel. ``send`` takes a message for it, ``on_nonsense`` ends the connection."""

    def __init__(self, send: Callable[[str], None], *, on_nonsense: Callable[[FarframeError], None]) -> None:
        self._send = send
        self._on_nonsense = on_nonsense
        self._methods: dict[str, Handler] = {}
        self._before_opening = {FIRST_METHOD}
        self._pending: dict[int | str, asyncio.Task[None]] = {}
        self._bad_messages = 0
        self._closed = False
        self.otherwise: Callable[[str], FarframeError] = _unknown
        """What a method that is not registered is answered."""
        self.opened = False
        """Whether ``connection.open`` was answered; set by its handler."""

    def register(self, methods: Mapping[str, Handler], *, before_opening: bool = False) -> None:
        """Have ``methods`` answered, with ``before_opening`` also before ``connection.open``."""
        self._methods.update(methods)
        if before_opening:
            self._before_opening |= methods.keys()

    def receive(self, text: str) -> None:
        """Take a message from the device."""
        if self._closed:
            return
        try:
            message = messages.decode(text)
        except FarframeError as error:
            self.bad(error)
            self._send(messages.encode_error(None, error))
            return
        if message.method is None:
            return  # an answer; this server asks nothing
        if message.method == "$/cancelRequest":
            self._cancel(message)
            return
        if message.id is None:
            return  # an unknown notification is ignored, as JSON-RPC says
        if message.id in self._pending:
            taken = FarframeError(Result.INVALID_PARAM, f"The request id {message.id!r} is still in use.")
            self._send(messages.encode_error(message.id, taken))
            return
        if len(self._pending) >= MAX_PENDING_REQUESTS:
            busy = FarframeError(
                Result.IN_PROGRESS,
                f"{MAX_PENDING_REQUESTS} requests are already being worked on.",
                next_step="Wait for answers before asking more.",
            )
            self._send(messages.encode_error(message.id, busy))
            return
        answering = asyncio.create_task(self._answer(message, message.id), name=f"request-{message.method[:80]}")
        self._pending[message.id] = answering

    def bad(self, error: FarframeError) -> None:
        """Count something that is not of this protocol; a device that goes on with it is sent away."""
        self._bad_messages += 1
        if self._bad_messages == MAX_BAD_MESSAGES:
            log.warning("device.bad_messages", count=self._bad_messages, last=error.message)
            self._on_nonsense(error)

    async def close(self) -> None:
        """Break off what is pending and wait until it has ended. The task that calls this is left alone."""
        self._closed = True
        current = asyncio.current_task()
        pending = [task for task in self._pending.values() if task is not current]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _answer(self, message: Incoming, identifier: int | str) -> None:
        method = message.method or ""
        try:
            handler = self._methods.get(method)
            if handler is None:
                raise self.otherwise(method)
            if not self.opened and method not in self._before_opening:
                raise FarframeError(
                    Result.PROTOCOL_ERROR, f"{method} came before {FIRST_METHOD}.", next_step="Call that first."
                )
            result = await handler(message)
            answer = messages.encode_result(identifier, result, answered_us=microseconds())
        except FarframeError as error:
            if error.result is Result.PROTOCOL_ERROR:
                self.bad(error)
            log.info("request.refused", method=method[:80], result=str(error.result), message=error.message)
            answer = messages.encode_error(identifier, error)
        except asyncio.CancelledError:
            if self._closed:
                raise
            answer = messages.encode_error(identifier, FarframeError(Result.CANCELLED, "The request was cancelled."))
        except Exception:
            log.error("request.failed", method=method[:80], exc_info=True)
            failure = FarframeError(
                Result.FAIL, "Something went wrong in the server.", next_step="See the server's log."
            )
            answer = messages.encode_error(identifier, failure)
        finally:
            self._pending.pop(identifier, None)
        self._send(answer)

    def _cancel(self, message: Incoming) -> None:
        try:
            params = messages.convert_params(message.params, messages.CancelParams)
        except FarframeError as error:
            self.bad(error)
            return
        task = self._pending.get(params.id)
        if task is not None:
            task.cancel()
