"""The one message that passes: what `gristmill.ingest.broker` sends through Celery, value by value and type by type.

An allow-list without "or something like it": to Python `1`, `1.0` and `True` are one, and an empty list is as false
as None, but Celery, handed the one for the other, raises in its event loop and ends. And since a message only says
"there is work for this model", nothing of one that passes goes any further: `Envelope.fresh` makes the message that
Celery gets. Pure; what puts it where kombu hands messages over is `guard`.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kombu.utils.uuid import uuid

from gristmill.ingest.broker import WORK_TASK, queue_name
from gristmill_schemas.limits import MAX_ID_CHARS

#: Longest body that is looked into; ours have some 200 characters.
_BODY_CHARS = 4096
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PARTS = ("body", "content-type", "content-encoding", "headers", "properties")
#: What is the same in every message, whatever its model.
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
    "kwargsrepr": "{}",
    "ignore_result": True,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
_PROPERTIES: Mapping[str, Any] = {"delivery_mode": 2, "priority": 0, "body_encoding": "base64"}
_CALLS: Mapping[str, None] = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
#: Other headers to which Celery or kombu gives a meaning. Those of tracing tools, which an application's Celery adds to
#: whatever it sends, have none, and end here.
_MEANT = {
    "args", "called_directly", "callbacks", "chain", "chord", "compression", "content_encoding", "content_type",
    "correlation_id", "delivery_info", "errbacks", "expiration", "groups", "hostname", "is_eager", "kwargs",
    "logfile", "loglevel", "meth", "priority", "properties", "reply_to", "taskset", "utc",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Rule:
    """What one value has to be."""

    expected: str
    holds: Callable[[Any], bool]


_NOTHING = object()


def _exactly(value: Any) -> _Rule:
    return _Rule(repr(value), lambda came: _same(came, value))


def _all_exactly(values: Mapping[str, Any]) -> dict[str, _Rule]:
    return {name: _exactly(value) for name, value in values.items()}


def _maybe(rule: _Rule) -> _Rule:
    return _Rule(f"{rule.expected} or nothing", lambda came: came is _NOTHING or rule.holds(came))


def _same(came: Any, ours: Any) -> bool:
    """Equal, and of the same types all through."""
    if type(came) is not type(ours):
        return False
    if isinstance(ours, list):
        return len(came) == len(ours) and all(map(_same, came, ours))
    if isinstance(ours, dict):
        return came.keys() == ours.keys() and all(_same(came[key], ours[key]) for key in ours)
    return bool(came == ours)


def _is_name(came: Any) -> bool:
    return isinstance(came, str) and 0 < len(came) <= MAX_ID_CHARS


_UUID_RULE = _Rule("a UUID", lambda came: isinstance(came, str) and _UUID.fullmatch(came) is not None)
#: The parents' are those of an application's own task that enqueues.
_NAME = _Rule("a name", _is_name)
_NAME_OR_NONE = _Rule("a name or None", lambda came: came is None or _is_name(came))
_CALLED_AGAIN = _maybe(_exactly(True))


class Envelope:
    """The message of one model's queue."""

    def __init__(self, model_digest: str) -> None:
        self.queue = queue_name(model_digest)
        self._digest = model_digest
        parts = {"content-type": "application/json", "content-encoding": "utf-8"}
        headers = {**_HEADERS, "argsrepr": repr((model_digest,))}
        body = base64.b64encode(json.dumps([[model_digest], {}, _CALLS]).encode()).decode()
        self._template: dict[str, Any] = {
            "body": body,
            **parts,
            "headers": {**headers, "parent_id": None, "origin": "gristmill"},
            "properties": {**_PROPERTIES, "delivery_info": {"exchange": "", "routing_key": self.queue}},
        }
        self._part_rules = _all_exactly(parts)
        names = {"id": _UUID_RULE, "root_id": _NAME, "parent_id": _NAME_OR_NONE, "origin": _NAME}
        self._header_rules = {**_all_exactly(headers), **names, "redelivered": _CALLED_AGAIN}
        self._property_rules = {
            **_all_exactly(_PROPERTIES),
            "correlation_id": _UUID_RULE,
            "delivery_tag": _UUID_RULE,
            "reply_to": _maybe(_UUID_RULE),
            "argsrepr": _maybe(_exactly(headers["argsrepr"])),
            "kwargsrepr": _maybe(_exactly("{}")),
        }
        self._route_rules = {
            "exchange": _exactly(""),
            "routing_key": _exactly(self.queue),
            "redelivered": _CALLED_AGAIN,
        }

    def refusal(self, message: object) -> str | None:
        """Why this is no message of our producer's for this queue; None where it is one."""
        if not isinstance(message, Mapping):
            return f"message: expected a JSON object, got {type(message).__name__}"
        return next(self._wrong(message), None)

    def _wrong(self, message: Mapping[str, Any]) -> Iterator[str]:
        headers, properties = message.get("headers"), message.get("properties")
        if not isinstance(headers, dict) or not isinstance(properties, dict):
            yield f"message: expected headers and properties, got {_shown(headers)} and {_shown(properties)}"
            return
        yield from _others("message", message, _PARTS)
        yield from _broken("content", message, self._part_rules)
        yield from self._wrong_route(properties.get("delivery_info"))
        yield from _broken("headers", headers, self._header_rules)
        yield from _others("headers", headers, headers.keys() - _MEANT)
        yield from _broken("properties", properties, self._property_rules)
        yield from _others("properties", properties, (*self._property_rules, "delivery_info"))
        yield from self._wrong_body(message.get("body"))

    def _wrong_route(self, route: Any) -> Iterator[str]:
        if isinstance(route, dict):
            yield from _broken("delivery_info", route, self._route_rules)
            yield from _others("delivery_info", route, self._route_rules)
        else:
            yield f"properties: expected delivery_info to be a route, got {_shown(route)}"

    def _wrong_body(self, body: Any) -> Iterator[str]:
        if not isinstance(body, str) or len(body) > _BODY_CHARS:
            yield f"body: expected at most {_BODY_CHARS} characters of base64, got {_shown(body)}"
            return
        try:
            said = json.loads(base64.b64decode(body, validate=True))
        except (ValueError, RecursionError, binascii.Error):
            yield f"body: expected JSON in base64, got {_shown(body)}"
            return
        if not _same(said, [[self._digest], {}, dict(_CALLS)]):
            yield f"body: expected the digest of the model that {self.queue} is for and nothing else, got {_shown(said)}"

    def fresh(self) -> dict[str, Any]:
        """A message like our producer's, with names of its own."""
        name = uuid()
        message = copy.deepcopy(self._template)
        message["headers"] |= {"id": name, "root_id": name}
        message["properties"] |= {"correlation_id": name, "delivery_tag": uuid()}
        return message


def _broken(place: str, values: Mapping[str, Any], rules: Mapping[str, _Rule]) -> Iterator[str]:
    for name, rule in rules.items():
        if not rule.holds(came := values.get(name, _NOTHING)):
            yield f"{place}: expected {name} to be {rule.expected}, got {_shown(came)}"


def _others(place: str, values: Mapping[str, Any], known: Any) -> Iterator[str]:
    if others := sorted(map(str, values.keys() - set(known))):
        yield f"{place}: expected nothing but what our producer sends, got {_shown(others[0])} too"


def _shown(value: Any) -> str:
    return "nothing" if value is _NOTHING else _short(value)


def _short(value: Any) -> str:
    try:
        return f"{value!r:.200}"
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply"
