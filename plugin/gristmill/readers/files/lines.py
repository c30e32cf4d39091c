"""Characters in, numbered lines out, with a bound on how long a line may be. Cost: one pass, one line in memory."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

#: Longest line, in characters: the largest text (1 MiB) with every byte escaped as \\u00xx, and its metadata, with room.
MAX_LINE_CHARS = 8 * 1024 * 1024
#: How much of a line beyond the bound is held while its end is searched.
_SKIPPED_CHARS = 1024 * 1024
#: Name of the error handler that turns each byte that cannot be decoded into one character of U+DC00 to U+DCFF.
ESCAPED = "gristmill.undecoded"
_ESCAPES = re.compile("[\udc00-\udcff]")


def _escape_undecoded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(ESCAPED, _escape_undecoded)


class Text(io.TextIOWrapper):
    """Characters of a file. A byte that cannot be decoded is one of U+DC00 to U+DCFF; `undecoded` finds it."""

    def __init__(self, stream: BinaryIO, encoding: str, line_end: str = "\n") -> None:
        super().__init__(stream, encoding, errors=ESCAPED, newline=line_end)
        #: What its lines end in.
        self.line_end = line_end


class BadLine(ValueError):
    """A line, or a file, that cannot be read; the message says why.

    Attributes:
        line: its number, where the raiser knows it, else 0.
    """

    def __init__(self, message: str, line: int = 0) -> None:
        self.line = line
        super().__init__(message)


class TooLong(BadLine):
    """More than is taken at once."""


def numbered_lines(text: Text) -> Iterator[tuple[int, str | BadLine]]:
    """Lines with their numbers from 1, without line ends; what cannot be decoded or exceeds the bound is a BadLine."""
    number = 0
    while line := text.readline(MAX_LINE_CHARS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARS and not line.endswith(text.line_end):
            yield number, too_long(len(line) + skip_line(text), number)
            continue
        yield number, undecoded(line, text.encoding, number) or line.rstrip("\r\n")


def too_long(size: int, number: int = 0) -> TooLong:
    """The error of a line beyond the bound."""
    return TooLong(f"line: expected at most {MAX_LINE_CHARS} characters, got {size}", number)


def skip_line(text: Text) -> int:
    """Read to the end of the line; how many characters that were."""
    skipped = 0
    while part := text.readline(_SKIPPED_CHARS):
        skipped += len(part)
        if part.endswith(text.line_end):
            break
    return skipped


def undecoded(text: str, encoding: str, number: int = 0, *, of: str = "line") -> BadLine | None:
    """The error of a text with bytes that its encoding does not have; it names the first and its place."""
    # Most lines are ASCII, and that is known without looking.
    found = None if text.isascii() else _ESCAPES.search(text)
    if found is None:
        return None
    name = encoding.removesuffix("-sig").upper()
    byte = ord(found[0]) - 0xDC00
    return BadLine(
        f"encoding: expected {name}, got the byte 0x{byte:02x} at character {found.start() + 1} of the {of}"
        "; --encoding names another",
        number,
    )


def whole_text(text: Text, limit_bytes: int) -> str:
    """All of it, with `\\n` line ends.

    Raises:
        TooLong: it is longer than the limit.
        BadLine: a line of it cannot be decoded.
    """
    content = text.read(limit_bytes + 1)
    if len(content) > limit_bytes or len(content.encode("utf-8", "surrogatepass")) > limit_bytes:
        raise TooLong(f"file: expected at most {limit_bytes} bytes of text, got more")
    if undecoded(content, text.encoding):
        raise _first_bad_line(content, text.encoding)
    return content.replace("\r\n", "\n").replace("\r", "\n")


def _first_bad_line(content: str, encoding: str) -> BadLine:
    lines = enumerate(content.split("\n"), 1)
    return next(bad for number, line in lines if (bad := undecoded(line, encoding, number)))
