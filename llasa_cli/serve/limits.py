"""The limits of a server: the size of requests, the time that a client may take to send and read, the origins of web pages.

    app.add_middleware(RequestLimits, settings=ServerSettings(hosts=("localhost", "127.0.0.1")))
    uvicorn.Config(app, http=TimedProtocol)

A page of another site that is open in the user's browser can send requests to servers on the same machine. So a request with
the header `Origin` must come from the server's own page or from an allowed origin, and without a key `Host` must name this
machine (otherwise a site whose name is made to resolve to 127.0.0.1 could read the answers).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from llasa_cli.serve.api_errors import ApiError

MAX_CLIP_BYTES = 20_000_000
HEADER_TIMEOUT_S = 30.0
"""The time that a client may take to send the head of a request."""
BODY_TIMEOUT_S = 30.0
"""The longest silence within the body of a request, and the time for each megabyte of it after the first two."""
SEND_TIMEOUT_S = 300.0
"""A client that reads nothing for this time is disconnected: a player may pause a stream, but not hold a slot forever."""


@dataclass(frozen=True)
class ServerSettings:
    """The limits of the server, and its key.

    Attributes:
        api_key: Required as `Authorization: Bearer KEY`; None requires none.
        max_characters: The longest input.
        max_clip_bytes: The largest upload.
        hosts: The values of `Host` that are answered; None answers all.
        origins: Web pages of other origins that may use the server (CORS); "*" allows all.
    """

    api_key: str | None = None
    max_characters: int = 100_000
    max_clip_bytes: int = MAX_CLIP_BYTES
    hosts: tuple[str, ...] | None = None
    origins: tuple[str, ...] = ()

    @property
    def max_body_bytes(self) -> int:
        """The largest request: a clip in base64, or a text in JSON with each character escaped."""
        return max(self.max_clip_bytes * 4 // 3, 12 * self.max_characters) + 1_000_000


class Truncated(Exception):
    """The response has begun and can't be completed: the connection is closed without the end of the body."""


class RequestLimits:
    """See the module. Larger bodies than the settings allow are refused with status 413."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._max_body_bytes = app, settings.max_body_bytes
        self._hosts, self._origins = settings.hosts, settings.origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        problem = self._problem(headers)
        if problem is not None:
            await _error(403, problem)(scope, receive, send)
            return
        if int(headers.get(b"content-length") or 0) > self._max_body_bytes:
            await _error(413, _too_large(self._max_body_bytes))(scope, receive, send)
            return
        body = _Body(receive, send, self._max_body_bytes)
        with suppress(Truncated):  # uvicorn closes the connection of an incomplete response
            await self._app(scope, body.receive, body.send)

    def _problem(self, headers: dict[bytes, str]) -> str | None:
        host = headers.get(b"host", "")
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return "The header Host is not the name of a host."
        if self._hosts is not None and name not in self._hosts:
            return "The server does not answer to this host name. Use 127.0.0.1, a key (--api-key), or --no-auth."
        origin = headers.get(b"origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return None
        if origin.partition("://")[2] != host:
            return "Web pages of other origins may not use this server. Allow them with --cors-origin."
        return None


class _Body:
    """`receive` and `send` of one request, with limits: an HTTPException in `receive` becomes an error response."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self._receive, self._send, self._max_bytes = receive, send, max_bytes
        self._bytes = 0
        self._is_complete = False
        self._deadline = asyncio.get_running_loop().time() + 2 * BODY_TIMEOUT_S

    async def receive(self) -> Message:
        if self._is_complete:  # only the end of the connection can follow
            return await self._receive()
        extra_s = BODY_TIMEOUT_S * (self._bytes // 1_000_000)  # for each megabyte that has come
        left_s = self._deadline + extra_s - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(BODY_TIMEOUT_S, left_s)))
        except asyncio.TimeoutError:
            raise HTTPException(408, "The request was not completed in time.") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._max_bytes:
            raise HTTPException(413, _too_large(self._max_bytes))
        self._is_complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        await asyncio.wait_for(self._send(message), SEND_TIMEOUT_S)


def _too_large(most: int) -> str:
    return f"The request is larger than {most:,} bytes."


def _error(status: int, message: str) -> JSONResponse:
    response = ApiError(status, message).response()
    response.headers["Connection"] = "close"
    return response


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection on which no complete head of a request arrives in time."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_timer()

    def handle_events(self) -> None:
        super().handle_events()
        if self._is_busy() and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_busy():
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._close)

    def _close(self) -> None:
        self._head_timer = None
        if not self._is_busy() and not self.transport.is_closing():
            self.transport.close()
