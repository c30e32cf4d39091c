"""JSON files: arrays in bounded memory, an element's failure is its own; objects and lines are told apart."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.readers import read
from gristmill_schemas import Document, Rejection

Read = Callable[..., tuple[list[Document], list[Rejection]]]
ROWS: list[dict[str, Any]] = [{"id": str(n), "text": f'say "{n}", [or] {{not}} \\', "year": n} for n in range(3)]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_gives_a_document_per_element(read_bytes: Read, name: str, indent: int | None) -> None:
    import gzip

    content = json.dumps(ROWS, indent=indent).encode()
    documents, rejections = read_bytes(name, gzip.compress(content) if name.endswith("gz") else content)
    assert rejections == []
    assert [(each.id, each.text, each.metadata) for each in documents] == [
        (row["id"], row["text"], {"year": row["year"]}) for row in ROWS
    ]


@pytest.mark.parametrize(
    "content",
    [
        '{"id": "0", "text": "a"}\n{"id": "1", "text": "b"}\n',
        '{"data": [{"id": "0", "text": "a"}, {"id": "1", "text": "b"}]}',
        '{"total": 2,\n "rows": [{"id": "0", "text": "a"}, {"id": "1", "text": "b"}]\n}',
    ],
)
def test_lines_and_wrapped_arrays_under_json_are_read(read_bytes: Read, content: str) -> None:
    documents, rejections = read_bytes("a.json", content)
    assert (rejections, [each.id for each in documents]) == ([], ["0", "1"])


@pytest.mark.parametrize(
    "content", ['{"id": "0", "text": "a"}', '\n\n{"id": "0",\n "text": "a",\n "tags": [{"k": 1}]}\n']
)
def test_one_object_is_one_document(read_bytes: Read, content: str) -> None:
    documents, rejections = read_bytes("a.json", content)
    assert (rejections, [each.id for each in documents]) == ([], ["0"])


@pytest.mark.parametrize("content", ["", "[]", "[\n]\n", "  "])
def test_an_empty_file_or_array_has_no_documents(read_bytes: Read, content: str) -> None:
    assert read_bytes("a.json", content) == ([], [])


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ('{"id": "x", "text": "a",}', "element 2 of the array: JSON: "),
        ('{"id": "x", "text": "a", "text": "b"}', "element 2 of the array: 'text': expected the field once"),
        ('{"id": "x", "text": NaN}', "element 2 of the array: JSON: expected a number or null, got NaN"),
        ("7", "element 2 of the array: JSON: expected an object per element, got int"),
        ("[1]", "element 2 of the array: JSON: expected an object per element, got list"),
        ("", "element 2 of the array: JSON: Expecting value"),
        ('{"id": "x"}', "element 2 of the array: text: expected the text to embed in this field, got only 'id'"),
        ("{" * 5000 + "}" * 5000, "element 2 of the array: JSON: "),
        ('{"id": "x", "text": "' + "a" * 9_000_000 + '"}', "element 2 of the array: expected at most 8388608 characters"),
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_a_broken_element_fails_alone_with_its_number_and_line(read_bytes: Read, broken: str, told: str) -> None:
    documents, (rejection,) = read_bytes(
        "a.json", f'[{{"id": "0", "text": "a"}},\n\n{broken},\n{{"id": "2", "text": "c"}}]'
    )
    assert [each.id for each in documents] == ["0", "2"]
    assert rejection.reason.startswith(told)
    assert rejection.position == (3 if broken else 1)


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("", "JSON: expected the array to end with ], got the end of the file after 1 elements: is it cut off?"),
        (',{"id": "1", "te', "JSON: expected the array to end with ], got the end of the file after 1 elements"),
        ("] more", "JSON: expected nothing after the array's end, got 'more'"),
    ],
)
def test_an_array_that_does_not_end_as_it_should_gives_what_was_whole(read_bytes: Read, ending: str, told: str) -> None:
    whole = '[{"id": "0", "text": "a"}'
    documents, (rejection,) = read_bytes("a.json", whole + ("," if ending == "" else "") + ending)
    assert [each.id for each in documents] == ["0"]
    assert rejection.reason.startswith(told)


def test_other_encodings_and_undecodable_bytes_are_named(read_bytes: Read) -> None:
    content = json.dumps([{"id": "0", "text": "这是一段用来测试的中文文本，编码应当被认出来。"}], ensure_ascii=False)
    (document,), rejections = read_bytes("a.json", content.encode("gb18030"))
    assert (document.text[:4], rejections) == ("这是一段", [])
    documents, (rejection,) = read_bytes("b.json", b'[{"id": "0", "text": "a\xff"}, {"id": "1", "text": "b"}]')
    assert ([each.id for each in documents], rejection.position) == (["1"], 1)
    assert "got the byte 0xff" in rejection.reason


def test_memory_does_not_grow_with_the_array(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    row = json.dumps({"text": "word " * 400})
    path.write_text("[" + ",\n".join([row] * 6000) + "]")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read([path])) == 6000
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 3
    finally:
        tracemalloc.stop()


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.lists(values, min_size=1, max_size=6), st.sampled_from([None, 1]))
def test_every_element_gives_one_item(tmp_path_factory: Any, elements: list[Any], indent: int | None) -> None:
    path = tmp_path_factory.getbasetemp() / "elements.json"
    path.write_text(json.dumps(elements, indent=indent))
    assert len(list(read([path]))) == len(elements)
