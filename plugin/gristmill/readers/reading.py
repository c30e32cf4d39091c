"""Paths in, items out: which files there are, which reader each gets, and what happens to a file that fails."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from gristmill.readers.base import STDIN, Item, Meter, Options, Reader, Source
from gristmill.readers.delimited import read_csv
from gristmill.readers.jsonl import read_jsonl
from gristmill.readers.markdown import read_markdown
from gristmill.readers.parquet import read_parquet, require_pyarrow
from gristmill.readers.text import read_text
from gristmill_schemas.errors import InvalidInput


class Format(StrEnum):
    """What a file holds, whatever its name says."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    TEXT = "text"
    MARKDOWN = "markdown"


_READERS: MappingProxyType[Format, Reader] = MappingProxyType(
    {
        Format.JSONL: read_jsonl,
        Format.CSV: read_csv,
        Format.PARQUET: read_parquet,
        Format.TEXT: read_text,
        Format.MARKDOWN: read_markdown,
    }
)
_SUFFIXES = MappingProxyType(
    {
        ".jsonl": Format.JSONL,
        ".ndjson": Format.JSONL,
        ".csv": Format.CSV,
        ".tsv": Format.CSV,
        ".parquet": Format.PARQUET,
        ".txt": Format.TEXT,
        ".text": Format.TEXT,
        ".md": Format.MARKDOWN,
        ".markdown": Format.MARKDOWN,
    }
)


def read(
    paths: Iterable[str | Path],
    *,
    format: Format | str | None = None,
    id_field: str = "id",
    text_field: str = "text",
    paragraphs: bool = False,
    sections: bool = True,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Item]:
    """Read documents from files, folders and standard input (`-`), in the order given.

    Args:
        paths: what to read.
        format: a `Format`, or its name, for every file, whatever its suffix; None: by suffix.
        id_field: field or column of the id. A record without it gets a derived id, the same on every reading.
        text_field: field or column of the text.
        paragraphs: text files give one document per paragraph.
        sections: Markdown files give one document per section; off: one per file.
        on_bytes: called with the bytes read so far, out of `total_bytes(paths)`.

    Returns:
        An iterator of documents and, in their place, rejections with file, line and reason. It streams.

    Raises:
        InvalidInput: at once, before anything is read: a path does not exist, a file named here has a suffix that says
            no format, or its format needs a package that is not installed.
    """
    named = [Path(path) for path in paths]
    chosen = _format_named(format)
    for path in named:
        _check(path, chosen)
    options = Options(id_field, text_field, paragraphs, sections)
    return _read_all(named, chosen, options, Meter(on_bytes))


def total_bytes(paths: Iterable[str | Path]) -> int | None:
    """Bytes that `read` will report at its end, for a progress bar; None where standard input is among the paths."""
    named = [Path(path) for path in paths]
    if STDIN in named:
        return None
    return sum(file.stat().st_size for path in named for file, _ in _files(path) if file.exists())


def _format_named(name: Format | str | None) -> Format | None:
    try:
        return None if name is None else Format(name)
    except ValueError:
        raise InvalidInput(f"format: expected one of {', '.join(Format)}, got {name!r}") from None


def _check(path: Path, format: Format | None) -> None:
    if path == STDIN:
        if format is Format.PARQUET:
            raise InvalidInput("format: expected a file for parquet, which is not readable front to back, got -")
        return
    if not path.exists():
        raise InvalidInput(f"path: expected a file or folder, got {str(path)!r}, which does not exist")
    chosen = format or _format_of(path)
    if chosen is None and not path.is_dir():
        raise InvalidInput(f"{path}: {_unknown_suffix(path)}")
    if chosen is Format.PARQUET:
        require_pyarrow()


def _read_all(paths: list[Path], format: Format | None, options: Options, meter: Meter) -> Iterator[Item]:
    for path in paths:
        for file, key in _files(path):
            source = Source(file, key, meter)
            chosen = format or (Format.JSONL if file == STDIN else _format_of(file))
            if chosen is None:
                yield source.reject(0, _unknown_suffix(file))
            else:
                yield from _guarded(_READERS[chosen], source, options)


def _guarded(reader: Reader, source: Source, options: Options) -> Iterator[Item]:
    # One file that vanishes, may not be read or is a damaged archive does not stop the others.
    try:
        yield from reader(source, options)
    except (OSError, EOFError, zlib.error, InvalidInput) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        yield source.reject(0, f"file: expected a readable one: {reason}; what follows in it was not read")


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """The files at or below a path, sorted, each with the key that its ids are built from."""
    if path == STDIN:
        yield path, "stdin"
    elif path.is_dir():
        yield from _below(path, path.resolve().name)
    else:
        yield path, path.name


def _below(folder: Path, key: str) -> Iterator[tuple[Path, str]]:
    # Links to files count, links to folders do not: they can lead in circles.
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(folder / entry.name, f"{key}/{entry.name}")
        elif not entry.is_dir():
            yield folder / entry.name, f"{key}/{entry.name}"


def _format_of(path: Path) -> Format | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
        return None if suffixes[-1:] == [".parquet"] else _SUFFIXES.get("".join(suffixes[-1:]))
    return _SUFFIXES.get("".join(suffixes[-1:]))


def _unknown_suffix(path: Path) -> str:
    return f"suffix: expected one of {', '.join(_SUFFIXES)}, got {path.suffix!r}; a format can be named for all files"
