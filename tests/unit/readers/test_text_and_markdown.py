from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

from gristmill.readers.markdown import split_sections
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
    pytest.importorskip("frontmatter")
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
    pytest.importorskip("frontmatter")
    documents, rejections = read_bytes("guide.md", "---\na: 1\nb: \tc: 2\n---\nbody\n")
    assert documents == []
    assert rejections[0].position == 3
    assert rejections[0].reason.startswith("front matter: expected YAML: ")


@pytest.mark.parametrize("between", ["- a\n- b\n", "just text\n", "", "\n"])
def test_what_is_no_front_matter_stays_in_the_text(read_bytes: Read, between: str) -> None:
    pytest.importorskip("frontmatter")
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
