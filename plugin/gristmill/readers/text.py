"""Plain text: a file is a document, or each of its paragraphs is (what blank lines separate)."""

from __future__ import annotations

from collections.abc import Iterator

from gristmill.readers.base import Item, Options, Source
from gristmill.readers.lines import BadLine, decode, numbered_lines, whole_text
from gristmill.readers.records import to_document
from gristmill_schemas.limits import MAX_TEXT_BYTES


def read_text(source: Source, options: Options) -> Iterator[Item]:
    """Documents of one file; positions are line numbers. Ids: the file's key, with `#N` for its Nth paragraph."""
    return _paragraphs(source) if options.paragraphs else _whole(source)


def _whole(source: Source) -> Iterator[Item]:
    try:
        with source.open() as stream:
            content = whole_text(stream, MAX_TEXT_BYTES)
    except BadLine as error:
        way_out = "" if error.line else "; it can be read by paragraph"
        yield source.reject(error.line, f"{error}{way_out}", source.printable_key)
    else:
        yield _document(source, 1, source.key, content)


def _paragraphs(source: Source) -> Iterator[Item]:
    for ordinal, (line, paragraph) in enumerate(_grouped(source), 1):
        id = f"{source.key}#{ordinal}"
        if isinstance(paragraph, BadLine):
            yield source.reject(line, str(paragraph))
        else:
            yield _document(source, line, id, paragraph)


def _document(source: Source, line: int, id: str, text: str) -> Item:
    return to_document({"id": id, "text": text, "metadata": {"source": source.key}}, source, line, Options())


def _grouped(source: Source) -> Iterator[tuple[int, str | BadLine]]:
    """Paragraphs with the number of their first line; one with an unreadable line is that line's error."""
    start, gathered, size = 1, list[str | BadLine](), 0
    with source.open() as stream:
        for number, line in numbered_lines(stream):
            text = _decoded(line)
            if text == "":
                if gathered:
                    yield _joined(start, gathered)
                start, gathered, size = number + 1, [], 0
            # A text over the limit is refused whatever follows, so what follows need not be kept.
            elif size <= MAX_TEXT_BYTES:
                gathered.append(text)
                size += len(line) if isinstance(line, bytes) else 0
    if gathered:
        yield _joined(start, gathered)


def _decoded(line: bytes | BadLine) -> str | BadLine:
    try:
        return line if isinstance(line, BadLine) else decode(line).rstrip()
    except BadLine as error:
        return error


def _joined(start: int, gathered: list[str | BadLine]) -> tuple[int, str | BadLine]:
    for at, line in enumerate(gathered):
        if isinstance(line, BadLine):
            return start + at, line
    return start, "\n".join(line for line in gathered if isinstance(line, str))
