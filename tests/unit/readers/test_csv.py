from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill.readers import read
from gristmill.readers.files.lines import MAX_LINE_CHARS
from gristmill_schemas import Document, Rejection
from gristmill_schemas.limits import MAX_TEXT_BYTES

Read = Callable[..., tuple[list[Document], list[Rejection]]]


def test_columns_become_id_text_and_metadata(read_bytes: Read) -> None:
    documents, rejections = read_bytes(
        "a.csv", 'id,text,lang,postcode,metadata,version\n7,你好,zh,01234,"{""page"": 3}",5\n8,hi,,,,\n'
    )
    assert rejections == []
    assert documents == [
        Document(id="7", text="你好", metadata={"lang": "zh", "postcode": "01234", "page": 3}, version=5),
        Document(id="8", text="hi"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_in_the_header(read_bytes: Read, delimiter: str) -> None:
    content = f'id{delimiter}text\n1{delimiter}"a,b;c\td"\n'
    documents, _ = read_bytes("a.tsv", content)
    assert documents == [Document(id="1", text="a,b;c\td")]


def test_a_cell_may_hold_lines_and_quotes(read_bytes: Read) -> None:
    documents, rejections = read_bytes("a.csv", 'id,text\r\n1,"two\r\nlines, ""quoted"""\r\n2,x,y\r\n')
    assert documents == [Document(id="1", text='two\r\nlines, "quoted"')]
    assert [rejection.position for rejection in rejections] == [4]


def test_a_byte_order_mark_is_not_part_of_the_first_column(read_bytes: Read) -> None:
    documents, _ = read_bytes("a.csv", b"\xef\xbb\xbfid,text\n1,a\n")
    assert documents == [Document(id="1", text="a")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"2,a,b,c", "row: expected 3 cells as in the header, got 4"),
        (b"2", "row: expected 3 cells as in the header, got 1"),
        (b"2,,x", "text: expected the text to embed in this field, got only 'id', 'n'"),
        (b"2,caf\xe9,x", "'text': expected UTF-8, got the byte 0xe9 at character 4 of the cell"),
        (b'2,"a"b,x', "CSV: ',' expected after '\"'"),
        (b"2,\0,x", "text: expected text without NUL bytes|CSV: line contains NUL"),
    ],
)
def test_a_bad_row_is_named_and_its_neighbours_are_read(read_bytes: Read, row: bytes, reason: str) -> None:
    documents, rejections = read_bytes("a.csv", b"id,text,n\n1,one,x\n" + row + b"\n3,three,x\n")
    assert [document.id for document in documents] == ["1", "3"]
    assert [rejection.position for rejection in rejections] == [3]
    assert re.search(reason, rejections[0].reason), rejections[0].reason


def test_a_version_or_metadata_cell_of_the_wrong_kind_is_named(read_bytes: Read) -> None:
    documents, rejections = read_bytes("a.csv", "id,text,version,metadata\n1,a,v2,\n2,b,,[1]\n3,c,2,{}\n")
    assert [document.id for document in documents] == ["3"]
    assert [(r.id, r.reason) for r in rejections] == [
        ("1", "version: expected an integer, got 'v2'"),
        ("2", "JSON: expected an object per line, got list"),
    ]


def test_a_quote_that_is_never_closed_is_an_error_and_not_one_long_text(read_bytes: Read) -> None:
    documents, rejections = read_bytes("a.csv", 'id,text\n1,a\n2,"b\n3,c\n4,d\n')
    assert [document.id for document in documents] == ["1"]
    assert [(r.position, r.reason) for r in rejections] == [(3, "CSV: unexpected end of data (lines 3 to 5)")]


def test_reading_resumes_after_a_missing_quote(read_bytes: Read) -> None:
    documents, rejections = read_bytes("a.csv", 'id,text\n1,"a\n2,"b"\n3,c\n')
    assert [document.id for document in documents] == ["3"]
    assert [rejection.position for rejection in rejections] == [2]
    assert "(lines 2 to 3)" in rejections[0].reason


def test_the_largest_text_passes_and_a_larger_one_fails_alone(read_bytes: Read) -> None:
    largest, larger = "x" * MAX_TEXT_BYTES, "x" * (MAX_TEXT_BYTES + 1)
    documents, rejections = read_bytes("a.csv", f"id,text\n1,{largest}\n2,{larger}\n3,c\n")
    assert [document.id for document in documents] == ["1", "3"]
    assert [rejection.position for rejection in rejections] == [3]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "text: expected a column of this name in the header, got an empty file; --text-field names another"),
        ("a,b\n1,2\n", "text: expected a column of this name in the header, got 'a', 'b'; --text-field names another"),
        ("文本,b\n1,2\n", "'文本', 'b'"),
        ("text,b,b\n1,2,3\n", "'b': expected the column once"),
    ],
)
def test_a_header_without_the_text_column_is_named_once(read_bytes: Read, content: str, reason: str) -> None:
    documents, rejections = read_bytes("a.csv", content)
    assert documents == []
    assert [rejection.position for rejection in rejections] == [1]
    assert reason in rejections[0].reason


def test_a_column_without_a_name_gets_its_number(read_bytes: Read) -> None:
    documents, _ = read_bytes("a.csv", ",text\n0,a\n")
    assert documents[0].metadata == {"column_1": "0"}


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(cells.filter(lambda cell: bool(cell.strip())), min_size=1, max_size=5))
def test_what_csv_writes_comes_back(tmp_path: Path, texts: list[str]) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, quoting=csv.QUOTE_ALL)
    writer.writerows([["id", "text"], *([f"i{number}", text] for number, text in enumerate(texts))])
    path = tmp_path / "any.csv"
    path.write_bytes(written.getvalue().encode())
    assert [item.text if isinstance(item, Document) else item for item in read([path])] == texts


@pytest.mark.parametrize("columns", [16_385, 50_000])
def test_a_header_beyond_the_bound_is_refused_by_name(read_bytes: Read, columns: int) -> None:
    header = ",".join(["text", *(f"c{n}" for n in range(columns - 1))])
    documents, (rejection,) = read_bytes("a.csv", f"{header}\n{',' * (columns - 1)}\n")
    assert documents == []
    assert (rejection.position, rejection.reason) == (1, f"header: expected at most 16384 columns, got {columns}")


def test_as_many_columns_as_a_sheet_has_are_read(read_bytes: Read) -> None:
    header = ",".join(["text", *(f"c{n}" for n in range(16_383))])
    (document,), rejections = read_bytes("a.csv", f"{header}\nhello{',' * 16_382},last\n")
    assert rejections == []
    assert document.metadata == {"c16382": "last"}


def test_a_row_beyond_the_bound_is_refused_by_name_however_many_lines_it_has(read_bytes: Read) -> None:
    one_line = "2," + "x," * (MAX_LINE_CHARS // 2) + "\n"
    many_lines = '3,"' + ("x" * 1000 + "\n") * 1000 + '",' + ('"' + ("y" * 9_999 + "\n") * 80 + '",') * 12 + "\n"
    documents, rejections = read_bytes("a.csv", f"id,text\n1,a\n{one_line}{many_lines}9,z\n")
    assert [document.id for document in documents] == ["1", "9"]
    assert [rejection.position for rejection in rejections] == [3, 4]
    assert all(f"expected at most {MAX_LINE_CHARS} characters" in rejection.reason for rejection in rejections)
