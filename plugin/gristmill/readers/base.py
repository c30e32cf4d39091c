"""What all readers share: what the caller asked for, what a reader is, and whose fault an exception is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from gristmill.readers.column_types import Types
from gristmill.readers.files.lines import BadLine
from gristmill.readers.files.source import Source, printable
from gristmill.seen_keys import TWICE
from gristmill_schemas import Document, Rejection

#: What a reader yields.
Item = Document | Rejection

#: Of a foreign exception's words, so many are shown.
_SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asked for."""

    #: Field or column that holds the id; a record without it gets a derived one.
    id_field: str = "id"
    #: Field or column that holds the text.
    text_field: str = "text"
    #: Text files: one document per paragraph instead of per file.
    paragraphs: bool = False
    #: Markdown: one document per section instead of per file.
    sections: bool = True
    #: CSV: what the columns hold.
    types: Types = field(default_factory=Types)


class Reader(Protocol):
    """Turns one source into documents and rejections."""

    def __call__(self, source: Source, options: Options) -> Iterator[Item]:
        """Read it from front to back."""


def record_of(source: Source, position: int, build: Callable[[], Item]) -> Item:
    """One record's item. Whatever exception its making raises is that record's, and nobody else's.

    An id that came before is refused here, where file and line are known: both in one call would share one version, so
    which of them wins would depend on luck.
    """
    try:
        return _once(source, position, build())
    except BadLine as error:
        return source.reject(error.line or position, str(error))
    except Exception as error:  # noqa: BLE001  # libraries raise what they like, and the next record is as good as ever
        return source.reject(position, f"record: expected a readable one, got {describe(error)}")


def _once(source: Source, position: int, item: Item) -> Item:
    if isinstance(item, Rejection) or source.seen.add(f"{item.tenant or ''}\0{item.id}"):
        return item
    return source.reject(position, TWICE, item.id[:100])


def describe(error: Exception) -> str:
    """A foreign exception in a few words that any terminal can show."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = printable(" ".join(str(error).split())[:_SHOWN_CHARS])
    return (
        words if isinstance(error, ValueError) and words else f"{type(error).__name__}{f': {words}' if words else ''}"
    )
