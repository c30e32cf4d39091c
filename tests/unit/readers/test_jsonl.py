from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill.readers import read
from gristmill.readers.files.lines import MAX_LINE_CHARS
from gristmill_schemas import Document, Rejection
from gristmill_schemas.limits import MAX_TEXT_BYTES

Read = Callable[..., tuple[list[Document], list[Rejection]]]


def test_unknown_fields_join_the_metadata(read_bytes: Read) -> None:
    documents, rejections = read_bytes(
        "a.jsonl",
        '{"id": 7, "text": "你好", "lang": "zh", "metadata": {"page": {"n": [3]}}, "tenant": "t", "version": 5}',
    )
    assert rejections == []
    assert documents == [
        Document(id="7", text="你好", metadata={"lang": "zh", "page": {"n": [3]}}, tenant="t", version=5)
    ]


def test_other_fields_can_be_id_and_text(read_bytes: Read) -> None:
    documents, _ = read_bytes("a.jsonl", '{"key": "k", "body": "b", "id": 1}', id_field="key", text_field="body")
    assert documents == [Document(id="k", text="b", metadata={"id": 1})]


def test_a_record_without_id_gets_the_same_one_on_every_reading(read_bytes: Read) -> None:
    first, _ = read_bytes("faq.jsonl", '{"text": "one"}\n{"text": "two", "id": null}')
    again, _ = read_bytes("faq.jsonl", '{"text": "two"}\n{"text": "one", "lang": "en"}')
    assert {d.text: d.id for d in first} == {d.text: d.id for d in again}
    assert all(re.fullmatch(r"faq\.jsonl#[0-9a-f]{16}", d.id) for d in first)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "x", "text": "a"', r"JSON: Expecting ',' delimiter at character 24, near"),
        ("[1, 2]", "JSON: expected an object per line, got list"),
        ('"text"', "JSON: expected an object per line, got str"),
        ('{"id": "x"}', "text: expected the text to embed in this field, got only 'id'; --text-field names another"),
        ('{"id": "x", "text": null}', "text: .* got null"),
        ('{"id": "x", "text": ""}', "text: expected text to embed, got an empty or blank string"),
        ('{"id": "x", "text": 5}', "text: expected a string, got int"),
        ('{"id": "x", "text": "a\\u0000b"}', "text: expected text without NUL bytes, got one at character 1"),
        ('{"id": "x", "text": "a\\ud800"}', "text: expected valid Unicode, got the lone surrogate"),
        ('{"id": "\\ud800", "text": "a"}', "id: expected valid Unicode"),
        ('{"id": "", "text": "a"}', "id: expected a non-empty id"),
        ('{"id": 1.5, "text": "a"}', "id: expected a string, got float"),
        ('{"id": true, "text": "a"}', "id: expected a string, got bool"),
        ('{"id": "x", "text": "a", "score": NaN}', "JSON: expected a number or null, got NaN"),
        ('{"id": "x", "text": "a", "score": -Infinity}', "JSON: expected a number or null, got -Infinity"),
        ('{"id": "x", "text": "a", "score": 1e999}', "expected a finite number, got inf"),
        ('{"id": "x", "text": "a", "n": 9223372036854775808}', "expected an integer of 64 bits"),
        ('{"id": "x", "text": "a", "text": "b"}', "'text': expected the field once"),
        ('{"id": "x", "text": "a", "m": {"k": 1, "k": 2}}', "'k': expected the field once"),
        ('{"id": "x", "text": "a", "k": 1, "metadata": {"k": 2}}', "metadata: expected one value of 'k', got two"),
        ('{"id": "x", "text": "a", "\\ud800": 1, "metadata": {"\\ud800": 2}}', "metadata: expected one value"),
        ('{"id": "x", "text": "a", "metadata": [1]}', "metadata: expected a JSON object, got list"),
        ('{"id": "x", "text": "a", "_gristmill": 1}', "metadata: the key '_gristmill' is reserved"),
        ('{"id": "x", "text": "a", "version": "3"}', "version: .*integer, got '3'"),
        ('{"id": "x", "text": "a", "n": ' + "9" * 5000 + "}", "JSON: .*digits"),
        ('{"a":' * 100_000, "JSON: expected shallow nesting"),
        ('{"id": "x", "text": "a", "m": ' + "[" * 20 + "]" * 20 + "}", "expected nesting of at most"),
    ],
)
def test_a_bad_line_is_named_and_its_neighbours_are_read(read_bytes: Read, line: str, reason: str) -> None:
    documents, rejections = read_bytes("a.jsonl", f'{{"id": 1, "text": "one"}}\n{line}\n{{"id": 3, "text": "three"}}\n')
    assert [document.id for document in documents] == ["1", "3"]
    assert [(r.position, Path(r.source or "").name) for r in rejections] == [(2, "a.jsonl")]
    assert re.search(reason, rejections[0].reason), rejections[0].reason
    assert rejections[0].id in ("x", None, "1.5", "")
    rejections[0].model_dump_json()


