"""The door: what every request passes before a route sees it, and what every answer gets on its way out.

    request id → is it a stop? → key → room → body, bounded in bytes and in time → the route

A body is read whole before its route runs, so that from then on silence of the client is normal and its hanging up is
seen: the route is cancelled, and what of its texts still waits for the model is dropped.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gristmill_schemas.validation import shown
from gristmill_worker.server.errors import Refused, answer, told
from gristmill_worker.server.live import page as live
from gristmill_worker.server.metrics import Metrics
from gristmill_worker.server.service import Phase, Service

#: What of a caller's own id is taken over: no line ends, nothing that a log would not show.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
#: Open to whoever asks: they say nothing of anybody's texts.
OPEN_PATHS: Final = frozenset({"/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", *live.PATHS})


#: The status of a request that got no answer, as nginx counts it: its client had gone.
_NONE: Final = 499


class Door:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp, service: Service, metrics: Metrics) -> None:
        self._app, self._service, self._metrics = app, service, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        out = _Out(send, _request_id(Headers(scope=scope)), partial(self._metrics.answered, scope["path"]))
        try:
            await self._let_in(scope, receive, out)
        except _HungUp:
            pass
        except Exception as error:  # noqa: BLE001  # the last place where it becomes an answer
            if out.status == _NONE:
                await answer(scope["path"], told(error))(scope, receive, out)
        finally:
            out.end()

    async def _let_in(self, scope: Scope, receive: Receive, out: _Out) -> None:
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, out)
            return
        headers = Headers(scope=scope)
        self._check_key(headers)
        self._check_open(out)
        with self._room():
            body = await self._body(headers, receive)
            await self._watched(scope, body, receive, out)

    def _check_key(self, headers: Headers) -> None:
        keys = self._service.keys
        if keys is None:
            return
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not keys.let_in(key.strip()):
            came = "none" if not kind else "another" if kind.lower() == "bearer" else f"one of kind {shown(kind, 20)}"
            raise Refused(
                401,
                f"expected one of this server's API keys in the header Authorization, after `Bearer`, got {came}; ask "
                "whoever runs this server for one",
                param="authorization",
                code="invalid_api_key",
            )

    def _check_open(self, out: _Out) -> None:
        if self._service.phase is Phase.STOPPING:
            out.close = True
            raise Refused(503, "this server is stopping; try another, or again later", retry_after_s=5)

    @contextmanager
    def _room(self) -> Iterator[None]:
        most = self._service.settings.serve_max_requests
        if self._service.requests >= most:
            raise Refused(
                429,
                f"expected at most {most} requests at once, got one more; try again later (GRISTMILL_SERVE_MAX_REQUESTS)",
                code="rate_limit_exceeded",
                retry_after_s=1,
            )
        self._service.requests += 1
        try:
            yield
        finally:
            self._service.requests -= 1

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        most = self._service.settings.serve_max_body_bytes
        declared = headers.get("content-length", "")
        if declared.isdecimal() and len(declared) < 20 and int(declared) > most:
            raise _too_large(most, declared)
        try:
            async with asyncio.timeout(self._service.settings.serve_read_timeout_s):
                return await _read(receive, most)
        except TimeoutError:
            waited = self._service.settings.serve_read_timeout_s
            raise Refused(408, f"body: expected all of it within {waited:g} s, got a part; send it faster") from None

    async def _watched(self, scope: Scope, body: bytes, receive: Receive, out: _Out) -> None:
        """Run the route, and end it if the client hangs up, or the time for a stop is over."""
        work = asyncio.ensure_future(self._app(scope, _replayed(body), out))
        ends = [asyncio.ensure_future(_hung_up(receive)), asyncio.ensure_future(self._service.over.wait())]
        try:
            await asyncio.wait({work, *ends}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (work, *ends):
                each.cancel()
            with suppress(asyncio.CancelledError):
                await work
        if self._service.over.is_set() and out.status == _NONE:
            raise Refused(503, "this server has stopped before the answer was there; try another, or again later")


class _Out:
    """The way out: names the request, and counts how it was answered, before the client can know."""

    def __init__(self, send: Send, request_id: str, answered: Callable[[int, float], None]) -> None:
        self._send, self._request_id, self._answered = send, request_id, answered
        self._began = time.perf_counter()
        self._ended = False
        #: As it was sent.
        self.status = _NONE
        #: Whether the connection ends with this answer.
        self.close = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request_id
            if self.close:
                headers["connection"] = "close"
        elif not message.get("more_body"):
            self.end()
        await self._send(message)

    def end(self) -> None:
        """Nothing more is answered."""
        if not self._ended:
            self._ended = True
            self._answered(self.status, time.perf_counter() - self._began)


class _HungUp(Exception):
    """The client went away in the middle of its body."""


def _request_id(headers: Headers) -> str:
    asked = headers.get("x-request-id", "")
    return asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex


async def _read(receive: Receive, most: int) -> bytes:
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUp
        parts += message.get("body", b"")
        if len(parts) > most:
            raise _too_large(most, f"more than {most}")
        if not message.get("more_body"):
            return bytes(parts)


def _too_large(most: int, got: Any) -> Refused:
    return Refused(
        413,
        f"body: expected at most {most} bytes, got {got}: request body too large; send fewer texts in one request "
        "(GRISTMILL_SERVE_MAX_BODY_BYTES)",
        param="body",
        code="request_too_large",
    )


def _replayed(body: bytes) -> Receive:
    """What a route receives: the body in one piece, and then nothing more."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if left:
            return left.pop()
        await asyncio.Event().wait()  # the door watches for the client's end
        return {"type": "http.disconnect"}

    return receive


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
