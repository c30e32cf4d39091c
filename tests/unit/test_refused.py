"""The guard before the queue: exactly what the dispatcher sends passes, anything else is refused and never raises."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill import ClientSettings
from gristmill.ingest.broker import PARCEL_TASK, create_celery
from gristmill_worker.process.guard import refusal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def pointer() -> dict[str, Any]:
    """A message as Celery writes it for our dispatcher, from Celery itself."""
    app = create_celery(ClientSettings())
    with app.connection_for_write("memory://") as connection:
        message = app.amqp.create_task_message(
            "job.0", PARCEL_TASK, args=("job.0",), kwargs={}, argsrepr="", kwargsrepr=""
        )
        headers, properties, body, _ = message
        channel = connection.default_channel
        raw: dict[str, Any] = channel.prepare_message(
            json.dumps(body), 0, "application/json", "utf-8", headers, {**properties, "delivery_tag": "t"}
        )
        channel._inplace_augment_message(raw, "", "bulk.x")
    return json.loads(json.dumps(raw))  # type: ignore[no-any-return]  # a JSON object


def with_body(body: Any) -> dict[str, Any]:
    return pointer() | {"body": base64.b64encode(json.dumps(body).encode()).decode()}


def test_a_pointer_to_a_parcel_passes() -> None:
    assert refusal(pointer()) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"content-type": "application/x-python-serialize"}, "content"),
        ({"content-encoding": "binary"}, "content"),
        ({"headers": None}, "properties and headers"),
        ({"properties": {}}, "delivery tag"),
        ({"body": "not base64!"}, "body"),
        ({"body": 7}, "body"),
    ],
)
def test_a_wrong_envelope_is_refused(change: dict[str, Any], reason: str) -> None:
    assert reason in (refusal(pointer() | change) or "")


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
    ],
)
def test_a_foreign_task_and_extras_of_celery_are_refused(header: dict[str, Any]) -> None:
    message = pointer()
    message["headers"] |= header
    assert next(iter(header)) in (refusal(message) or "")


@pytest.mark.parametrize(
    "body",
    [
        [["job.0", "more"], {}, {}],
        [[], {}, {}],
        [[7], {}, {}],
        [["another"], {}, {}],
        [["job.0"], {"x": 1}, {}],
        [["job.0"], {}, {"callbacks": [{"task": "t"}]}],
        [["job.0"]],
        7,
        None,
    ],
)
def test_wrong_arguments_are_refused(body: Any) -> None:
    assert "body" in (refusal(with_body(body)) or "")


@given(JSON)
def test_no_json_whatever_raises(value: Any) -> None:
    assert refusal(value) is not None
    for key in ("properties", "headers", "body", "content-type"):
        refusal(pointer_once | {key: value})


pointer_once = pointer()
