"""From the bytes of a body to JSON without surprises: what two readers could read differently is refused.

Python's own reader takes NaN, of two equal keys the last one, and a lone surrogate that no encoder can write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import ConfigDict

from gristmill_schemas.validation import Record, shown
from gristmill_worker.server.errors import Refused, shown_path


class Body(Record):
    """Base of what is sent: unknown fields refused, and nothing converted from another type."""

    model_config = ConfigDict(strict=True)


class StrictRequest(Request):
    """A request whose JSON is read once, and strictly."""

    async def json(self) -> Any:
        """The body. Raises Refused: it is no JSON that everybody would read in the same way."""
        if not hasattr(self, "_json"):
            self._json = parse(await self.body())
        return self._json


class StrictRoute(APIRoute):
    """A route whose handler reads a `StrictRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if request.method == "POST" and kind != "application/json":
                raise Refused(415, f"content-type: expected application/json, got {shown(kind)}; send the body as JSON")
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


def parse(raw: bytes) -> Any:
    """JSON of bytes.

    Raises:
        Refused: 400, since it is none.
    """
    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=_no_number, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        problem = f"expected UTF-8, got a byte that is none at position {error.start}"
    except json.JSONDecodeError as error:
        problem = (
            f"expected JSON, got {shown(raw[max(0, error.pos - 20) : error.pos + 20])}: {error.msg} at {error.pos}"
        )
    except (RecursionError, ValueError) as error:
        problem = f"expected JSON as APIs send it, got {error}"
    raise Refused(400, f"body: {problem}; send one JSON object", param="body")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON does not have")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown_path(twice)!r} twice in one object")
    return found
