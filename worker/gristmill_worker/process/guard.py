"""The guard before the queue: what does not exactly say "work for this queue's model" is parked, and never reaches Celery.

An allow-list, looked at before Celery and its serializers see a byte. Celery's own hooks for unknown tasks, undecodable
bodies and disallowed content come too late for some of it: text that is no JSON raises inside kombu's socket handler and
ends the worker, and so does a message without properties. `refusal` and `stripped` are pure; `guarded_transport` puts them
where kombu hands messages over.
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
from kombu.transport.redis import Transport

from gristmill.ingest.broker import WORK_TASK, queue_name
from gristmill.ledger.reading import Evidence
from gristmill_schemas import RefusedMessage
from gristmill_schemas.errors import GristmillError
from gristmill_schemas.limits import MAX_ID_CHARS

log = logging.getLogger(__name__)

#: Characters of a refused message that are kept.
_KEPT_CHARS = 2000
#: Answers of a Redis that is full or read-only.
_NOTED_NOT = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)
#: Called with reason, queue and raw message.
Park = Callable[[str, str, str], None]
#: Headers that Celery acts on, with the values that our producer sends. Another value could postpone a message, drop it,
#: unpack it, or make it call others.
_HEADERS: Mapping[str, Any] = {
    "lang": "py",
    "task": WORK_TASK,
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "ignore_result": True,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
    "compression": None,
}
#: Headers that only name something; no longer than any id that we know of. The parents' are those of an application's own
#: task that enqueues.
_NAMES = ("id", "root_id", "parent_id", "origin")
_PROPERTIES = ("correlation_id", "delivery_mode", "delivery_info", "priority", "body_encoding", "delivery_tag")
_NOTHING: tuple[object, ...] = (None, [], {}, "")


def refusal(message: object, queue: str) -> str | None:
    """Why a message in this queue is none of `gristmill.ingest.broker`'s; None where it is one."""
    if not isinstance(message, Mapping):
        return f"expected a JSON object, got {type(message).__name__}"
    properties, headers = message.get("properties"), message.get("headers")
    if not isinstance(properties, Mapping) or not isinstance(headers, Mapping):
        return "expected a Celery message with properties and headers"
    return _bad_envelope(message, properties, queue) or _bad_headers(headers) or _bad_body(message, properties, queue)


def stripped(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with nothing but what was looked at: tracing tools and forgers add headers, which end here."""
    headers, properties = message["headers"], message["properties"]
    return {
        **{name: message[name] for name in ("body", "content-type", "content-encoding")},
        "headers": {name: headers[name] for name in (*_HEADERS, *_NAMES) if name in headers},
        "properties": {name: properties[name] for name in _PROPERTIES if name in properties},
    }


def _bad_envelope(message: Mapping[str, Any], properties: Mapping[str, Any], queue: str) -> str | None:
    if message.get("content-type") != "application/json" or message.get("content-encoding") != "utf-8":
        return (
            f"content: expected application/json in utf-8, got {message.get('content-type')!r} "
            f"in {message.get('content-encoding')!r}"
        )
    route = properties.get("delivery_info")
    if not isinstance(properties.get("delivery_tag"), str) or not isinstance(route, Mapping):
        return "properties: expected a delivery tag and a route"
    # A message that is put back goes where its route says.
    if (route.get("exchange"), route.get("routing_key")) != ("", queue):
        return f"properties: expected a route to {queue}, got {dict(route)!r:.200}"
    return None


def _bad_headers(headers: Mapping[str, Any]) -> str | None:
    for name, ours in _HEADERS.items():
        came = headers.get(name)
        if came != ours and (name == "task" or came not in _NOTHING):
            return f"headers: expected {name} {ours!r}, got {came!r:.200}"
    for name in _NAMES:
        came = headers.get(name)
        if not isinstance(came, str | None) or len(came or "") > MAX_ID_CHARS:
            return f"headers: expected {name} to be a name, got {came!r:.200}"
    return None if headers.get("id") else "headers: expected the id of a task"


def _bad_body(message: Mapping[str, Any], properties: Mapping[str, Any], queue: str) -> str | None:
    try:
        arguments, named, embedded = json.loads(_body(message, properties))
        (model_digest,) = arguments
    except (ValueError, TypeError, RecursionError) as error:
        return f"body: expected the digest of one model, got something else ({error!s:.200})"
    if not isinstance(model_digest, str) or queue_name(model_digest) != queue:
        return f"body: expected the digest of the model that {queue} is for, got {model_digest!r:.200}"
    extras = [named, *(embedded.values() if isinstance(embedded, Mapping) else [embedded])]
    return None if all(extra in _NOTHING for extra in extras) else "body: expected no further arguments or calls"


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


def guarded_transport(
    park: Park, accepts: Callable[[str], bool], transport: type[Transport] = Transport
) -> type[Transport]:
    """Kombu's Redis transport with the guard before it, for the setting `broker_transport`.

    Args:
        park: keeps what is refused.
        accepts: whether a message may be taken from a queue now. Asked before every read; what is not taken stays in the
            queue, for anybody.
        transport: what lies behind the guard.
    """
    channel: Any = transport.Channel

    class GuardedChannel(channel):  # type: ignore[misc]  # a class that is an argument
        def _brpop_start(self, timeout: float | None = None) -> None:
            willing = {queue for queue in self.active_queues if accepts(queue)}
            if willing != set(self._queue_cycle.items):
                self._queue_cycle.update(willing)
            if willing:
                super()._brpop_start(timeout)

        def _brpop_read(self, **options: Any) -> bool:
            self.connection.handing_over = False
            try:
                return bool(super()._brpop_read(**options))
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

    behind: Any = transport

    class GuardedTransport(behind):  # type: ignore[misc]  # a class that is an argument
        Channel = GuardedChannel
        #: A message has passed the guard: what is raised from here on is not about reading it.
        handing_over = False

        def _deliver(self, message: Any, queue: str) -> None:
            if (reason := refusal(message, queue)) is not None:
                park(reason, queue, json.dumps(message, ensure_ascii=False, default=repr))
                return
            self.handing_over = True
            try:
                self._hand_over(message, queue)
            except _NOTED_NOT as error:
                # Kombu could not note the message as taken. It says nothing that the ledger does not know: another will
                # be sent. Raised from here, it would end the worker, and with it what could make room.
                log.warning("a message in %s is let go, since Redis takes no writes now: %s", queue, error)

        def _hand_over(self, message: Any, queue: str) -> None:
            super()._deliver(stripped(message), queue)

    return GuardedTransport
