"""Between our words and what reads them: a terminal of any encoding, a pipe whose reader has left, a full disk, nothing.

Texts from outside (ids, texts, reasons, names) may hold what a terminal obeys: colours, titles, the clipboard (OSC 52), a
carriage return that overwrites the line, characters that reverse it. `visible` shows them as escapes. Every text passes
through it on its way to a console (`output.Screen`), and JSON has its own escapes for the same characters.

The streams: what an encoding cannot say is written in other words (`...` for `…`) or as an escape; a pipe that nobody reads
any more ends the program without a word, as SIGPIPE does; anything else that keeps the result from being written is an
`OutputFailed`. What cannot be written on stderr is lost, and nothing else by it.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar, cast

T = TypeVar("T")

#: 128 + SIGPIPE: what the shell says of a program that the signal ends.
PIPE_CLOSED = 141

#: Control characters but newline and tab, bidirectional overrides and isolates, what has no width and could hide a
#: difference between two ids, line separators, surrogates. Joiners and direction marks stay: emoji, Persian and Hebrew
#: need them.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
#: What an encoding without them says instead.
_IN_OTHER_WORDS = {
    "…": "...", "·": "-", "–": "-", "—": "-", "‑": "-", "−": "-", "×": "x", "→": "->", "›": ">", "•": "*", "±": "+-",
    "“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " ",
}  # fmt: skip
_HANDLER = "gristmill.in_other_words"


class OutputFailed(Exception):
    """The result could not be written."""


def visible(text: str) -> str:
    """The text with what a terminal would obey written out: `\\x1b`, `\\u202e`. Newlines and tabs stay."""
    return _OBEYED.sub(_escape, text)


def one_line(text: str) -> str:
    """As `visible`, and newlines and tabs are written out too: for what has one line of its own."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def sayable(text: str, encoding: str) -> str:
    """The text as an encoding can say it, so that its width on the screen is known before it is laid out."""
    return text.encode(encoding, _HANDLER).decode(encoding)


def json_text(value: Any, encoding: str | None, **how: Any) -> str:
    """JSON that the encoding can say and that no terminal obeys; it reads back as the same value.

    Args:
        value: what is written.
        encoding: the stream's; None is UTF-8.
        how: as for `json.dumps`.
    """
    text = json.dumps(value, ensure_ascii=False, **how)
    try:
        text = _OBEYED.sub(lambda found: json.dumps(found[0])[1:-1], text)
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=True, **how)
    return text


def _in_other_words(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(
        _IN_OTHER_WORDS.get(each) or each.encode("unicode_escape").decode() for each in characters
    ), error.end


codecs.register_error(_HANDLER, _in_other_words)


class _Stream:
    """A standard stream whose failures are ours to tell; everything else is the stream's own."""

    def __init__(self, stream: TextIO, failed: Callable[[OSError], None]) -> None:
        self._stream = stream
        self._failed = failed
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors=_HANDLER)

    def write(self, text: str) -> int:
        """Write the text, or fail in our words."""
        return self._try(lambda: self._stream.write(text)) or 0

    def flush(self) -> None:
        """Write what waits, or fail in our words."""
        self._try(self._stream.flush)

    def _try(self, act: Callable[[], T]) -> T | None:
        try:
            return act()
        except OSError as error:
            self._point_nowhere()
            self._failed(error)
            return None

    def _point_nowhere(self) -> None:
        # What is still buffered would fail again when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _no_result(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise SystemExit(PIPE_CLOSED)
    raise OutputFailed(f"the result could not be written to standard output: {error.strerror or error}") from error


def _no_note(_: OSError) -> None:
    return None


@contextmanager
def standard_streams() -> Iterator[None]:
    """Standard output and error that fail as this module says, for the time of one command."""
    _occupy_closed_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", _Stream(sys.stdout, _no_result))
    sys.stderr = cast("TextIO", _Stream(sys.stderr, _no_note))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _occupy_closed_descriptors() -> None:
    """Put something at 0, 1 and 2, else the next connection to be opened gets a number that others write to.

    Opened the wrong way round on purpose: reading from closed input and writing to closed output then fail as they should.
    """
    for name, number, flags, mode in (
        ("stdin", 0, os.O_WRONLY, "r"),
        ("stdout", 1, os.O_RDONLY, "w"),
        ("stderr", 2, os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.dup2(os.open(os.devnull, flags), number)
            setattr(sys, name, os.fdopen(number, mode, closefd=False, encoding="utf-8", errors="backslashreplace"))
