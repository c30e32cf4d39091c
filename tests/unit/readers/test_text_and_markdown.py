from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gristmill.readers.markdown import headings, split_sections
from gristmill_schemas import Document, Rejection
from gristmill_schemas.limits import MAX_TEXT_BYTES

Read = Callable[..., tuple[list[Document], list[Rejection]]]


def test_a_text_file_is_one_document(read_bytes: Read) -> None:
    documents, _ = read_bytes("note.txt", b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\n")
    assert documents == [Document(id="note.txt", text="one\ntwo\n\nthree\n", metadata={"source": "note.txt"})]


def test_a_text_file_can_be_read_by_paragraph(read_bytes: Read) -> None:
    documents, _ = read_bytes("note.txt", "\n\none\ntwo\r\n \t\n\nthree", paragraphs=True)
    assert [(d.id, d.text) for d in documents] == [("note.txt#1", "one\ntwo"), ("note.txt#2", "three")]


def test_a_bad_byte_spoils_its_paragraph_alone(read_bytes: Read) -> None:
    documents, rejections = read_bytes("note.txt", b"one\n\ntwo\nt\xff\n\nthree", paragraphs=True)
    assert [d.id for d in documents] == ["note.txt#1", "note.txt#3"]
    assert [(r.position, r.reason) for r in rejections] == [
        (4, "encoding: expected UTF-8, got the byte 0xff at character 2 of the line; --encoding names another")
    ]


def test_a_bad_byte_in_a_whole_file_is_named_by_line(read_bytes: Read) -> None:
    documents, rejections = read_bytes("note.txt", b"one\ntwo\nt\xff\n")
    assert documents == []
    assert [(r.position, r.id) for r in rejections] == [(3, "note.txt")]


def test_a_text_file_over_the_limit_says_what_to_do(read_bytes: Read) -> None:
    content = ("x" * 1023 + "\n") * (MAX_TEXT_BYTES // 1024) + "y"
    _, rejections = read_bytes("note.txt", content)
    assert (
        rejections[0].reason
        == f"file: expected at most {MAX_TEXT_BYTES} bytes of text, got more; --paragraphs reads it by paragraph"
    )
    documents, rejections = read_bytes("note.txt", f"a\n\n{content}\n\nb", paragraphs=True)
    assert [d.text for d in documents] == ["a", "b"]
    assert "expected at most" in rejections[0].reason


def test_an_empty_text_file_is_rejected_rather_than_passed_over(read_bytes: Read) -> None:
    documents, rejections = read_bytes("note.txt", b"")
    assert documents == []
    assert "expected text to embed" in rejections[0].reason


GUIDE = """intro

# Install
Get it.

```sh
# not a heading
make
```

## From source
Build it.

Usage
=====
> # quoted, not a heading

## From source
Again.

# 空 标题!
正文
# Nothing below
"""


def test_markdown_is_cut_at_its_headings(read_bytes: Read) -> None:
    documents, rejections = read_bytes("guide.md", GUIDE)
    assert rejections == []
    assert [(d.id, d.metadata["headings"]) for d in documents] == [
        ("guide.md", []),
        ("guide.md#install", ["Install"]),
        ("guide.md#from-source", ["Install", "From source"]),
        ("guide.md#usage", ["Usage"]),
        ("guide.md#from-source~2", ["Usage", "From source"]),
        ("guide.md#空-标题", ["空 标题!"]),
    ]
    assert documents[1].text == "Install\n\nGet it.\n\n```sh\n# not a heading\nmake\n```"
    assert documents[4].text == "Usage › From source\n\nAgain."


def test_no_line_of_markdown_but_its_headings_is_lost() -> None:
    kept = "\n".join(section.body for section in split_sections(GUIDE))
    for line in filter(None, GUIDE.splitlines()):
        heading = (line.startswith("# ") and "not" not in line) or line.startswith(("## ", "===")) or line == "Usage"
        assert (line in kept.splitlines()) != heading or line == "# not a heading", line


def test_markdown_can_be_read_whole(read_bytes: Read) -> None:
    documents, _ = read_bytes("guide.md", GUIDE, sections=False)
    assert documents == [Document(id="guide.md", text=GUIDE, metadata={"source": "guide.md"})]


def test_markdown_of_headings_alone_is_one_document_and_an_empty_file_a_rejection(read_bytes: Read) -> None:
    documents, _ = read_bytes("guide.md", "# One\n## Two\n")
    assert [(d.id, d.text) for d in documents] == [("guide.md", "# One\n## Two\n")]
    documents, rejections = read_bytes("empty.md", "")
    assert documents == []
    assert "expected text to embed" in rejections[0].reason


def test_front_matter_becomes_metadata(read_bytes: Read) -> None:
    pytest.importorskip("yaml")
    documents, rejections = read_bytes(
        "guide.md", "---\nid: g\nversion: 4\ntags: [a, b]\ndate: 2026-11-24\n---\nintro\n# One\nbody\n"
    )
    assert rejections == []
    metadata = {"source": "guide.md", "tags": ["a", "b"], "date": "2026-11-24"}
    assert documents == [
        Document(id="g", version=4, text="intro", metadata={**metadata, "headings": []}),
        Document(id="g#one", version=4, text="One\n\nbody", metadata={**metadata, "headings": ["One"]}),
    ]


def test_broken_front_matter_is_named_by_line(read_bytes: Read) -> None:
    pytest.importorskip("yaml")
    documents, rejections = read_bytes("guide.md", "---\na: 1\nb: \tc: 2\n---\nbody\n")
    assert documents == []
    assert rejections[0].position == 3
    assert rejections[0].reason.startswith("front matter: expected YAML: ")


@pytest.mark.parametrize("between", ["- a\n- b\n", "just text\n", "", "\n"])
def test_what_is_no_front_matter_stays_in_the_text(read_bytes: Read, between: str) -> None:
    pytest.importorskip("yaml")
    content = f"---\n{between}---\nbody"
    documents, rejections = read_bytes("guide.md", content, sections=False)
    assert rejections == []
    assert documents[0].text == content


def test_a_rule_at_the_top_is_no_front_matter(read_bytes: Read) -> None:
    documents, rejections = read_bytes("guide.md", "---\n\nbody\n")
    assert rejections == []
    assert "body" in documents[0].text


def test_without_its_library_front_matter_is_refused_with_the_way_out(
    read_bytes: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    _, rejections = read_bytes("guide.md", "---\na: 1\n---\nbody\n")
    assert "pip install 'gristmill[files]'" in rejections[0].reason
    documents, _ = read_bytes("plain.md", "body\n")
    assert len(documents) == 1


def test_a_bad_byte_in_markdown_is_named_by_line(read_bytes: Read) -> None:
    _, rejections = read_bytes("guide.md", b"# a\n\nb\xff\n")
    assert [(r.position, r.id) for r in rejections] == [(3, "guide.md")]


def _nested_aliases(shape: str) -> str:
    """Each line holds the one before nine times."""
    lines = (
        f"{name}: &{name} {shape.format(', '.join([f'*{before}'] * 9))}" for before, name in pairwise("abcdefghij")
    )
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("front", "line", "reason"),
    [
        ("a: 1\ndate: 2024-02-30", 3, "expected a value, got '2024-02-30': day is out of range for month"),
        ("a: 1\n\nat: 2024-01-01 25:00:00", 4, "hour must be in 0..23"),
        ("a: 1\na: 2", 2, "expected the key 'a' once, got it more than once"),
        ("a: &a [*a]", 1, "expected shallow nesting"),
        ("a: " + "[" * 1200 + "]" * 1200, 1, "expected shallow nesting"),
        ("a: !!python/object:os.system x", 2, "could not determine a constructor"),
        ("n: " + "9" * 6000, 2, "limit (4300 digits)"),
        ("a: " + "x" * 70_000, 1, "expected at most 65536 characters, got 70004"),
        ("a: &a [x, x, x]\n" + _nested_aliases("[{}]"), 6, "at most 131072 characters once aliases are replaced"),
        ("a: &a {k: v}\n" + _nested_aliases("{{<<: [{}]}}"), 6, "once aliases are replaced"),
        ('a: &a "' + "x" * 30_000 + '"\nb: [' + "*a, " * 3000 + "]", 2, "once aliases are replaced"),
    ],
)
def test_front_matter_that_cannot_be_is_its_files_failure_named_by_line(
    read_bytes: Read, front: str, line: int, reason: str
) -> None:
    pytest.importorskip("yaml")
    documents, (rejection,) = read_bytes("guide.md", f"---\n{front.rstrip()}\n---\nbody\n")
    assert documents == []
    assert rejection.position == line
    assert rejection.reason.startswith("front matter: expected ")
    assert reason in rejection.reason


blocks = st.lists(
    st.sampled_from(
        [
            *("# a", "## b", "c\n===", "d\n---", "> # e", "- # f", "  # g", "    # h", "```\n# i\n```", "- j\n\n  # k"),
            *("1. l", "m", "", "<div>\n# n\n</div>", "```", "- o\n  - p\n\n# q", "<!--\n# r\n-->", "[s]: t", "***"),
        ]
    ),
    max_size=12,
).map("\n".join)


@settings(deadline=None, max_examples=200)
@given(blocks)
def test_headings_are_those_that_a_whole_parse_finds(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse(text)
    expected = [
        (token.map[0] if token.map else 0, inline.content)
        for token, inline in pairwise(tokens)
        if token.type == "heading_open" and token.level == 0
    ]
    assert [heading[0::3] for heading in headings(text)] == expected


@pytest.mark.parametrize("block", ["- a\n", "# a\nb\n", "> - ", "[a]: b\n", "*a_[", "- a\nb\n", "> a\n\n", "[a\n"])
def test_markdown_costs_time_in_proportion_to_its_length_and_little_memory(block: str) -> None:
    def cost(length: int) -> int:
        """Calls of Python functions: what a machine's mood does not change."""
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += 1

        text = block * (length // len(block))
        sys.setprofile(count)
        try:
            headings(text)
        finally:
            sys.setprofile(None)
        return calls

    assert cost(8_192) < 2.5 * cost(4_096)
