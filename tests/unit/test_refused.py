"""The guard before the queue: exactly what the dispatcher sends passes, anything else is refused and never raises."""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fuzzing
from gristmill import ClientSettings
from gristmill.ingest.broker import WORK_TASK, create_celery, queue_name
from gristmill_worker.process.envelope import Envelope

DIGEST = "digest"
QUEUE = queue_name(DIGEST)
ENVELOPE = Envelope(DIGEST)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def sent(**headers: str) -> dict[str, Any]:
    """A message as Celery writes it for our dispatcher, from Celery itself."""
    app = create_celery(ClientSettings())
    with app.connection_for_write("memory://") as connection:
        channel, raw = connection.default_channel, {}

        def put(queue: str, message: dict[str, Any], **_: Any) -> None:
            raw[queue] = message

        channel._put = put
        app.send_task(
            WORK_TASK,
            args=(DIGEST,),
            queue=QUEUE,
            connection=connection,
            argsrepr=repr((DIGEST,)),
            kwargsrepr="{}",
            ignore_result=True,
            headers=headers,
        )
    return json.loads(json.dumps(raw[QUEUE]))  # type: ignore[no-any-return]  # a JSON object


OURS = sent()


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    message = copy.deepcopy(OURS)
    change(message)
    return message


def with_body(body: Any) -> dict[str, Any]:
    return OURS | {"body": base64.b64encode(json.dumps(body).encode()).decode()}


def test_what_our_producer_sends_passes_and_so_does_what_is_made_of_it() -> None:
    assert ENVELOPE.refusal(OURS) is None
    assert ENVELOPE.refusal(ENVELOPE.fresh()) is None


def test_celery_gets_nothing_that_came_with_a_message() -> None:
    first, second = ENVELOPE.fresh(), ENVELOPE.fresh()
    assert first["headers"]["id"] != second["headers"]["id"]
    assert first["properties"]["delivery_tag"] != second["properties"]["delivery_tag"]
    first["headers"]["timelimit"].append("spoilt")
    assert ENVELOPE.refusal(ENVELOPE.fresh()) is None


def test_headers_of_tracing_tools_pass_and_end_here() -> None:
    assert ENVELOPE.refusal(sent(traceparent="00-1-2-01", baggage="a=b")) is None
    assert "traceparent" not in ENVELOPE.fresh()["headers"]


def test_a_message_that_was_put_back_passes() -> None:
    def put_back(message: dict[str, Any]) -> None:
        message["headers"]["redelivered"] = message["properties"]["delivery_info"]["redelivered"] = True

    assert ENVELOPE.refusal(changed(put_back)) is None


def test_work_for_another_model_is_refused() -> None:
    assert "bulk.other" in (Envelope("other").refusal(OURS) or "")
    long = Envelope("0123456789abcdef-and-more")
    assert "digest of the model" in (
        long.refusal(long.fresh() | {"body": Envelope(long.queue[5:]).fresh()["body"]}) or ""
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"content-type": "application/x-python-serialize"}, "content"),
        ({"content-encoding": "binary"}, "content"),
        ({"headers": None}, "headers and properties"),
        ({"properties": {}}, "delivery_info"),
        ({"body": "not base64!"}, "body"),
        ({"body": 7}, "body"),
        ({"body": "a" * 100_000}, "body"),
        ({"redelivered": True}, "redelivered"),
    ],
)
def test_a_wrong_envelope_is_refused(change: dict[str, Any], reason: str) -> None:
    assert reason in (ENVELOPE.refusal(OURS | change) or "")


#: What is equal to None, to 0, to {} or to True for somebody who does not look closely; and what only Celery would act on.
LIKE_NOTHING: list[Any] = ["", [], {}, 0, 1, False, True, 1.5, "x", [1], {"x": 1}, None]
LIKE_OURS: list[Any] = ["", [], {}, 1, True, float("inf"), "9", "\ud800", None]
HEADERS: list[dict[str, Any]] = [
    {name: value}
    for name in (
        "shadow",
        "eta",
        "expires",
        "group",
        "group_index",
        "stamped_headers",
        "retries",
        "timelimit",
        "stamps",
    )
    for value in LIKE_NOTHING
    if json.dumps(OURS["headers"][name]) != json.dumps(value)
]
HEADERS += [{"task": "os.system"}, {"task": None}, {"lang": "c"}, {"ignore_result": 1}, {"replaced_task_nesting": 0.0}]
HEADERS += [{"parent_id": ["not a name"]}, {"id": None}, {"id": "\ud800"}, {"id": "some-task"}, {"root_id": "a" * 1000}]
HEADERS += [{"callbacks": [{"task": "t"}]}, {"reply_to": "somewhere"}, {"compression": None}, {"argsrepr": "()"}]
PROPERTIES: list[dict[str, Any]] = [
    {name: value}
    for name in (
        "priority",
        "delivery_mode",
        "body_encoding",
        "delivery_tag",
        "delivery_info",
        "correlation_id",
        "reply_to",
    )
    for value in LIKE_OURS
]
PROPERTIES += [{"expiration": "1"}, {"headers": {}}, {"priority": 0.0}, {"priority": False}]


@pytest.mark.parametrize(("part", "changes"), [("headers", HEADERS), ("properties", PROPERTIES)])
def test_no_value_passes_that_is_only_like_ours(part: str, changes: list[dict[str, Any]]) -> None:
    for change in changes:
        reason = ENVELOPE.refusal(OURS | {part: OURS[part] | change}) or ""
        assert next(iter(change)) in reason, change
        assert fuzzing.not_a_sentence(reason) is None
    for name in OURS[part].keys() - {"reply_to", "argsrepr", "kwargsrepr"}:
        assert name in (ENVELOPE.refusal(OURS | {part: {k: v for k, v in OURS[part].items() if k != name}}) or ""), name


@pytest.mark.parametrize(
    "change", [{"exchange": "x"}, {"routing_key": "bulk.other"}, {"redelivered": 1}, {"more": None}]
)
def test_a_message_that_would_be_put_back_elsewhere_is_refused(change: dict[str, Any]) -> None:
    properties = OURS["properties"] | {"delivery_info": OURS["properties"]["delivery_info"] | change}
    assert "delivery_info" in (ENVELOPE.refusal(OURS | {"properties": properties}) or "")


@pytest.mark.parametrize(
    "body",
    [
        [["digest", "more"], {}, {}],
        [[], {}, {}],
        [[7], {}, {}],
        [["another"], {}, {}],
        [["digest"], {"x": 1}, {}],
        [["digest"], {}, {"callbacks": [{"task": "t"}]}],
        [["digest"], {}, {"self": None}],
        [["digest"], None, ""],
        [{"digest": 1}, {}, {}],
        [["digest"]],
        7,
        None,
    ],
)
def test_wrong_arguments_are_refused(body: Any) -> None:
    assert "body" in (ENVELOPE.refusal(with_body(body)) or "")


@settings(max_examples=30, deadline=None)
@given(JSON)
def test_no_json_whatever_raises(value: Any) -> None:
    assert ENVELOPE.refusal(value) is not None
    for key in ("properties", "headers", "body", "content-type"):
        assert ENVELOPE.refusal(OURS | {key: value}) is not None


def test_mutated_messages_are_refused_by_a_sentence_or_mean_the_same() -> None:
    rng = random.Random(fuzzing.SEED)
    for _ in range(fuzzing.COUNT):
        reason = ENVELOPE.refusal(fuzzing.mutated(rng, OURS))
        assert reason is None or fuzzing.not_a_sentence(reason) is None
