"""One file, or standard input: its name in messages and ids, its bytes, its text."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from gristmill.readers.files.compression import COMPRESSIONS, unpack
from gristmill.readers.files.encoding import display_name, line_end, marked, settle
from gristmill.readers.files.lines import Text
from gristmill.readers.files.notes import Notes
from gristmill.seen_keys import SeenKeys
from gristmill_schemas import Rejection

#: The path that means standard input.
STDIN = Path("-")
#: Longest reason of a rejection.
_MAX_REASON_CHARS = 1000


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


class Anchors:
    """Tells parts of the same name apart, at 8 bytes for each name."""

    def __init__(self) -> None:
        self._seen = SeenKeys()
        self._times: Counter[str] = Counter()

    def again(self, part: str) -> str:
        """Nothing for the first of a name, `~2` for the second."""
        if self._seen.add(part):
            return ""
        self._times[part] += 1
        return f"~{self._times[part] + 1}"


@dataclass(frozen=True, slots=True)
class Source:
    """One file, or standard input."""

    path: Path
    #: What ids of its documents begin with; no other file has it.
    key: str
    meter: Meter = field(default_factory=Meter)
    notes: Notes = field(default_factory=Notes)
    #: As the caller named it; None: it is found out.
    encoding: str | None = None
    #: Tenants and ids so far, of all files that are read together.
    seen: SeenKeys = field(default_factory=SeenKeys)
    _anchors: Anchors = field(default_factory=Anchors)

    @property
    def label(self) -> str:
        """Its name in messages, fit for any terminal."""
        return "standard input" if self.path == STDIN else printable(str(self.path))

    def anchor(self, part: str) -> str:
        """What follows the key in the id of a part of it: `#part`, and `#part~2` for the second one of that name.

        Args:
            part: a heading, a hash; without `~`.
        """
        return f"#{part}{self._anchors.again(part)}"

    @property
    def compression(self) -> str | None:
        """The suffix that says how it is compressed."""
        suffix = self.path.suffix.lower()
        return suffix if suffix in COMPRESSIONS else None

    def reject(self, position: int, reason: str, id: str | None = None) -> Rejection:
        """A rejection at a line or row of this file; 0 is the file as a whole."""
        return Rejection(position=position, id=id, source=self.label, reason=_shown(reason))

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Its bytes, decompressed and counted."""
        with self._open(self.meter) as stream:
            yield stream

    @contextmanager
    def open_text(self, *, classic: bool = False) -> Iterator[Text]:
        """Its characters, without a byte order mark, with the line ends that it has; lines end where `\\n` is.

        A byte that cannot be decoded is a character from U+DC00 to U+DCFF; `lines.undecoded` finds it.

        Args:
            classic: lines end at `\\r` in a file that has no `\\n`: so wrote the classic Mac, and some Excels do.

        Raises:
            BadLine: it is no text, or in no encoding that could be told.
        """
        with self.open() as stream:
            encoding = self._encoding(stream)
            text = Text(stream, encoding, line_end(stream, encoding) if classic else "\n")
            try:
                yield text
            finally:
                text.detach()

    def _encoding(self, stream: BinaryIO) -> str:
        if self.encoding is not None:
            return marked(stream, self.encoding)
        if self.path == STDIN or not self.path.is_file():
            found = settle(stream, seekable=False)
        else:
            with self._open(Meter()) as again:
                found = settle(again, seekable=True)
        if not found.startswith("utf-8"):
            self.notes.found_encoding(self.label, display_name(found))
        return found

    @contextmanager
    def _open(self, meter: Meter) -> Iterator[BinaryIO]:
        if self.path == STDIN:
            # Not closed afterwards: it is not ours.
            yield _buffered(cast("io.BufferedReader", sys.stdin.buffer).read1, meter)
            return
        with self.path.open("rb", buffering=0) as raw:
            counted = _buffered(raw.read, meter)
            yield unpack(counted, self.compression) if self.compression else counted


def _shown(reason: str) -> str:
    """A reason that any terminal can show, without most of a name or value of a mebibyte."""
    if len(reason) > _MAX_REASON_CHARS:
        reason = f"{reason[: _MAX_REASON_CHARS // 2]} … {reason[-_MAX_REASON_CHARS // 4 :]}"
    return printable(reason)


def printable(name: str) -> str:
    """A file's name in messages: what is no UTF-8 or would steer a terminal is escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


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
