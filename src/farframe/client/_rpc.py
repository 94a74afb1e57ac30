"""Calls over the control channel: JSON-RPC 2.0 ids, answers, cancellation. No I/O: sending is a function given.

Here, and only here, the errors of the other side become this package's errors.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from farframe.client.errors import FarframeClientError, RequestError, RequestTimeoutError, RuntimeConnectionError
from farframe.protocol import messages
from farframe.protocol.errors import FarframeError, Result
from farframe.protocol.messages import CancelParams, Incoming, Message

T = TypeVar("T", bound=Message)

MAX_ABANDONED = 256


@dataclass(slots=True)
class _Pending:
    method: str
    answer: asyncio.Future[msgspec.Raw]


class Caller:
    """The device's side of the control channel."""

    def __init__(self, send: Callable[[str], None], on_notification: Callable[[str, msgspec.Raw], None]) -> None:
        self._send = send
        self._on_notification = on_notification
        self._next_id = 1
        self._pending: dict[int, _Pending] = {}
        self._abandoned: dict[int, Callable[[msgspec.Raw], None]] = {}
        self._ended: RuntimeConnectionError | None = None
        self.answered_us: int | None = None
        """The server's clock when it gave the newest of its results: what is drawn from then on shows what was done."""
        self.bad_messages = 0
        """Messages that were not of this protocol and were passed over."""

    async def call(
        self,
        method: str,
        params: Message | None,
        kind: type[T],
        *,
        timeout: float | None,
        on_late_result: Callable[[T], None] | None = None,
    ) -> T:
        """Send a request and wait for its answer, at most ``timeout`` seconds.

        When the caller is cancelled or the time is up, the request is cancelled at the server; should it have been
        done nevertheless, ``on_late_result`` gets its result. Raises RequestError, RequestTimeoutError, or why the
        connection ended.
        """
        if self._ended is not None:
            raise self._ended.again()
        identifier = self._next_id
        self._next_id += 1
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._pending[identifier] = _Pending(method, answer)
        try:
            self._send(messages.encode_request(identifier, method, params))
            async with asyncio.timeout(timeout):
                raw = await answer
        except TimeoutError:
            self._abandon(identifier, kind, on_late_result)
            raise RequestTimeoutError(
                Result.FAIL,
                f"The render server did not answer {method} within {timeout:g} seconds.",
                next_step="Try again, or connect anew.",
            ) from None
        except asyncio.CancelledError:
            if not answer.done() or answer.cancelled():
                self._abandon(identifier, kind, on_late_result)
            elif answer.exception() is None and on_late_result is not None:
                on_late_result(_result(answer.result(), kind, method))
            raise
        finally:
            self._pending.pop(identifier, None)
        return _result(raw, kind, method)

    def _abandon(self, identifier: int, kind: type[T], on_late_result: Callable[[T], None] | None) -> None:
        if self._ended is not None:
            return
        if on_late_result is not None and len(self._abandoned) < MAX_ABANDONED:
            wanted = on_late_result
            self._abandoned[identifier] = lambda raw: wanted(_result(raw, kind, "a cancelled request"))
        # Where the connection has just broken there is nothing left to cancel.
        with contextlib.suppress(RuntimeConnectionError):
            self._send(messages.encode_notification("$/cancelRequest", CancelParams(id=identifier)))

    def receive(self, text: str | bytes) -> None:
        """Take a message from the server. What is not of this protocol is counted and passed over."""
        try:
            message = messages.decode(text)
            if message.method is not None:
                self._on_notification(message.method, message.params)
            elif isinstance(message.id, int):
                if message.answered_us is not None:
                    self.answered_us = max(message.answered_us, self.answered_us or 0)
                self._answer(message, message.id)
        except (FarframeError, FarframeClientError):
            self.bad_messages += 1

    def _answer(self, message: Incoming, identifier: int) -> None:
        late = self._abandoned.pop(identifier, None)
        if late is not None and isinstance(message.result, msgspec.Raw):
            late(message.result)
            return
        pending = self._pending.get(identifier)
        if pending is None or pending.answer.done():
            return
        if message.error is not None:
            error = messages.to_error(message.error)
            pending.answer.set_exception(RequestError(error.result, error.message, next_step=error.next_step))
        elif isinstance(message.result, msgspec.Raw):
            pending.answer.set_result(message.result)
        else:
            self.bad_messages += 1

    def end(self, error: RuntimeConnectionError) -> None:
        """Let all calls, waiting ones and later ones, raise ``error``. The first reason stays."""
        if self._ended is not None:
            return
        self._ended = error
        self._abandoned.clear()
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(error.again())


def _result(raw: msgspec.Raw, kind: type[T], method: str) -> T:
    try:
        return messages.convert_params(raw, kind)
    except FarframeError as error:
        raise RequestError(
            Result.PROTOCOL_ERROR,
            f"The render server's answer to {method} cannot be read: {error.message}",
            next_step="Check that service and client have the same version.",
        ) from error
