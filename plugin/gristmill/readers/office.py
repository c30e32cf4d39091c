"""PDF, Word, PowerPoint, Excel and EPUB, through markitdown: made into Markdown, and read as that, by sections.

**Bounds.** The file's size; what a zipped one (all but PDF) says that it unpacks to. Nothing is fetched, whatever a file
names.
"""

from __future__ import annotations

import html
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Final

from gristmill.readers.base import Item, Options, describe
from gristmill.readers.files.lines import BadLine
from gristmill.readers.files.source import Source
from gristmill.readers.markdown import items_of

#: Largest file, and the most that a zipped one may unpack to.
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 512 * 1024 * 1024
_MAX_CORE_BYTES: Final = 64 * 1024
_TITLE: Final = re.compile(r"<dc:title>([^<]*)</dc:title>")
_NOT_TEXT: Final = re.compile(r"<!--.*?-->|[\0\x0c]", re.DOTALL)
SUFFIXES: Final = (".pdf", ".docx", ".pptx", ".xlsx", ".epub")


def read_office(source: Source, options: Options) -> Iterator[Item]:
    """Documents of one file: of its sections, where it has headings."""
    with source.open() as stream:
        raw = stream.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise BadLine(f"file: expected at most {MAX_FILE_BYTES} bytes, got more; split it, or convert it to text first")
    suffix = _suffix(source, raw)
    content = _converted(raw, suffix)
    if not content.strip():
        raise BadLine(f"file: expected text, got none{_way_out(suffix)}")
    title = _title(raw, suffix)
    metadata = {"source": source.key, **({"title": title} if title else {})}
    yield from items_of(content, source, options, {"id": source.key}, metadata)


def _suffix(source: Source, raw: bytes) -> str:
    """What it is by its name; where that says nothing, by its content."""
    suffix = source.path.suffix.lower()
    if suffix not in SUFFIXES:
        suffix = ".pdf" if raw.startswith(b"%PDF-") else _zipped(raw)
    if (suffix == ".pdf") != (b"%PDF-" in raw[:1024]):
        raise BadLine(f"file: expected {suffix[1:].upper()}, got other content under this name")
    if suffix != ".pdf":
        _check_unpacked(raw, suffix)
    return suffix


def _zipped(raw: bytes) -> str:
    names = _entries(raw, "an office file")
    found = {".docx": "word/document.xml", ".pptx": "ppt/presentation.xml", ".xlsx": "xl/workbook.xml"}
    return next((suffix for suffix, name in found.items() if name in names), ".epub")


def _entries(raw: bytes, expected: str) -> dict[str, int]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return {entry.filename: entry.file_size for entry in archive.infolist()}
    except zipfile.BadZipFile:
        locked = raw.startswith(b"\xd0\xcf\x11\xe0")
        what = "an older or a protected one: save it anew, without a password" if locked else "a damaged or another one"
        raise BadLine(f"file: expected {expected}, got {what}") from None


def _check_unpacked(raw: bytes, suffix: str) -> None:
    size = sum(_entries(raw, suffix[1:].upper()).values())
    if size > MAX_UNPACKED_BYTES:
        raise BadLine(f"file: expected one that unpacks to at most {MAX_UNPACKED_BYTES} bytes, got {size}")


def _converted(raw: bytes, suffix: str) -> str:
    """Its Markdown.

    By its own converter: left to choose, markitdown takes a damaged file for plain text.
    """
    from markitdown import MissingDependencyException, StreamInfo, converters

    kind = getattr(converters, f"{suffix[1:].capitalize()}Converter")
    try:
        found = kind().convert(io.BytesIO(raw), StreamInfo(extension=suffix))
    except MissingDependencyException:
        raise BadLine(
            f"file: reading {suffix} needs packages that are not installed; run: pip install 'gristmill[docs]'"
        ) from None
    except Exception as error:  # noqa: BLE001  # libraries raise what they like
        raise BadLine(f"file: expected a readable {suffix[1:].upper()}, got {_cause(error)}") from None
    # Comments are the converter's own: numbers of slides.
    return _NOT_TEXT.sub("\n", found.markdown)


def _cause(error: Exception) -> str:
    if "password" in f"{type(error).__name__} {error}".lower():
        return "one with a password; save it without"
    return describe(error)


def _title(raw: bytes, suffix: str) -> str | None:
    """The title that Office keeps beside the text."""
    if suffix == ".pdf":
        return None
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        try:
            with archive.open("docProps/core.xml") as core:
                found = _TITLE.search(core.read(_MAX_CORE_BYTES).decode("utf-8", "replace"))
        except (KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
            return None
    return html.unescape(found[1]).strip() or None if found else None


def _way_out(suffix: str) -> str:
    return ": a scan? `ocrmypdf FILE NEW` puts the text into it" if suffix == ".pdf" else ""
