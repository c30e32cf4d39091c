"""The guard before the queue: what is not exactly a pointer to a parcel is parked, and never reaches Celery.

An allow-list, looked at before Celery and its serializers see a byte. Celery's own hooks for unknown tasks, undecodable
bodies and disallowed content come too late for some of it: text that is no JSON raises inside kombu's socket handler and
ends the worker, and so does a message without properties. `refusal` is pure; `guarded_transport` puts it where kombu
hands messages over.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Mapping
from queue import Empty
from typing import Any

import redis
from kombu.transport.redis import Channel, Transport

from gristmill.ingest.broker import PARCEL_TASK
from gristmill.ledger.reading import Evidence
from gristmill_schemas import RefusedMessage
from gristmill_schemas.errors import GristmillError
from gristmill_schemas.limits import MAX_ID_CHARS

log = logging.getLogger(__name__)

#: Characters of a refused message that are kept.
_KEPT_CHARS = 2000
#: Called with reason, queue and raw message.
Park = Callable[[str, str, str], None]
#: Headers by which a message could be postponed, dropped, unpacked or made to call others. A pointer has none of them.
_EXTRAS = ("eta", "expires", "group", "shadow", "compression")
_NO_EXTRAS: tuple[object, ...] = (None, [], {}, [None, None], "")


def refusal(message: object) -> str | None:
    """Why a message is no pointer to a parcel, as `gristmill.ingest.broker` sends them; None where it is one."""
    if not isinstance(message, Mapping):
        return f"expected a JSON object, got {type(message).__name__}"
    properties, headers = message.get("properties"), message.get("headers")
    if not isinstance(properties, Mapping) or not isinstance(headers, Mapping):
        return "expected a Celery message with properties and headers"
    return _bad_envelope(message, properties) or _bad_headers(headers) or _bad_body(message, properties, headers)


def _bad_envelope(message: Mapping[str, Any], properties: Mapping[str, Any]) -> str | None:
    if message.get("content-type") != "application/json" or message.get("content-encoding") != "utf-8":
        return (
            f"content: expected application/json in utf-8, got {message.get('content-type')!r} "
            f"in {message.get('content-encoding')!r}"
        )
    route = properties.get("delivery_info")
    if not isinstance(properties.get("delivery_tag"), str) or not isinstance(route, Mapping):
        return "properties: expected a delivery tag and a route"
    if not all(isinstance(route.get(key), str) for key in ("exchange", "routing_key")):
        return "properties: expected a route with exchange and routing key"
    return None


def _bad_headers(headers: Mapping[str, Any]) -> str | None:
    if headers.get("task") != PARCEL_TASK:
        return f"task: expected {PARCEL_TASK!r}, got {headers.get('task')!r:.200}"
    for name in (*_EXTRAS, "timelimit"):
        if headers.get(name) not in _NO_EXTRAS:
            return f"headers: expected no {name}, got {headers[name]!r:.200}"
    return None


def _bad_body(message: Mapping[str, Any], properties: Mapping[str, Any], headers: Mapping[str, Any]) -> str | None:
    try:
        arguments, named, embedded = json.loads(_body(message, properties))
        (parcel_id,) = arguments
    except (ValueError, TypeError, RecursionError) as error:
        return f"body: expected one parcel id, got something else ({error!s:.200})"
    if not isinstance(parcel_id, str) or not 0 < len(parcel_id) <= MAX_ID_CHARS or parcel_id != headers.get("id"):
        return f"body: expected the parcel id that is also the task's, got {parcel_id!r:.200}"
    extras = [named, *(embedded.values() if isinstance(embedded, Mapping) else [embedded])]
    return None if all(extra in _NO_EXTRAS for extra in extras) else "body: expected no further arguments or calls"


def _body(message: Mapping[str, Any], properties: Mapping[str, Any]) -> bytes | str:
    body = message.get("body")
    if not isinstance(body, str):
        raise ValueError(f"a body of type {type(body).__name__}")
    encoding = properties.get("body_encoding")
    if encoding not in (None, "base64"):
        raise ValueError(f"a body encoded as {encoding!r:.50}")
    return body if encoding is None else base64.b64decode(body, validate=True)


def park_in(evidence: Evidence) -> Park:
    """Keep refused messages in the ledger's list of them; where it is away, the log has to do."""

    def park(reason: str, queue: str, raw: str) -> None:
        log.warning("refused a message in %s: %s", queue, reason)
        kept = RefusedMessage(reason=reason, queue=queue, message=_printable(raw), refused_at=time.time())
        try:
            evidence.refuse(kept)
        except GristmillError as error:
            log.error("and could not park it (%s): %s", error, kept.message[:200])

    return park


def _printable(raw: str) -> str:
    return raw[:_KEPT_CHARS].encode("unicode_escape").decode("ascii")[: 2 * _KEPT_CHARS]


def guarded_transport(park: Park) -> type[Transport]:
    """Kombu's Redis transport with the guard before it, for the setting `broker_transport`."""

    class GuardedChannel(Channel):
        def _brpop_read(self, **options: Any) -> bool:
            self.connection.handing_over = False
            try:
                return bool(super()._brpop_read(**options))  # type: ignore[no-untyped-call]  # kombu has no types
            except (Empty, OSError, redis.RedisError):
                raise
            except Exception as error:
                if self.connection.handing_over:
                    raise
                # It is popped, and kombu could not read it: only its parser's error may still hold it.
                raw = getattr(error, "doc", "") or getattr(error, "object", b"")
                text = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw)
                queues = ", ".join(sorted(self.active_queues))
                park(f"expected JSON, got {type(error).__name__}: {error!s:.200}", queues, text)
                return True

    class GuardedTransport(Transport):
        Channel = GuardedChannel
        #: A message has passed the guard: what is raised from here on is not about reading it.
        handing_over = False

        def _deliver(self, message: Any, queue: str) -> None:
            if (reason := refusal(message)) is not None:
                park(reason, queue, json.dumps(message, ensure_ascii=False, default=repr))
                return
            self.handing_over = True
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]  # kombu has no types

    return GuardedTransport
