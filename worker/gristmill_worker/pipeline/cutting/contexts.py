"""What stands before a chunk's text where the model reads it: the document's title, or the headings above the chunk.

It is no part of the text: spans and stored texts do not know of it. What a chunk says itself is not said twice. What is too
long is shortened: the outermost headings go first, then the end of what is left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from gristmill_schemas import ChunkBy, ChunkContext, Chunking, Document
from gristmill_worker.encoder.base import TextReader
from gristmill_worker.encoder.chunking import Heading, outline

#: Most tokens of a context, and the largest part of the model's window that it may take.
MOST_TOKENS: Final = 64
_PART: Final = 4
#: Tokens between a context and its chunk, at most.
_GAP_TOKENS: Final = 4
#: Characters that are looked at of one title or heading.
_MOST_CHARS: Final = 512

Span = tuple[int, int]
#: The outermost heading first.
Path = tuple[str, ...]


class Contexts:
    """Says what stands above each chunk, in so many tokens of one model as there is room for."""

    def __init__(self, reader: TextReader) -> None:
        self._reader = reader

    def reserved(self, policy: Chunking) -> int:
        """Tokens of the model's window that chunks leave free for what stands above them."""
        return 0 if policy.context is ChunkContext.NONE else self._room + _GAP_TOKENS

    @property
    def _room(self) -> int:
        return min(MOST_TOKENS, self._reader.info.max_tokens // _PART)

    def of(self, policy: Chunking, document: Document, spans: Sequence[Span]) -> list[str]:
        """For each chunk a line; an empty one where nothing stands above it, or where it says so itself."""
        if policy.context is ChunkContext.NONE:
            return [""] * len(spans)
        found = paths(policy, document, spans)
        lines = self._lines({path for path in found if path})
        return [lines.get(path, "") for path in found]

    def _lines(self, wanted: Iterable[Path]) -> dict[Path, str]:
        each = list(wanted)
        whole = [_line(path) for path in each]
        lengths = [self._fits_in(item.n_tokens, item.truncated) for item in self._reader.tokenize(whole)]
        return {
            path: line if fits else self._shortened(path) for path, line, fits in zip(each, whole, lengths, strict=True)
        }

    def _shortened(self, path: Path) -> str:
        while len(path) > 1 and not self._fits(_line(path)):
            path = path[1:]
        line = _line(path)
        if self._fits(line):
            return line
        length = bisect_left(range(1, len(line)), True, key=lambda length: not self._fits(line[:length]))
        return line[:length].rstrip()

    def _fits(self, line: str) -> bool:
        (item,) = self._reader.tokenize([line])
        return self._fits_in(item.n_tokens, item.truncated)

    def _fits_in(self, tokens: int, truncated: bool) -> bool:
        return not truncated and tokens <= self._room


def paths(policy: Chunking, document: Document, spans: Sequence[Span]) -> list[Path]:
    """For each chunk what stands above it and does not stand in it."""
    text = document.text
    given = tuple(each[:_MOST_CHARS] for each in policy.context_in(document.metadata))
    inner = [()] * len(spans) if len(spans) == 1 else _inner(policy, text, spans, titled=bool(given))
    found = [(*given, *path) for path in inner]
    return [() if _says(text[start:end], path) else path for path, (start, end) in zip(found, spans, strict=True)]


def _inner(policy: Chunking, text: str, spans: Sequence[Span], *, titled: bool) -> list[Path]:
    """What the text itself says above each of its chunks."""
    if policy.context is ChunkContext.HEADINGS:
        return _headings_above(outline(text), text, spans)
    if titled or policy.by is not ChunkBy.MARKDOWN:
        return [()] * len(spans)
    first = next((heading for heading in outline(text) if heading.depth == 1), None)
    return [(_title(first.title),) if first and first.start < start else () for start, _ in spans]


def _headings_above(headings: Sequence[Heading], text: str, spans: Sequence[Span]) -> list[Path]:
    """The headings over what is new in each chunk, without those that stand in the chunk itself."""
    path: list[Heading] = []
    found: list[Path] = []
    number, before = 0, 0
    for start, end in spans:
        new = max(start, before)
        new += len(text[new:end]) - len(text[new:end].lstrip())
        while number < len(headings) and headings[number].start <= new:
            path = [above for above in path if above.depth < headings[number].depth] + [headings[number]]
            number += 1
        found.append(tuple(title for each in path if each.start < start and (title := _title(each.title))))
        before = end
    return found


def _says(chunk: str, path: Path) -> bool:
    """Whether a chunk begins with its context, as the reader of Markdown writes it or as a heading of its own."""
    return bool(path) and chunk.lstrip().partition("\n")[0].strip("# \t\r") == _line(path)


def _line(path: Path) -> str:
    return " › ".join(path)


def _title(title: str) -> str:
    return " ".join(title[:_MOST_CHARS].split())
