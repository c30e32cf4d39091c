"""Plain text: a file is a document, or each of its paragraphs is (what blank lines separate)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gristmill.readers.base import Item, Options, record_of
from gristmill.readers.files.lines import BadLine, Text, TooLong, numbered_lines, whole_text
from gristmill.readers.files.source import Source
from gristmill.readers.records import to_document
from gristmill_schemas.limits import MAX_TEXT_BYTES


def read_text(source: Source, options: Options) -> Iterator[Item]:
    """Documents of one file; positions are line numbers. Ids: the file's key, with `#N` for its Nth paragraph."""
    return _paragraphs(source) if options.paragraphs else _whole(source)


def _whole(source: Source) -> Iterator[Item]:
    try:
        with source.open_text() as text:
            content = whole_text(text, MAX_TEXT_BYTES)
    except BadLine as error:
        way_out = "; --paragraphs reads it by paragraph" if isinstance(error, TooLong) else ""
        yield source.reject(error.line, f"{error}{way_out}", source.key)
    else:
        yield _document(source, 1, source.key, content)


def _paragraphs(source: Source) -> Iterator[Item]:
    with source.open_text(classic=True) as text:
        for ordinal, (line, paragraph) in enumerate(_grouped(text), 1):
            if isinstance(paragraph, BadLine):
                yield source.reject(line, str(paragraph))
            else:
                yield _document(source, line, f"{source.key}#{ordinal}", paragraph)


def _document(source: Source, line: int, id: str, text: str) -> Item:
    record = {"id": id, "text": text, "metadata": {"source": source.key}}
    return record_of(source, line, lambda: to_document(record, source, line, Options()))


def _grouped(text: Text) -> Iterator[tuple[int, str | BadLine]]:
    """Paragraphs with the number of their first line; one with an unreadable line is that line's error."""
    gathered = _Paragraph(1)
    for number, line in numbered_lines(text):
        if isinstance(line, BadLine):
            gathered.spoil(number, line)
        elif line := line.rstrip():
            gathered.add(line)
        else:
            yield from gathered.ended()
            gathered = _Paragraph(number + 1)
    yield from gathered.ended()


@dataclass(slots=True)
class _Paragraph:
    """Lines until the next blank one, as long as they can be a document."""

    start: int
    _lines: list[str] = field(default_factory=list)
    _chars: int = 0
    _spoiled: tuple[int, BadLine] | None = None

    def add(self, line: str) -> None:
        # A text over the limit is refused whatever follows, so what follows need not be kept.
        if self._chars <= MAX_TEXT_BYTES:
            self._lines.append(line)
            self._chars += len(line) + 1

    def spoil(self, number: int, error: BadLine) -> None:
        self._spoiled = self._spoiled or (number, error)

    def ended(self) -> Iterator[tuple[int, str | BadLine]]:
        if self._spoiled:
            yield self._spoiled
        elif self._lines:
            yield self.start, "\n".join(self._lines)
