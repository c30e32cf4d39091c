"""CPython's own language reference, cut into passages: real text that every Python carries, in `pydoc_data.topics`.

A topic is plain text in the layout of Sphinx's text builder:

    The "with" statement          title, underlined with ***
    ********************
                                  blank line between paragraphs
    The "with" statement is …
                                  indented: belongs to the paragraph above (grammar, example, body of a definition)
       with_stmt ::= "with" …
    Section                       underlined with ===, ---, ~~~: deeper levels
    =======

Each section is packed into passages of about 500 to 1,500 characters; a definition (`str.casefold()` and its body)
begins a passage of its own. Large topics contain small ones word for word ("compound" contains "with"), so small topics
come first and a passage seen before is dropped. Python 3.11 gives 572 passages with a median of 620 characters; a few
tables exceed the demo model's 512 tokens and show how long texts are chunked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pydoc_data.topics import topics

from gristmill_schemas import Document

#: A passage at least this long is closed by the next paragraph that begins a thought of its own.
FULL_CHARS = 500
#: No passage grows beyond this by adding a paragraph; about 400 tokens, below the model's 512.
MAX_CHARS = 1_500

_UNDERLINE = re.compile(r"([*=\-~^])\1{2,}")
_SIGNATURE = re.compile(r"(class |exception |coroutine )?[\w.]+(\(.*\)|\[.*\])$")


@dataclass(frozen=True, slots=True)
class Section:
    """One heading and the text up to the next."""

    #: Titles from the topic's down to this one.
    titles: tuple[str, ...]
    body: str


def language_reference() -> Iterator[Document]:
    """The reference as documents; the same Python version gives the same ids and texts in the same order.

    Ids are `topic-NNN`. Metadata: topic, title, section (where there is one), python (version) and lang.
    """
    seen: set[str] = set()
    for topic in sorted(topics, key=lambda name: (len(topics[name]), name)):
        fresh = ((titles, text) for titles, text in _passages(topics[topic]) if text not in seen)
        for number, (titles, text) in enumerate(fresh):
            seen.add(text)
            yield _document(topic, number, titles, text)


def _document(topic: str, number: int, titles: tuple[str, ...], text: str) -> Document:
    metadata = {
        "topic": topic,
        "title": titles[0],
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "lang": "en",
    }
    if len(titles) > 1:
        metadata["section"] = titles[-1]
    # The titles are part of what is embedded: a passage alone often does not say what it is about.
    return Document(id=f"{topic}-{number:03}", text=f"{' › '.join(titles)}\n\n{text}", metadata=metadata)


def _passages(topic: str) -> Iterator[tuple[tuple[str, ...], str]]:
    for section in split_sections(topic):
        for passage in pack(section.body):
            yield section.titles, passage


def split_sections(topic: str) -> Iterator[Section]:
    """Cut one topic at its underlined headings."""
    lines = topic.splitlines()
    headings = [at for at, (title, line) in enumerate(pairwise(lines)) if _is_underlined(title, line)]
    titles: list[str] = []
    levels: list[str] = []
    for at, end in pairwise([*headings, len(lines)]):
        mark = lines[at + 1][0]
        depth = levels.index(mark) if mark in levels else len(levels)
        titles, levels = [*titles[:depth], lines[at].replace('"', "")], [*levels[:depth], mark]
        yield Section(tuple(titles), "\n".join(lines[at + 2 : end]))


def _is_underlined(title: str, line: str) -> bool:
    return bool(title[:1].strip() and _UNDERLINE.fullmatch(line) and abs(len(line) - len(title)) <= 2)


def pack(body: str) -> Iterator[str]:
    """Join a section's paragraphs into passages, in order; nothing is lost and nothing repeated."""
    passage = ""
    for paragraph in filter(None, (part.strip("\n") for part in re.split(r"\n\s*\n", body))):
        if passage and _begins_anew(paragraph, passage):
            yield passage
            passage = ""
        passage += f"\n\n{paragraph}" if passage else paragraph
    if passage:
        yield passage


def _begins_anew(paragraph: str, passage: str) -> bool:
    if len(passage) + len(paragraph) > MAX_CHARS:
        return True
    if paragraph[0].isspace():
        return False
    return len(passage) >= FULL_CHARS or bool(_SIGNATURE.match(paragraph.splitlines()[0]))
