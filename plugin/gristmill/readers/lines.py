"""Bytes in, numbered lines out, with a bound on how long a line may be. Cost: one pass, one line in memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

#: Longest line: the largest text (1 MiB) with every byte escaped as \\u00xx, and its metadata, with room.
MAX_LINE_BYTES = 8 * 1024 * 1024


class BadLine(ValueError):
    """A line that cannot be read; the message says why.

    Attributes:
        line: its number, where the raiser knows it, else 0.
    """

    def __init__(self, message: str, line: int = 0) -> None:
        self.line = line
        super().__init__(message)


def numbered_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | BadLine]]:
    """Lines with their numbers from 1, without line ends and byte order mark; what exceeds the bound is skipped."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            size = len(line) + _skip_line(stream)
            yield number, BadLine(f"line: expected at most {MAX_LINE_BYTES} bytes, got {size}")
            continue
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        yield number, line.rstrip(b"\r\n")


def _skip_line(stream: BinaryIO) -> int:
    skipped = 0
    while part := stream.readline(MAX_LINE_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def decode(line: bytes) -> str:
    """The line as text.

    Raises:
        BadLine: it is not UTF-8; the message names the byte and its place.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLine(
            f"encoding: expected UTF-8, got the byte 0x{line[error.start]:02x} at byte {error.start + 1} of the line"
        ) from None


def whole_text(stream: BinaryIO, limit_bytes: int) -> str:
    """All of the stream as text, with `\\n` line ends.

    Raises:
        BadLine: it is longer than the limit, or a line of it is not UTF-8.
    """
    content = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise BadLine(f"file: expected at most {limit_bytes} bytes, got more")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise _first_bad_line(content) from None


def _first_bad_line(content: bytes) -> BadLine:
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            decode(line)
        except BadLine as error:
            return BadLine(str(error), number)
    # Not reached: a byte that UTF-8 does not allow is on some line, as no line end is inside a character.
    return BadLine("encoding: expected UTF-8")
