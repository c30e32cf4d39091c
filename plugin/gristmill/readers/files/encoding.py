"""Which encoding a file is in, settled before its first document: named by the caller, or found.

Found, in this order: a byte order mark; what is no text at all, by its signature (`puremagic`) or its control characters;
UTF-16 without a mark, by where its zero bytes are; UTF-8, where what is not ASCII is valid but for a little (bad lines
fail one by one); else what `detection` makes of it.

The sample begins at the first line that is not ASCII: the header of a Chinese CSV may be English.
"""

from __future__ import annotations

import codecs
import contextlib
import difflib
import re
from encodings.aliases import aliases
from typing import BinaryIO, Final

from gristmill.readers.files.detection import guess
from gristmill.readers.files.lines import BadLine
from gristmill_schemas.errors import InvalidInput

#: Bytes that are looked at, from the first line on that is not ASCII.
SAMPLE_BYTES: Final = 256 * 1024
#: How far such a line is searched for; what comes later and is not UTF-8 fails line by line.
_SEARCH_BYTES: Final = 256 * 1024 * 1024
#: Share of zero bytes from which on a file is no text; a few in a short one fail with their lines.
_MAX_ZEROS: Final = 0.005
_MIN_BINARY_BYTES: Final = 512
#: As long as this, what is in no known encoding is refused as a whole and not line by line.
_MIN_UNKNOWN_BYTES: Final = 4096
#: Shortest UTF-16 that is told without its mark.
_MIN_UTF16_BYTES: Final = 32
#: UTF-8 that is damaged has at least so many good characters for each bad byte.
_GOOD_PER_BAD: Final = 4

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN: Final = re.compile(rb"[\x00\x80-\xff]")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_ESCAPED: Final = re.compile("[\udc80-\udcff]")
_NOT_ASCII: Final = re.compile("[^\x00-\x7f]")
#: Signatures that could be text, but never are.
_WORDY: Final = (
    (re.compile(rb"%PDF-\d\.\d"), "a PDF document"),
    (re.compile(rb"\{\\rtf1?\\"), "an RTF document"),
    (re.compile(rb"PAR1\x15"), "a Parquet file"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "a bzip2 archive"),
    (re.compile(rb"GIF8[79]a.{4}[\x70-\xf7]", re.DOTALL), "a GIF image"),
    (re.compile(rb"RIFF.{4}(WAVE|AVI |WEBP)", re.DOTALL), "a sound, video or image"),
    (re.compile(rb"OggS\x00|fLaC\x00"), "a sound"),
)


def known_encoding(name: str) -> str:
    """The name as Python knows it.

    Raises:
        InvalidInput: no text encoding has this name; the message names one that is near.
    """
    try:
        found = codecs.lookup(name)
        "a".encode(name)
    except (LookupError, ValueError, TypeError):
        near = difflib.get_close_matches(name.lower().replace("-", "_"), [*aliases, *aliases.values()], n=1)
        hint = f"; did you mean {near[0]}?" if near else "; such as utf-8, gb18030, big5, shift_jis, utf-16, cp1252"
        raise InvalidInput(
            f"encoding: expected the name of a text encoding, got {name!r}{hint}", field="encoding"
        ) from None
    except UnicodeError:
        return found.name
    return found.name


def settle(stream: BinaryIO, *, seekable: bool) -> str:
    """The encoding of what begins here.

    Args:
        stream: at its start, where it may be searched to its end; else it is only peeked into.
        seekable: whether it may be read.

    Raises:
        BadLine: it is no text, or in no encoding that could be told.
    """
    head, sample, whole = _searched(stream) if seekable else _peeked(stream)
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    refuse_binary(head)
    return _utf16(head) or _utf8(sample, whole) or _detected(sample)


def marked(stream: BinaryIO, named: str) -> str:
    """The named encoding, without its byte order mark where the stream begins with one."""
    head = stream.peek(4)[:4]  # type: ignore[attr-defined]  # a BufferedReader
    own = named.replace("_", "-").lower()
    found = (encoding for mark, encoding in _MARKS if head.startswith(mark))
    return next((encoding for encoding in found if own.startswith(encoding.removesuffix("-sig"))), named)


def line_end(stream: BinaryIO, encoding: str) -> str:
    """What ends a line: `\\r` in files of the classic Mac and of some Excels, else `\\n`."""
    text = stream.peek(SAMPLE_BYTES)[:SAMPLE_BYTES].decode(encoding, "replace")  # type: ignore[attr-defined]
    return "\r" if "\r" in text[:-1] and "\n" not in text else "\n"


