"""Markdown: each section under a heading is a document, or the whole file is.

    ---                          front matter, YAML: becomes metadata of every document of the file; `id`, `tenant` and
    tags: [setup]                `version` there are the documents' own
    ---
    # Install                    id `guide.md#install`, metadata {"source": "guide.md", "headings": ["Install"], …}
    Text …
    ## From source               id `guide.md#from-source`, text "Install › From source", blank line, the section's text

Headings are found by markdown-it-py, a CommonMark parser (Rich brings it along), so a `#` inside a code block is none.
Only its rules for blocks run, which takes a time linear in the file's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token

from gristmill.readers.base import Item, Options, record_of
from gristmill.readers.files.lines import BadLine, whole_text
from gristmill.readers.files.source import Source
from gristmill.readers.front_matter import split_front_matter
from gristmill.readers.records import to_document

#: Largest file: it is parsed as a whole.
MAX_FILE_BYTES = 8 * 1024 * 1024
#: Characters of a heading that go into its anchor.
_MAX_SLUG_CHARS = 80


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of the file under one heading, or before the first."""

    #: Headings from the outermost to its own; empty before the first.
    headings: tuple[str, ...]
    #: First line, from 0.
    line: int
    #: Without the heading itself.
    body: str


def read_markdown(source: Source, options: Options) -> Iterator[Item]:
    """Documents of one file; positions are line numbers.

    A section without text of its own is no document; where no section has any, the file is one.
    """
    try:
        with source.open_text() as text:
            content = whole_text(text, MAX_FILE_BYTES)
        front, skipped, body = split_front_matter(content)
    except BadLine as error:
        yield source.reject(error.line, str(error), source.key)
        return
    base: dict[str, Any] = {"id": source.key} | {name: front.pop(name) for name in _OWN if front.get(name) is not None}
    yield from items_of(body, source, options, base, {"source": source.key, **front}, skipped)


def items_of(
    body: str,
    source: Source,
    options: Options,
    base: dict[str, Any],
    metadata: dict[str, Any],
    skipped: int = 0,
) -> Iterator[Item]:
    """Documents of Markdown, wherever it came from.

    Args:
        body: the Markdown.
        source: the file that it came from.
        options: whether its sections are documents.
        base: `id`, and whatever else is the documents' own.
        metadata: of every document.
        skipped: lines of the file before it.
    """
    found = list(split_sections(body)) if options.sections else []
    if not found:
        yield _item({**base, "text": body, "metadata": metadata}, source, 1)
    for section in found:
        anchor = source.anchor(_slug(section.headings[-1])) if section.headings else ""
        yield _item(_record(base, metadata, anchor, section), source, skipped + section.line + 1)


def _item(record: dict[str, Any], source: Source, line: int) -> Item:
    return record_of(source, line, lambda: to_document(record, source, line, Options()))


def _record(base: dict[str, Any], metadata: dict[str, Any], anchor: str, section: Section) -> dict[str, Any]:
    return {
        **base,
        "id": f"{base['id']}{anchor}",
        "text": "\n\n".join(filter(None, (" › ".join(section.headings), section.body))),
        "metadata": {**metadata, "headings": list(section.headings)},
    }


_OWN = ("id", "tenant", "version")


def split_sections(text: str) -> Iterator[Section]:
    """Cut Markdown at its top-level headings, of whatever depth; nothing but headings is left out."""
    # Not splitlines: the parser counts line feeds, and only them.
    lines = text.split("\n")
    starts = headings(text)
    first = starts[0][0] if starts else len(lines)
    yield from _non_empty(Section((), 0, "\n".join(lines[:first])))
    path: list[tuple[int, str]] = []
    for (start, body, depth, title), (end, *_) in pairwise([*starts, (len(lines), 0, 0, "")]):
        path = [*(above for above in path if above[0] < depth), (depth, title)]
        yield from _non_empty(Section(tuple(name for _, name in path), start, "\n".join(lines[body:end])))


def headings(text: str) -> list[tuple[int, int, int, str]]:
    """Of each heading at top level: its first line, the line after it, its depth and its title."""
    found: list[tuple[int, int, int, str]] = []

    def harvest(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        """A rule that matches nothing: before each block it takes the headings so far and drops all other tokens.

        Kept, they would take 500 bytes for each line of a list.
        """
        if not silent:
            found.extend(_top_level(state.tokens))
            state.tokens.clear()
        return False

    # What is inside a paragraph takes most of the time, and is of no interest here.
    parser = MarkdownIt("commonmark").disable("inline")
    parser.block.ruler.before("code", "harvest", harvest)
    return found + list(_top_level(parser.parse(text)))


def _top_level(tokens: list[Token]) -> Iterator[tuple[int, int, int, str]]:
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map:
            yield token.map[0], token.map[1], int(token.tag[1:]), inline.content


def _non_empty(section: Section) -> Iterator[Section]:
    if section.body.strip():
        yield Section(section.headings, section.line, section.body.strip())


def _slug(title: str) -> str:
    """A heading's anchor, made as GitHub makes it; it holds no `#` and no `~`."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")[:_MAX_SLUG_CHARS]