def test_bytes_that_are_no_utf8_are_named_by_line_and_place(read_bytes: Read) -> None:
    documents, rejections = read_bytes("a.jsonl", b'{"id": 1, "text": "one"}\n{"id": 2, "text": "\xff"}\n')
    assert len(documents) == 1
    assert str(rejections[0]).endswith(
        "a.jsonl:2: encoding: expected UTF-8, got the byte 0xff at character 20 of the line; --encoding names another"
    )


def test_byte_order_mark_crlf_and_blank_lines_are_no_matter(read_bytes: Read) -> None:
    documents, rejections = read_bytes(
        "a.jsonl",
        b'\xef\xbb\xbf{"id": 1, "text": "one"}\r\n\r\n   \n{"id": 2, "text": "two"}\r\n\n{"id": 3, "text": "x"',
    )
    assert [document.id for document in documents] == ["1", "2"]
    assert [rejection.position for rejection in rejections] == [6]


def test_an_empty_file_has_no_documents(read_bytes: Read) -> None:
    assert read_bytes("a.jsonl", b"") == ([], [])


def test_the_largest_text_passes_even_fully_escaped(read_bytes: Read) -> None:
    line = json.dumps({"id": 1, "text": "\x01" * MAX_TEXT_BYTES})
    assert len(line) > 6 * MAX_TEXT_BYTES
    documents, rejections = read_bytes("a.jsonl", line)
    assert rejections == []
    assert len(documents[0].text) == MAX_TEXT_BYTES


def test_a_line_beyond_the_bound_is_skipped_whole(read_bytes: Read) -> None:
    huge = b'{"id": 1, "text": "' + b"x" * (2 * MAX_LINE_CHARS) + b'"}'
    documents, rejections = read_bytes("a.jsonl", huge + b'\n{"id": 2, "text": "two"}\n' + huge)
    assert [document.id for document in documents] == ["2"]
    assert [rejection.position for rejection in rejections] == [1, 3]
    assert rejections[0].reason == f"line: expected at most {MAX_LINE_CHARS} characters, got {len(huge) + 1}"


def test_standard_input_is_read_as_jsonl(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.BytesIO(b'{"text": "one"}\nnot json\n')
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stdin))
    document, rejection = list(read(["-"]))
    assert isinstance(document, Document)
    assert document.id.startswith("stdin#")
    assert str(rejection).startswith("standard input:2: JSON: ")
    assert not stdin.closed


def test_a_field_that_occurs_twice_is_found_in_linear_time(read_bytes: Read) -> None:
    # Quadratic, this takes hours.
    fields = ", ".join(f'"k{n}": 1' for n in range(100_000))
    documents, (rejection,) = read_bytes("a.jsonl", f'{{"text": "a", {fields}, "k99999": 2}}')
    assert documents == []
    assert "'k99999': expected the field once" in rejection.reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
lines = st.one_of(
    st.sampled_from([b"", b" ", b"\t\r"]),
    # Text, whatever it says: bytes that are none, or that begin another format, are judged as a file (test_encodings).
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40).map(lambda line: f"x{line}".encode()),
    st.dictionaries(st.sampled_from(["id", "text", "metadata", "version", "tenant", "k"]), json_values).map(
        lambda record: json.dumps(record).encode()
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(st.lists(lines, max_size=6))
def test_whatever_the_lines_hold_each_gives_one_item_in_order(tmp_path: Path, content: list[bytes]) -> None:
    path = tmp_path / "any.jsonl"
    path.write_bytes(b"\n".join(content))
    items: list[Any] = list(read([path]))
    assert len(items) == sum(1 for line in content if line.strip())
    positions = [item.position for item in items if isinstance(item, Rejection)]
    assert positions == sorted(positions)
    for item in items:
        item.model_dump_json()
