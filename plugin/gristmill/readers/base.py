"""What all readers share: where bytes come from, how progress is counted, what the caller asked for."""

from __future__ import annotations

import gzip
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from gristmill_schemas import Document, Rejection

#: What a reader yields.
Item = Document | Rejection

#: The path that means standard input.
STDIN = Path("-")


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


@dataclass(slots=True)
class Meter:
    """Counts bytes over all files and tells whoever draws the progress bar."""

    #: Called with all bytes read so far, compressed ones where the file is compressed.
    on_bytes: Callable[[int], None] | None = None
    total: int = 0

    def add(self, count: int) -> None:
        """Note that `count` more bytes were read."""
        self.total += count
        if self.on_bytes is not None and count:
            self.on_bytes(self.total)


@dataclass(frozen=True, slots=True)
class Source:
    """One file, or standard input."""

    path: Path
    #: What ids of its documents are built from: the path below the folder that was named, or the file's name.
    key: str
    meter: Meter = field(default_factory=Meter)

    @property
    def label(self) -> str:
        """Its name in messages. File names may hold bytes that are no UTF-8; messages may not."""
        name = "standard input" if self.path == STDIN else str(self.path)
        return os.fsencode(name).decode("utf-8", "backslashreplace")

    @property
    def stem(self) -> str:
        """Its name without folder and suffixes: `a/b.jsonl.gz` is `b`."""
        return Path(self.key).name.split(".", 1)[0]

    @property
    def printable_key(self) -> str:
        """Its key, fit for a rejection."""
        return os.fsencode(self.key).decode("utf-8", "backslashreplace")

    def reject(self, position: int, reason: str, id: str | None = None) -> Rejection:
        """A rejection at a line or row of this file; 0 is the file as a whole."""
        return Rejection(position=position, id=id, source=self.label, reason=reason)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Its bytes, decompressed and counted."""
        if self.path == STDIN:
            # Not closed afterwards: it is not ours.
            yield _buffered(cast("io.BufferedReader", sys.stdin.buffer).read1, self.meter)
            return
        with self.path.open("rb", buffering=0) as raw:
            counted = _buffered(raw.read, self.meter)
            if self.path.suffix.lower() != ".gz":
                yield counted
                return
            with gzip.GzipFile(fileobj=counted) as unpacked:
                yield cast("BinaryIO", unpacked)


class Reader(Protocol):
    """Turns one source into documents and rejections."""

    def __call__(self, source: Source, options: Options) -> Iterator[Item]:
        """Read it from front to back."""


class _Counting(io.RawIOBase):
    """Passes bytes on and counts them."""

    def __init__(self, read: Callable[[int], bytes | None], meter: Meter) -> None:
        self._read = read
        self._meter = meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the stub wants `Buffer`
        data = self._read(len(buffer)) or b""
        buffer[: len(data)] = data
        self._meter.add(len(data))
        return len(data)


def _buffered(read: Callable[[int], bytes | None], meter: Meter) -> BinaryIO:
    # `read` may return less than asked for: what a pipe has now goes on now.
    return io.BufferedReader(_Counting(read, meter), buffer_size=256 * 1024)
