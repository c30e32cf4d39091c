"""What pandas, numpy and ORMs put into metadata becomes plain JSON, or is refused by name."""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import types
import uuid
import zoneinfo
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from gristmill import Document, InvalidInput

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")

SHANGHAI = zoneinfo.ZoneInfo("Asia/Shanghai")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class Colour(enum.Enum):
    RED = "red"
    NIGHT = datetime.date(2024, 2, 29)


class Level(enum.IntEnum):
    HIGH = 3


class State(enum.StrEnum):
    OPEN = "open"


CASES: list[tuple[Any, Any]] = [
    (datetime.datetime(2024, 2, 29, 8, 30, tzinfo=datetime.UTC), "2024-02-29T08:30:00+00:00"),
    (datetime.datetime(2024, 2, 29, 8, 30, 0, 5, SHANGHAI), "2024-02-29T08:30:00.000005+08:00"),
    (datetime.datetime(2024, 2, 29, 8, 30), "2024-02-29T08:30:00+00:00"),
    (datetime.datetime(1890, 1, 1, tzinfo=BERLIN), "1889-12-31T23:06:32+00:00"),
    (datetime.date(2024, 2, 29), "2024-02-29"),
    (datetime.time(8, 30), "08:30:00"),
    (datetime.timedelta(hours=1), 3600),
    (datetime.timedelta(milliseconds=1500), 1.5),
    (decimal.Decimal("19.90"), 19.9),
    (decimal.Decimal("2.00"), 2),
    (decimal.Decimal(2**62 + 1), 2**62 + 1),
    (decimal.Decimal("1E+3"), 1000),
    (decimal.Decimal("0.12345678901234567890"), "0.12345678901234567890"),
    (decimal.Decimal("1E+999999"), "1E+999999"),
    (decimal.Decimal("NaN"), None),
    (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (pathlib.PurePosixPath("a/b"), "a/b"),
    (Colour.RED, "red"),
    (Colour.NIGHT, "2024-02-29"),
    (Level.HIGH, 3),
    (State.OPEN, "open"),
    (2024.0, 2024),
    (1e300, 1e300),
    (float("nan"), None),
    ({"b", "a"}, ["a", "b"]),
    ((1, (2,)), [1, [2]]),
    (types.MappingProxyType({"a": Level.HIGH}), {"a": 3}),
    (OrderedDict(a=1), {"a": 1}),
    (np.int64(3), 3),
    (np.uint8(255), 255),
    (np.float32(0.5), 0.5),
    (np.float64("nan"), None),
    (np.longdouble(1.5), 1.5),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (np.array([[1, 2]]), [[1, 2]]),
    (np.array(5), 5),
    (np.datetime64("2024-02-29"), "2024-02-29"),
    (np.datetime64("2024-02-29T08:30:00.123456789"), "2024-02-29T08:30:00.123456+00:00"),
    (np.datetime64("NaT"), None),
    (np.timedelta64(90, "s"), 90),
    (pandas.Timestamp("2024-02-29 08:30:00.123456789"), "2024-02-29T08:30:00.123456+00:00"),
    (pandas.Timestamp("2024-02-29 08:30", tz="Asia/Shanghai"), "2024-02-29T08:30:00+08:00"),
    (pandas.Timedelta("1h"), 3600),
    (pandas.NaT, None),
    (pandas.NA, None),
    (pandas.Series([1, None]), [1, None]),
    (polars.Series([1, 2]), [1, 2]),
    (pyarrow.scalar(datetime.date(2024, 2, 29)), "2024-02-29"),
]


@pytest.mark.parametrize(("value", "expected"), CASES, ids=lambda value: type(value).__name__)
def test_a_value_becomes_json_and_stays_so(value: Any, expected: Any) -> None:
    (found,) = Document(id="a", text="t", metadata={"v": value}).metadata.values()
    assert (found, type(found)) == (expected, type(expected))
    again = Document(id="a", text="t", metadata={"v": found})
    assert again.metadata == {"v": expected}
    assert Document.model_validate_json(again.model_dump_json()).metadata_hash == again.metadata_hash


def test_values_are_converted_at_every_depth() -> None:
    metadata = {"a": [{"day": datetime.date(2024, 2, 29)}, np.array([1.0])]}
    assert Document(id="a", text="t", metadata=metadata).metadata == {"a": [{"day": "2024-02-29"}, [1]]}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"x", "got bytes; decode it to text, or leave it out"),
        (object(), "got object; pass its text or its fields"),
        (Document(id="a", text="t"), r"got Document; pass its fields, as `model_dump\(\)` gives them"),
        (float("inf"), "expected a finite number, got inf"),
        (decimal.Decimal("-Infinity"), "expected a finite number, got -inf"),
        (2**63, "expected an integer of 64 bits, got 9223372036854775808"),
        (10**5000, "expected an integer of 64 bits, got one of 16610 bits"),
        (1j, "got complex"),
        (np.complex64(1), "got complex64"),
        (np.datetime64("20000-01-01"), "expected a time of the years 1 to 9999"),
        (datetime.datetime(1, 1, 1, tzinfo=BERLIN), "expected a time of the years 1 to 9999"),
        ({1: 2}, r"expected string keys, got 1 \(int\)"),
        ([["\ud800"]], "expected valid Unicode"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused_by_name(value: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=r"metadata\.v.*" + told):
        Document(id="a", text="t", metadata={"v": value})


def test_metadata_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidInput, match="nesting of at most 16 levels"):
        Document(id="a", text="t", metadata={"v": endless})


@pytest.mark.parametrize(
    ("id", "expected"),
    [(np.int64(7), "7"), (decimal.Decimal(7), "7"), (uuid.UUID(int=7), str(uuid.UUID(int=7))), (7, "7")],
)
def test_ids_are_what_databases_and_frames_number_their_rows_with(id: Any, expected: str) -> None:
    assert Document(id=id, text="t").id == expected


@pytest.mark.parametrize("id", [7.0, True, np.bool_(True), None, np.array([1, 2]), datetime.date(2024, 2, 29)])
def test_what_is_no_id_stays_refused(id: Any) -> None:
    with pytest.raises(InvalidInput, match="id: expected a string, got"):
        Document(id=id, text="t")