def _peeked(stream: BinaryIO) -> tuple[bytes, bytes, bool]:
    sample = stream.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]  # type: ignore[attr-defined]  # a BufferedReader
    return sample, sample, False


def _searched(stream: BinaryIO) -> tuple[bytes, bytes, bool]:
    """The file's beginning, the sample, and whether the sample reaches the file's end."""
    head = chunk = _taken(stream, SAMPLE_BYTES)
    seen = 0
    while chunk and _plain(chunk) and seen < _SEARCH_BYTES:
        seen += len(chunk)
        chunk = _taken(stream, SAMPLE_BYTES)
    foreign = _FOREIGN.search(chunk)
    if foreign is None:
        return head, b"", True
    start = max(chunk.rfind(b"\n", 0, foreign.start()) + 1, foreign.start() - 1024)
    sample = chunk[start:] + _taken(stream, start)
    return head, sample, len(sample) < SAMPLE_BYTES


def _taken(stream: BinaryIO, size: int) -> bytes:
    """So many bytes, or those before the end or before what cannot be read: that comes out when it is read in earnest."""
    parts, left = [], size
    with contextlib.suppress(Exception):
        while left and (part := stream.read1(left)):  # type: ignore[attr-defined]  # a BufferedReader
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def _plain(chunk: bytes) -> bool:
    # UTF-16 of English is ASCII with zeros.
    return chunk.isascii() and b"\0" not in chunk


def refuse_binary(head: bytes) -> None:
    """Raise BadLine, with the name of what it looks like, for bytes that are no text."""
    kind = next((name for mark, name in _WORDY if mark.match(head)), None) or _signature(head)
    if kind is None and (len(head) < _MIN_BINARY_BYTES or head.count(0) <= len(head) * _MAX_ZEROS or _utf16(head)):
        return
    raise BadLine(f"file: expected text, got {kind or 'bytes that are no text'}")


def _signature(head: bytes) -> str | None:
    if not _FOREIGN.search(head) and not _CONTROL.search(head):
        return None
    import puremagic

    try:
        found = puremagic.magic_string(head[:4096])
    except (puremagic.PureError, ValueError):
        return None
    sure = next((each for each in found if _telling(each.byte_match)), None)
    return None if sure is None else f"what looks like: {sure.name}"


def _telling(signature: bytes) -> bool:
    """Whether no text begins with it."""
    return len(signature.strip(b"\0")) >= 3 and (not signature.isascii() or bool(_CONTROL.search(signature)))


def _utf16(head: bytes) -> str | None:
    """UTF-16 without a mark: in most of its characters one byte of two is zero, always the same one."""
    if len(head) < _MIN_UTF16_BYTES:
        return None
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    for zeros, others, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if zeros > half * 0.3 and others <= half * 0.01 and _decodes(head, encoding):
            return encoding
    return None


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeError:
        return False
    return True


def _utf8(sample: bytes, whole: bool) -> str | None:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=whole)
    except UnicodeDecodeError:
        text = sample.decode("utf-8", "surrogateescape")
        bad = len(_ESCAPED.findall(text))
        return "utf-8" if bad * _GOOD_PER_BAD <= len(_NOT_ASCII.findall(text)) - bad else None
    return "utf-8"


def _detected(sample: bytes) -> str:
    if (found := guess(sample)) is not None:
        return found
    # A few stray bytes in what is otherwise ASCII, or a few lines in all: they fail, each by its name.
    if len(sample) < _MIN_UNKNOWN_BYTES or sum(byte >= 0x80 for byte in sample) <= len(sample) // 100:
        return "utf-8"
    raise BadLine("encoding: expected UTF-8 or another encoding that can be told, got neither; --encoding names it")


_NAMES: Final = {
    "gb18030": "GB18030",
    "big5hkscs": "Big5",
    "cp932": "Shift-JIS",
    "euc_jp": "EUC-JP",
    "cp949": "EUC-KR",
    "koi8_r": "KOI8-R",
}


def display_name(encoding: str) -> str:
    """An encoding's name as people write it."""
    plain = encoding.replace("-", "_").lower()
    if plain.startswith("cp125"):
        return f"Windows-{plain[2:]}"
    return _NAMES.get(plain, encoding.upper().replace("_", "-"))
