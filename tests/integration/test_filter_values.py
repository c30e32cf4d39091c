"""What was stored is found by a filter with the same value, whatever its type; on local mode and the real server."""

from __future__ import annotations

import datetime
import decimal
import enum
import itertools
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill import Client, Document

pandas = pytest.importorskip("pandas")

UTC = datetime.UTC
MOMENT = datetime.datetime(2024, 2, 29, 8, 30, 0, 123456, UTC)


class Colour(enum.Enum):
    RED = "red"
    DAY = datetime.date(2024, 2, 29)


moments = st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones())
values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
    | st.dates()
    | moments
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_infinity=False)
    | st.uuids()
    | st.sampled_from(Colour)
    | st.integers(-(2**63), 2**63 - 1).map(np.int64)
    | st.floats(width=32, allow_infinity=False).map(np.float32)
    | st.floats(allow_infinity=False).map(np.float64)
    | st.booleans().map(np.bool_)
    | st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)).map(lambda at: np.datetime64(at, "ns"))
    | st.integers(0, 2**62).map(pandas.Timestamp)
    | st.sampled_from([pandas.NaT, pandas.NA, np.datetime64("NaT")])
)


numbers = itertools.count()


def tagged(id: int, value: Any) -> Document | None:
    """A document with this value and a number of its own; None for decimals and times that no JSON holds."""
    number = next(numbers)
    try:
        return Document(id=str(id), text="t", metadata={"a v": value, "n": number})
    except ValueError:
        return None


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(values, min_size=20, max_size=40))
def test_every_value_is_found_by_itself(client: Client, collection_name: str, drawn: list[Any]) -> None:
    held = [(value, document) for id, value in enumerate(drawn) if (document := tagged(id, value))]
    client.enqueue(collection_name, [document for _, document in held]).wait(60).raise_for_failures()
    for value, document in held:
        own = {"n": document.metadata["n"]}
        assert client.count(collection_name, {"a v": value} | own) == 1, repr(value)
        assert client.count(collection_name, {"a v": [value, "x"]} | own) == 1, repr(value)
        assert client.count(collection_name, {"a v": {"not": value}} | own) == 0, repr(value)


@pytest.mark.parametrize(
    ("stored", "where", "matches"),
    [
        (MOMENT, MOMENT.astimezone(datetime.timezone(datetime.timedelta(hours=8))), True),
        (MOMENT, MOMENT.replace(tzinfo=None), True),
        (MOMENT, MOMENT.isoformat(), True),
        (MOMENT, MOMENT.date(), True),
        (MOMENT.date(), MOMENT.date(), True),
        (MOMENT.date(), datetime.datetime(2024, 2, 29), True),
        (MOMENT, MOMENT.date() + datetime.timedelta(days=1), False),
        (MOMENT, {"gte": MOMENT, "lt": MOMENT + datetime.timedelta(microseconds=1)}, True),
        (MOMENT, {"gt": MOMENT}, False),
        (pandas.Timestamp(MOMENT), {"gte": pandas.Timestamp(MOMENT), "lte": np.datetime64("2025-01-01")}, True),
        (MOMENT, {"gte": "2024-02-29", "lt": datetime.date(2024, 3, 1)}, True),
        (decimal.Decimal("19.90"), {"gte": decimal.Decimal("19.9"), "lt": np.float64(20)}, True),
        (decimal.Decimal("19.90"), 19.9, True),
        (2024.0, 2024, True),
        (2024, 2024.0, True),
        (2024, decimal.Decimal(2024), True),
        ("2024", 2024, False),
        (True, 1, False),
        ([np.int64(1), np.int64(2)], np.array([2, 3]), True),
        (["a", "b"], {"b", "c"}, True),
        (datetime.timedelta(hours=1), {"gte": datetime.timedelta(minutes=30)}, True),
        (float("nan"), None, True),
        (uuid.UUID(int=7), str(uuid.UUID(int=7)), True),
    ],
)
def test_values_match_by_what_they_say_and_not_by_how_they_are_written(
    client: Client, collection_name: str, stored: Any, where: Any, matches: bool
) -> None:
    client.enqueue(collection_name, Document(id="a", text="t", metadata={"v": stored})).wait(60).raise_for_failures()
    assert client.count(collection_name, {"v": where}) == int(matches)


def test_changed_metadata_takes_the_same_types(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, Document(id="a", text="t", metadata={"v": 1})).wait(60).raise_for_failures()
    changes = {"at": pandas.Timestamp(MOMENT), "price": decimal.Decimal("1.5"), "v": pandas.NA, "by": uuid.UUID(int=7)}
    client.update_metadata(collection_name, uuid.UUID(int=7), changes).wait(60)  # type: ignore[arg-type]  # an id as ORMs have it
    client.update_metadata(collection_name, "a", changes).wait(60).raise_for_failures()
    (held,) = client.get(collection_name, ["a"])
    assert held.metadata == {"at": MOMENT.isoformat(), "price": 1.5, "by": str(uuid.UUID(int=7))}
    where = {"at": MOMENT, "price": decimal.Decimal("1.5"), "by": uuid.UUID(int=7)}
    assert client.count(collection_name, where) == 1


@pytest.mark.parametrize("key", ["my key", "产品", "a/b", "No.", "$x", "x y.z", "é", "prix (€)", "a:b"])
def test_keys_as_tables_have_them_can_be_filtered_by(client: Client, collection_name: str, key: str) -> None:
    metadata = {"x y": {"z": 1}} if key == "x y.z" else {key: 1}
    client.enqueue(collection_name, Document(id="a", text="t", metadata=metadata)).wait(60).raise_for_failures()
    assert client.count(collection_name, {key: 1}) == 1
    assert client.count(collection_name, {key: 2}) == 0
    assert client.count(collection_name, {key: None}) == 0
