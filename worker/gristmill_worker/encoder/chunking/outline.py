"""The headings of a Markdown text, with the characters at which they stand.

They are found by the reader's own parser (markdown-it-py, its block rules alone: linear in the text's length), so that a `#`
in a code block is none, and one that is underlined is one. Offsets are into the text as it is, whatever ends its lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_LINE_END: Final = re.compile(r"\r\n?|\n")
#: To a parser that knows no front matter its last line is a heading, underlined.
_FRONT_MATTER: Final = re.compile(r"---[ \t]*(?:\r\n?|\n)(?:[^\r\n]*(?:\r\n?|\n))*?(?:---|\.\.\.)[ \t]*(?:\r\n?|\n|\Z)")
#: What nests deeper than anybody writes, and costs the splitter's parser a square of its depth for each line.
_TOO_DEEP: Final = re.compile(
    r"^(?:(?:[ \t]*>|[ \t]*[*+-][ \t]){16}|[ \t]{64,}(?:[*+>-]|\d{1,9}[.)])[ \t])", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Heading:
    """One heading at top level."""

    #: Characters [start, end) of the line or lines that it takes.
    start: int
    end: int
    #: 1 to 6.
    depth: int
    title: str


def outline(text: str) -> list[Heading]:
    """The headings of a text in their order; those in lists and quotations are none of its own."""
    if "#" not in text and "=" not in text and "-" not in text:
        return []
    from gristmill.readers.markdown import headings

    front = _FRONT_MATTER.match(text)
    offset = front.end() if front else 0
    body = text[offset:]
    ends = [offset + match.end() for match in _LINE_END.finditer(body)]
    starts = [offset, *ends, len(text)]
    last = len(starts) - 1
    return [
        Heading(starts[min(first, last)], starts[min(after, last)], depth, title)
        for first, after, depth, title in headings(body)
    ]


def is_readable(text: str) -> bool:
    """Whether a text may be taken for Markdown, by how deep it nests."""
    return _TOO_DEEP.search(text) is None
