"""The guard before the queue: exactly what the dispatcher sends passes, anything else is refused and never raises."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill import ClientSettings
from gristmill.ingest.broker import WORK_TASK, create_celery
from gristmill_worker.process.guard import refusal, stripped

QUEUE = "bulk.digest"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def message_of_ours() -> dict[str, Any]:
    """A message as Celery writes it for our dispatcher, from Celery itself."""
    app = create_celery(ClientSettings())
    with app.connection_for_write("memory://") as connection:
        message = app.amqp.create_task_message(
            "some-task", WORK_TASK, args=("digest",), kwargs={}, argsrepr="", kwargsrepr="", ignore_result=True
        )
        headers, properties, body, _ = message
        channel = connection.default_channel
        raw: dict[str, Any] = channel.prepare_message(
            json.dumps(body), 0, "application/json", "utf-8", headers, {**properties, "delivery_tag": "t"}
        )
        channel._inplace_augment_message(raw, "", QUEUE)
    return json.loads(json.dumps(raw))  # type: ignore[no-any-return]  # a JSON object


def with_body(body: Any) -> dict[str, Any]:
    return message_of_ours() | {"body": base64.b64encode(json.dumps(body).encode()).decode()}


def test_what_our_producer_sends_passes_unchanged() -> None:
    message = message_of_ours()
    assert refusal(message, QUEUE) is None
    kept = stripped(message)
    assert kept["body"] == message["body"]
    assert kept["headers"]["task"] == WORK_TASK
    assert refusal(kept, QUEUE) is None


def test_headers_and_properties_that_celery_does_not_send_end_here() -> None:
    message = message_of_ours()
    message["headers"] |= {"baggage": "traces", "callbacks": [{"task": "t"}]}
    message["properties"] |= {"reply_to": "somewhere", "expiration": "1"}
    assert refusal(message, QUEUE) is None
    kept = stripped(message)
    assert not kept["headers"].keys() & {"baggage", "callbacks"}
    assert not kept["properties"].keys() & {"reply_to", "expiration"}


def test_work_for_another_model_is_refused() -> None:
    assert "bulk.other" in (refusal(message_of_ours(), "bulk.other") or "")
    assert "another" in (refusal(with_body([["another"], {}, {}]), QUEUE) or "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"content-type": "application/x-python-serialize"}, "content"),
        ({"content-encoding": "binary"}, "content"),
        ({"headers": None}, "properties and headers"),
        ({"properties": {}}, "delivery tag"),
        ({"properties": {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "x"}}}, "route"),
        ({"body": "not base64!"}, "body"),
        ({"body": 7}, "body"),
    ],
)
def test_a_wrong_envelope_is_refused(change: dict[str, Any], reason: str) -> None:
    assert reason in (refusal(message_of_ours() | change, QUEUE) or "")


@pytest.mark.parametrize(
    "header",
    [
        {"task": "os.system"},
        {"task": None},
        {"eta": "2999-01-01T00:00:00"},
        {"compression": "application/x-gzip"},
        {"expires": 1},
        {"group": "g"},
        {"timelimit": [1, 1]},
        {"retries": 3},
        {"stamps": {"x": [1]}},
        {"parent_id": ["not a name"]},
        {"id": None},
    ],
)
def test_a_foreign_task_and_extras_of_celery_are_refused(header: dict[str, Any]) -> None:
    message = message_of_ours()
    message["headers"] |= header
    assert next(iter(header)) in (refusal(message, QUEUE) or "")


@pytest.mark.parametrize(
    "body",
    [
        [["digest", "more"], {}, {}],
        [[], {}, {}],
        [[7], {}, {}],
        [["another"], {}, {}],
        [["digest"], {"x": 1}, {}],
        [["digest"], {}, {"callbacks": [{"task": "t"}]}],
        [["digest"]],
        7,
        None,
    ],
)
def test_wrong_arguments_are_refused(body: Any) -> None:
    assert "body" in (refusal(with_body(body), QUEUE) or "")


@given(JSON)
def test_no_json_whatever_raises(value: Any) -> None:
    assert refusal(value, QUEUE) is not None
    for key in ("properties", "headers", "body", "content-type"):
        refusal(once | {key: value}, QUEUE)


once = message_of_ours()
