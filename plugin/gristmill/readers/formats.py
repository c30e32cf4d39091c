"""The formats, in one table: what a file's name ends in, who reads it, and what that needs."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from gristmill.readers.base import Reader
from gristmill.readers.delimited import read_csv
from gristmill.readers.files.compression import COMPRESSIONS
from gristmill.readers.html import read_html
from gristmill.readers.json_files import read_json, read_jsonl
from gristmill.readers.markdown import read_markdown
from gristmill.readers.office import SUFFIXES, read_office
from gristmill.readers.parquet import read_parquet
from gristmill.readers.text import read_text
from gristmill_schemas.errors import InvalidInput


class Format(StrEnum):
    """What a file holds, whatever its name says."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    DOCS = "docs"


@dataclass(frozen=True, slots=True)
class Kind:
    """How one format is read."""

    read: Reader
    suffixes: tuple[str, ...]
    #: Readable front to back: from a pipe, and compressed.
    streams: bool = True
    #: A module outside the base installation, the package that has it, and the extra that brings it.
    needs: tuple[str, str, str] | None = None


KINDS: MappingProxyType[Format, Kind] = MappingProxyType(
    {
        Format.JSONL: Kind(read_jsonl, (".jsonl", ".ndjson")),
        Format.JSON: Kind(read_json, (".json",)),
        Format.CSV: Kind(read_csv, (".csv", ".tsv")),
        Format.PARQUET: Kind(read_parquet, (".parquet",), streams=False, needs=("pyarrow", "pyarrow", "files")),
        Format.TEXT: Kind(read_text, (".txt", ".text")),
        Format.MARKDOWN: Kind(read_markdown, (".md", ".markdown")),
        Format.HTML: Kind(read_html, (".html", ".htm", ".xhtml"), needs=("trafilatura", "trafilatura", "files")),
        Format.DOCS: Kind(read_office, SUFFIXES, streams=False, needs=("markitdown", "markitdown", "docs")),
    }
)
_BY_SUFFIX = MappingProxyType({suffix: format for format, kind in KINDS.items() for suffix in kind.suffixes})

#: Formats that nothing here reads, and what LibreOffice makes of them.
_CONVERTED = {
    **dict.fromkeys((".doc", ".odt", ".rtf", ".pages", ".wps"), "docx"),
    **dict.fromkeys((".ppt", ".odp", ".key"), "pptx"),
    **dict.fromkeys((".xls", ".ods", ".numbers"), "xlsx"),
}
_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar")


def format_named(name: Format | str | None) -> Format | None:
    """A format by its name.

    Raises:
        InvalidInput: there is none of this name.
    """
    try:
        return None if name is None else Format(name)
    except ValueError:
        raise InvalidInput(f"format: expected one of {', '.join(Format)}, got {name!r}", field="format") from None


def format_of(path: Path) -> Format | None:
    """What a file holds by its name: `a.csv.gz` is CSV."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    found = _BY_SUFFIX.get(inner.suffix.lower())
    return found if inner is path or found is None or KINDS[found].streams else None


def require(format: Format) -> None:
    """Raise InvalidInput, with the way out, where what a format needs is not installed."""
    needs = KINDS[format].needs
    if needs is not None and importlib.util.find_spec(needs[0]) is None:
        raise InvalidInput(
            f"reading {format} needs {needs[1]}, which is not installed; run: pip install 'gristmill[{needs[2]}]'",
            field="format",
        )


def unknown_suffix(path: Path) -> str:
    """Why a file's name says no format, and what to do."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if any(suffix in _ARCHIVES for suffix in suffixes):
        return f"suffix: expected a file to read, got an archive, {path.name!r}: unpack it first, then name the folder"
    if suffixes[-1:] and suffixes[-1] in COMPRESSIONS and _BY_SUFFIX.get("".join(suffixes[:1])):
        return f"suffix: expected {suffixes[0]} as it is, got it inside {suffixes[-1]}: unpack it first"
    if suffixes[-1:] and (way := _CONVERTED.get(suffixes[-1])):
        return (
            f"suffix: expected a format that is read, got {suffixes[-1]}; convert it first: "
            f"`soffice --headless --convert-to {way} FILE`"
        )
    return (
        f"suffix: expected one of {', '.join(_BY_SUFFIX)}, got {path.suffix!r}; --format names the format of all files"
    )
