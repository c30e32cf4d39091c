"""Markdown: each section under a heading is a document, or the whole file is.

    ---                          front matter, YAML: becomes metadata of every document of the file; `id`, `tenant` and
    tags: [setup]                `version` there are the documents' own
    ---
    # Install                    id `guide.md#install`, metadata {"source": "guide.md", "headings": ["Install"], …}
    Text …
    ## From source               id `guide.md#from-source`, text "Install › From source", blank line, the section's text

Headings are found by markdown-it-py, a CommonMark parser (Rich brings it along), so a `#` inside a code block is none.
Front matter is read by python-frontmatter.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt

from gristmill.readers.base import Item, Options
from gristmill.readers.files.lines import BadLine, whole_text
from gristmill.readers.files.source import Source
from gristmill.readers.records import plain, to_document

#: Largest file: it is parsed as a whole.
MAX_FILE_BYTES = 32 * 1024 * 1024
#: Characters of a heading that go into its anchor.
_MAX_SLUG_CHARS = 80

_FRONT_MATTER = re.compile(r"---[ \t]*\n(?:.*\n)*?---[ \t]*(?:\n|$)")


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
        front, skipped, body = _front_matter(content)
    except BadLine as error:
        yield source.reject(error.line, str(error), source.key)
        return
    base: dict[str, Any] = {"id": source.key} | {name: front.pop(name) for name in _OWN if front.get(name) is not None}
    metadata = {"source": source.key, **front}
    found = list(split_sections(body)) if options.sections else []
    if not found:
        yield to_document({**base, "text": body, "metadata": metadata}, source, 1, Options())
    for section in found:
        anchor = source.anchor(_slug(section.headings[-1])) if section.headings else ""
        yield to_document(_record(base, metadata, anchor, section), source, skipped + section.line + 1, Options())


def _record(base: dict[str, Any], metadata: dict[str, Any], anchor: str, section: Section) -> dict[str, Any]:
    return {
        **base,
        "id": f"{base['id']}{anchor}",
        "text": "\n\n".join(filter(None, (" › ".join(section.headings), section.body))),
        "metadata": {**metadata, "headings": list(section.headings)},
    }


_OWN = ("id", "tenant", "version")


def _front_matter(content: str) -> tuple[dict[str, Any], int, str]:
    """Front matter, how many lines it takes, and what follows it."""
    found = _FRONT_MATTER.match(content)
    if found is None:
        return {}, 0, content
    if importlib.util.find_spec("frontmatter") is None:
        raise BadLine(
            "front matter: reading it needs python-frontmatter, which is not installed; "
            "run: pip install 'gristmill[files]'",
            line=1,
        )
    import frontmatter
    import yaml

    try:
        front, _ = frontmatter.parse(found[0])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise BadLine(f"front matter: expected YAML: {_problem(error)}", line=mark.line + 1 if mark else 1) from None
    if not front:
        # Between the two rules is prose, or a list, or nothing: that is the file's own.
        return {}, 0, content
    return plain(front), found[0].count("\n"), content[found.end() :]


def _problem(error: Exception) -> str:
    return getattr(error, "problem", None) or str(error).splitlines()[0]


def split_sections(text: str) -> Iterator[Section]:
    """Cut Markdown at its top-level headings, of whatever depth; nothing but headings is left out."""
    # Not splitlines: the parser counts line feeds, and only them.
    lines = text.split("\n")
    tokens = MarkdownIt("commonmark").parse(text)
    starts = [
        (token.map[0], token.map[1], int(token.tag[1:]), inline.content)
        for token, inline in pairwise(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map
    ]
    first = starts[0][0] if starts else len(lines)
    yield from _non_empty(Section((), 0, "\n".join(lines[:first])))
    path: list[tuple[int, str]] = []
    for (start, body, depth, title), (end, *_) in pairwise([*starts, (len(lines), 0, 0, "")]):
        path = [*(above for above in path if above[0] < depth), (depth, title)]
        yield from _non_empty(Section(tuple(name for _, name in path), start, "\n".join(lines[body:end])))


def _non_empty(section: Section) -> Iterator[Section]:
    if section.body.strip():
        yield Section(section.headings, section.line, section.body.strip())


def _slug(title: str) -> str:
    """A heading's anchor, made as GitHub makes it; it holds no `#` and no `~`."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")[:_MAX_SLUG_CHARS]
