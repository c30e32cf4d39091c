"""What goes wrong on the way of a request, as the API that was asked says it.

    OpenAI's    {"error": {"message", "type", "param", "code"}}
    Cohere's    {"message"}                                        /v2/embed, /v1/rerank, /v2/rerank

A refusal says whose fault it is by its status: 4xx the caller's, 429 and 503 nobody's (with Retry-After), 500 ours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gristmill_schemas.errors import (
    BrokerRefused,
    CollectionNotFound,
    DeviceFailed,
    EncodingFailed,
    GristmillError,
    InvalidInput,
    NoWorker,
    QueueFull,
    ShuttingDown,
    StoreRefused,
    Unavailable,
    WaitTimeout,
)
from gristmill_schemas.redaction import redact
from gristmill_schemas.validation import expectation, shown

log = logging.getLogger(__name__)

#: Paths whose callers expect Cohere's shape.
COHERE_PATHS: Final = frozenset({"/v2/embed", "/v1/rerank", "/v2/rerank"})
#: What OpenAI calls a refusal, by its status.
_TYPES: Final = {429: "rate_limit_error", 500: "server_error", 503: "service_unavailable_error"}
#: Longest list of wrong fields in one answer.
_MOST_PROBLEMS: Final = 8


@dataclass(frozen=True, slots=True)
class Told:
    """What is said to a caller whose request is not answered."""

    status: int
    message: str
    #: The field that it is about.
    param: str | None = None
    #: A word that programs can compare.
    code: str | None = None
    retry_after_s: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Beside the body."""
        named = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after_s is not None:
            named["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        return named


class Refused(HTTPException):
    """A request that is refused. Of Starlette's kind, so that the framework lets it through as it is."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.told = Told(status, redact(message), param, code, retry_after_s)
        super().__init__(status, self.told.message)


def told(error: BaseException) -> Told:
    """What is said of an error, whatever it is."""
    if isinstance(error, Refused):
        return error.told
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):  # the framework's own: no such path, no such method
        return Told(error.status_code, f"{error.detail}: expected a path and a method of /docs, got another")
    if isinstance(error, GristmillError):
        return _ours(error)
    log.error("a request failed", exc_info=error)
    return Told(500, "this is a bug of the server; its log, under this request's x-request-id, says more")


def _ours(error: GristmillError) -> Told:
    if isinstance(error, InvalidInput | EncodingFailed):
        return Told(400, str(error), error.field)
    if isinstance(error, CollectionNotFound):
        return Told(404, str(error), "collection", "collection_not_found")
    if isinstance(error, NoWorker):
        return Told(503, str(error), error.field, "no_worker", retry_after_s=5)
    if isinstance(error, StoreRefused | BrokerRefused):
        return Told(502, str(error), error.field)
    if isinstance(error, QueueFull):
        return Told(429, str(error), code="rate_limit_exceeded", retry_after_s=1)
    if isinstance(error, Unavailable):
        return Told(503, str(error), retry_after_s=error.retry_after_s or 1)
    if isinstance(error, ShuttingDown | DeviceFailed | WaitTimeout):
        return Told(503, f"{error}; try again, or another server", retry_after_s=1)
    log.error("a request failed", exc_info=error)
    return Told(500, str(error))


def answer(path: str, refusal: Told) -> Response:
    """The response, in the shape of the API that the path belongs to."""
    body: Mapping[str, Any] = {"message": refusal.message}
    if path not in COHERE_PATHS:
        kind = _TYPES.get(refusal.status, "invalid_request_error")
        body = {"error": {**body, "type": kind, "param": refusal.param, "code": refusal.code}}
    return json_response(body, refusal.status, refusal.headers)


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Arrays of numpy included, each float32 in as few digits as tell it from its neighbours."""
    raw = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(raw, status, dict(headers or {}), media_type="application/json")


def _invalid(error: RequestValidationError) -> Told:
    """All that is wrong with a body, in one sentence each."""
    problems = [_problem(item) for item in error.errors()]
    lines = [message for _, message in problems[:_MOST_PROBLEMS]]
    if (more := len(problems) - len(lines)) > 0:
        lines.append(f"and {more} more")
    return Told(400, redact("; ".join(lines)), problems[0][0])


def _problem(item: Any) -> tuple[str | None, str]:
    """The field, and what is wrong with it."""
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, InvalidInput):
        return cause.field, str(cause)
    field = _path(item["loc"][1:])
    came = shown(item["input"], 200)
    if item["type"] == "missing":
        wanted = f"{field}: expected a value, got none" if field else "expected a JSON object as the body, got none"
        return field, wanted
    if item["type"] == "extra_forbidden":
        return (
            field,
            f"{field}: expected no field of this name, got {came}: leave it out, or see /docs for what there is",
        )
    return field, f"{field or 'body'}: {expectation(item)}, got {came}"


def _path(places: tuple[str | int, ...]) -> str | None:
    """`documents[3].text`."""
    text = "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)
    return shown_path(text.removeprefix(".")) or None


def shown_path(path: str) -> str:
    """A field's name as it came, fit to be printed."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in path[:200])
