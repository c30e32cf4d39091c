"""Columns of CSV: text unless asked otherwise, declared types by row, inferred ones from the whole file and shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.readers import read
from gristmill_schemas import Document, Rejection
from gristmill_schemas.errors import InvalidInput

Read = Callable[..., tuple[list[Document], list[Rejection]]]
HEADER = "id,text,year,price,seen,day,at,zip,phone,order_id,note\n"
CSV = HEADER + (
    "007,a,2024,9.90,true,2024-02-29,2024-02-29 08:30:00,01234,13800138000,5,x\n"
    "008,b,1999,10,False,2023-12-31,2023-12-31T23:00:00+08:00,10115,13900139000,6,7\n"
    "009,c,NA,,,,,,,,\n"
)


def metadata(read_bytes: Read, content: str, **how: Any) -> list[dict[str, Any]]:
    documents, rejections = read_bytes("a.csv", content, **how)
    assert rejections == []
    return [each.metadata for each in documents]


def test_types_are_inferred_from_the_whole_file_and_shown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    reading = read([tmp_path / "a.csv"], types="auto")
    first, second, third = (each for each in reading if isinstance(each, Document))
    assert (first.id, first.metadata) == (
        "007",
        {
            "year": 2024, "price": 9.9, "seen": True, "day": "2024-02-29", "at": "2024-02-29T08:30:00+00:00",
            "zip": "01234", "phone": "13800138000", "order_id": "5", "note": "x",
        },
    )  # fmt: skip
    assert second.metadata["at"] == "2023-12-31T23:00:00+08:00"
    assert second.metadata["price"] == 10
    assert second.metadata["note"] == "7"
    assert third.metadata == {}
    (note,) = reading.notes
    assert "year: integer, price: number, seen: boolean, day: date, at: datetime; all other columns are text" in note
    assert "(from 3 rows)" in note


def test_without_types_all_is_text(read_bytes: Read) -> None:
    assert metadata(read_bytes, CSV)[0]["year"] == "2024"
    assert metadata(read_bytes, CSV, types="text")[0]["price"] == "9.90"


@pytest.mark.parametrize(
    "cells",
    [
        ["1", "x"], ["01", "2"], ["1", "+2"], ["1", "1.000,5"], ["1", "1e5"], ["1", "-"], ["1", "2.0.1"],
        ["1", "1234567890"], ["true", "yes"], ["2024-01-01", "2024-13-01"], ["2024-01-01", "1.2.2024"],
        ["2024", "2024-01-01"], ["１２", "3"],
    ],
)  # fmt: skip
def test_one_cell_that_is_something_else_keeps_its_column_text(read_bytes: Read, cells: list[str]) -> None:
    content = "text,v\n" + "".join(f't,"{cell}"\n' for cell in [cells[0]] * 1500 + [cells[1]])
    assert metadata(read_bytes, content, types="auto")[0] == {"v": cells[0]}


@pytest.mark.parametrize(
    "name", ["zip", "Zip Code", "user_id", "userId", "phone", "ISBN", "version_no", "邮编", "tel."]
)
def test_columns_that_name_things_stay_text(read_bytes: Read, name: str) -> None:
    assert metadata(read_bytes, f"text,{name}\nt,1\n", types="auto") == [{name: "1"}]


@pytest.mark.parametrize(
    ("types", "cell", "value"),
    [
        ("v=integer", "+12345678901", 12345678901),
        ("v=int", " 7 ", 7),
        ({"v": "number"}, "1e3", 1000),
        ({"v": float}, "-.5", -0.5),
        ("v=number", "9007199254740993", 9007199254740993),
        (["v=boolean"], "Yes", True),
        (["v=bool"], "0", False),
        ("v=date", "29.2.2024", "2024-02-29"),
        ("v=date", "2024/2/29", "2024-02-29"),
        ("v=date", "20240229", "2024-02-29"),
        ("v=datetime", "2024-02-29T08:30:00Z", "2024-02-29T08:30:00+00:00"),
        ("v=timestamp", "2024-02-29", "2024-02-29T00:00:00+00:00"),
        ("auto,v=text", "5", "5"),
        ("v=integer", "NULL", None),
    ],
)
def test_declared_types_are_taken_at_their_word(read_bytes: Read, types: Any, cell: str, value: Any) -> None:
    (found,) = metadata(read_bytes, f"text,v\nt,{cell}\n", types=types)
    assert found == ({} if value is None else {"v": value})


@pytest.mark.parametrize(
    ("types", "cell", "told"),
    [
        ("v=integer", "x", "'v': expected a whole number of 64 bits, got 'x'; --types v=text keeps it as it is"),
        ("v=integer", "99999999999999999999", "'v': expected a whole number of 64 bits"),
        ("v=number", "1,5", "'v': expected a number such as -1.5 or 2e3, got '1,5'"),
        ("v=number", "1e999", "'v': expected a number"),
        ("v=boolean", "maybe", "'v': expected true or false"),
        ("v=date", "2/29/2024", "'v': expected a date such as 2024-02-29, 2024/2/29 or 29.2.2024, got '2/29/2024'"),
        ("v=date", "2024-02-30", "'v': expected a date"),
        ("v=datetime", "now", "'v': expected a time"),
    ],
)
def test_a_cell_that_does_not_fit_is_its_rows_failure(read_bytes: Read, types: str, cell: str, told: str) -> None:
    documents, (rejection,) = read_bytes("a.csv", f'id,text,v\n1,t,\n2,t,"{cell}"\n3,t,\n', types=types)
    assert [each.id for each in documents] == ["1", "3"]
    assert (rejection.position, rejection.id) == (3, "2")
    assert rejection.reason.startswith(told)


def test_a_column_that_is_not_there_is_named_before_anything_is_read(read_bytes: Read) -> None:
    documents, (rejection,) = read_bytes("a.csv", CSV, types="yaer=integer")
    assert (documents, rejection.reason) == (
        [],
        "types: expected columns of the header, got 'yaer'; did you mean 'year'?",
    )
    _, (rejection,) = read_bytes("a.csv", CSV, types="text=integer")
    assert rejection.reason == "types: expected a column of metadata, got 'text', whose type is known"


@pytest.mark.parametrize(
    ("types", "told"),
    [
        ("year=integr", "types: year: expected one of text, integer, number, boolean, date, datetime, got 'integr'"),
        ("atuo", "types: expected auto, text or COLUMN=TYPE, got 'atuo'"),
        ({"year": 5}, "types: year: expected one of"),
    ],
)  # fmt: skip
def test_a_type_that_there_is_not_is_refused_at_once(tmp_path: Path, types: Any, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read([tmp_path], types=types)
    assert str(refused.value).startswith(told)
    assert refused.value.field == "types"


def test_other_encodings_are_inferred_from_and_noted_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text,年份\n这是一段用来测试的中文文本,2024\n".encode("gb18030") * 1)
    reading = read([tmp_path / "a.csv"], types="auto")
    (document,) = reading
    assert isinstance(document, Document)
    assert document.metadata == {"年份": 2024}
    assert [note.split()[0] for note in reading.notes] == ["read", "types"]


def test_a_pipe_cannot_be_read_twice_and_says_so(tmp_path: Path) -> None:
    pipe = tmp_path / "a.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)
    try:
        os.write(reader, b"text,year\nt,2024\n")
        items = list(read([pipe], types="auto", format="csv"))
    finally:
        os.close(reader)
    (rejection,) = items
    assert isinstance(rejection, Rejection)
    assert rejection.reason.startswith("types: expected a file for auto, which reads it twice, got a pipe")


def test_bytes_are_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    seen: list[int] = []
    list(read([tmp_path / "a.csv"], types="auto", on_bytes=seen.append))
    assert seen[-1] == len(CSV)
