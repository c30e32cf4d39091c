"""Data frames become documents row by row, their types kept; wrong columns are answered with the nearest."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import pytest

from gristmill.readers import from_frame
from gristmill_schemas import Document, Rejection
from gristmill_schemas.errors import InvalidInput

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")

UTC = datetime.UTC
ROWS: dict[str, list[Any]] = {
    "id": [1, 2],
    "text": ["a", "b"],
    "year": [2024, None],
    "price": [9.5, None],
    "at": [datetime.datetime(2024, 2, 29, 8, 30, tzinfo=UTC), None],
    "day": [datetime.date(2024, 2, 29), None],
    "seen": [True, None],
    "tags": [["x", "y"], None],
    "cost": [decimal.Decimal("19.90"), None],
}
FIRST = {
    "year": 2024, "price": 9.5, "at": "2024-02-29T08:30:00+00:00", "day": "2024-02-29", "seen": True, "tags": ["x", "y"],
    "cost": 19.9,
}  # fmt: skip

frames: list[Callable[[dict[str, list[Any]]], Any]] = [
    pandas.DataFrame,
    lambda rows: pandas.DataFrame(rows).convert_dtypes(),
    polars.DataFrame,
    pyarrow.table,
    lambda rows: pandas.DataFrame(rows).set_index("id"),
]


@pytest.mark.parametrize("make", frames)
def test_every_kind_of_frame_gives_the_same_documents(make: Callable[[dict[str, list[Any]]], Any]) -> None:
    first, second = from_frame(make(ROWS))
    assert (first, second) == (Document(id="1", text="a", metadata=FIRST), Document(id="2", text="b"))


def test_columns_are_chosen_by_name() -> None:
    frame = pandas.DataFrame({"key": ["k"], "body": ["t"], "a": [1], "b": [2], "tenant": ["acme"], "version": [7]})
    (document,) = from_frame(frame, id="key", text="body", metadata=["a"])
    assert document == Document(id="k", text="t", metadata={"a": 1}, tenant="acme", version=7)
    (document,) = from_frame(frame, id=None, text="body", metadata=[])
    assert isinstance(document, Document)
    assert (document.id.startswith("frame#"), document.metadata) == (True, {})


def test_the_same_text_twice_gets_two_ids_and_the_same_ones_again() -> None:
    frame = polars.DataFrame({"text": ["t", "t", "u"]})
    first, again = ([item.id for item in from_frame(frame, id=None)] for _ in range(2))
    assert (first == again, len(set(first))) == (True, 3)


@pytest.mark.parametrize("text", [None, float("nan"), pandas.NA, 5, " "])
def test_a_row_without_text_fails_alone_with_its_number(text: Any) -> None:
    items = list(from_frame(pandas.DataFrame({"id": [1, 2, 3], "text": pandas.Series(["a", text, "c"], dtype=object)})))
    assert [item.id for item in items] == ["1", "2", "3"]
    assert isinstance(items[1], Rejection)
    assert (items[1].position, items[1].source, items[1].reason.startswith("text: expected")) == (2, "frame", True)


def test_a_cell_that_json_cannot_hold_is_named() -> None:
    (rejection,) = from_frame(pandas.DataFrame({"id": [1], "text": ["t"], "blob": [b"x"]}))
    assert isinstance(rejection, Rejection)
    assert "metadata.blob: expected JSON" in rejection.reason


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"text": "txt"}, "text: expected the name of a column, got 'txt', but there are 'id', 'text', 'a'; did you mean"),
        ({"id": "ID"}, "id: expected the name of a column, got 'ID', but there are 'id', 'text', 'a'; did you mean 'id'?"),
        ({"metadata": ["b"]}, "metadata: expected the name of a column, got 'b', but there are 'id', 'text', 'a'"),
        ({"metadata": "b"}, "metadata: expected the name of a column, got 'b'"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_is_answered_with_the_nearest(how: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_frame(pandas.DataFrame({"id": [1], "text": ["t"], "a": [1]}), **how)
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ([{"id": 1}], "frame: expected a data frame (pandas, polars, Arrow, Hugging Face), got list; `enqueue` takes lists"),
        (None, "frame: expected a data frame (pandas, polars, Arrow, Hugging Face), got NoneType"),
        (pandas.Series([1]), "frame: expected a data frame (pandas, polars, Arrow, Hugging Face), got Series"),
        (polars.LazyFrame({"id": [1]}), "frame: expected an eager frame, got a lazy one; pass `frame.collect()`"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "frame: expected one with each column once, got: "),
    ],
)  # fmt: skip
def test_what_is_no_frame_is_refused(frame: Any, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_frame(frame)
    assert str(refused.value).startswith(told)


def test_rows_are_converted_as_they_are_taken() -> None:
    items = from_frame(polars.DataFrame({"id": range(100_000), "text": ["t"] * 100_000}))
    assert next(items).id == "0"


def test_a_split_of_a_hugging_face_dataset_is_a_frame() -> None:
    datasets = pytest.importorskip("datasets")
    split = datasets.Dataset.from_dict({"id": [1, 2], "text": ["a", "b"], "at": [datetime.date(2024, 2, 29), None]})
    assert list(from_frame(split)) == [
        Document(id="1", text="a", metadata={"at": "2024-02-29"}),
        Document(id="2", text="b"),
    ]
    with pytest.raises(InvalidInput, match="frame: expected one split of the dataset, got all of them: 'train'"):
        from_frame(datasets.DatasetDict({"train": split}))
