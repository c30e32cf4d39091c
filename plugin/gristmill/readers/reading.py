"""Paths in, items out: which files there are, which reader each gets, and what happens to a file that fails."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from gristmill.arguments import one_or_many
from gristmill.readers.base import Item, Options, describe
from gristmill.readers.column_types import TypesGiven, types_given
from gristmill.readers.files import compression
from gristmill.readers.files.encoding import known_encoding
from gristmill.readers.files.folders import Place, Search, Unreadable, files, is_folder, places, size_bytes
from gristmill.readers.files.lines import BadLine
from gristmill.readers.files.notes import Notes
from gristmill.readers.files.source import STDIN, Meter, Source
from gristmill.readers.formats import KINDS, Format, format_named, format_of, require, unknown_suffix
from gristmill.seen_keys import SeenKeys
from gristmill_schemas.errors import InvalidInput


class Reading(Iterator[Item]):
    """Documents of files and, in their place, rejections with file, line and reason. It streams."""

    def __init__(
        self,
        items: Iterator[Item],
        notes: Notes,
        total: Callable[[], int | None],
        formats: Callable[[], set[Format | None]],
        fingerprint: Callable[[], str],
        *,
        reads_pipe: bool,
    ) -> None:
        self._items, self._notes, self._total, self._formats = items, notes, total, formats
        self._fingerprint = fingerprint
        #: Whether standard input or another pipe is among the paths: what is read of it cannot be read again.
        self.reads_pipe = reads_pipe

    def __iter__(self) -> Reading:
        return self

    def __next__(self) -> Item:
        return next(self._items)

    @property
    def notes(self) -> list[str]:
        """Sentences for people on what was found so far: encodings other than UTF-8, what was passed over."""
        return self._notes.sentences()

    @property
    def skipped(self) -> int:
        """Entries of folders that were passed over so far."""
        return self._notes.passed.total()

    def total_bytes(self) -> int | None:
        """Bytes that `on_bytes` will have been told at the end; None where a pipe is read. It looks at every file."""
        return self._total()

    def fingerprint(self) -> str | None:
        """Names the input: other files, sizes, times or options, another name. None for a pipe. It looks at every file."""
        return None if self.reads_pipe else self._fingerprint()

    def is_markdown(self) -> bool:
        """Whether all texts will be Markdown, as those of office documents are. It looks at every file's name."""
        return bool(found := self._formats()) and found <= {Format.MARKDOWN, Format.DOCS}


def read(
    paths: Iterable[str | Path] | str | Path,
    *,
    format: Format | str | None = None,
    encoding: str | None = None,
    exclude: Sequence[str] = (),
    follow_links: bool = False,
    root: str | Path | None = None,
    id_field: str = "id",
    text_field: str = "text",
    paragraphs: bool = False,
    sections: bool = True,
    types: TypesGiven | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Reading:
    """Read documents from files, folders and standard input (`-`), in the order given.

    Args:
        paths: what to read; `*`, `?`, `[…]` and `**` are expanded where no file has that very name.
        format: a `Format`, or its name, for every file, whatever its suffix; None: by suffix.
        encoding: of every text file, as Python names it; None: found out file by file, before its first document.
        exclude: patterns as `.gitignore` has them; what they match in folders is passed over.
        follow_links: in folders, follow links to other folders and to files outside.
        root: ids begin with a file's path below this folder, so that they are the same on every machine; None: with its
            absolute path.
        id_field: field or column of the id. A record without it gets a derived id, the same on every reading.
        text_field: field or column of the text.
        paragraphs: text files give one document per paragraph.
        sections: Markdown files give one document per section; off: one per file.
        types: what the columns of CSV hold: `auto`, `year=integer,day=date` or a mapping of them (`ColumnType`); None: text.
        on_bytes: called with the bytes read so far, out of `total_bytes`.

    Returns:
        An iterator of documents and, in their place, rejections with file, line and reason. It streams.

    Raises:
        InvalidInput: at once, before anything is read: a path does not exist or is an address, a pattern matches
            nothing, a file named here has a suffix that says no format, its format needs a package that is not
            installed, or an encoding has no such name.
    """
    chosen = format_named(format)
    named = None if encoding is None else known_encoding(encoding)
    search = Search(
        tuple([exclude] if isinstance(exclude, str) else exclude),
        follow_links,
        None if root is None else Path(root),
        known=lambda path: chosen is not None or format_of(path) is not None,
    )
    found = _places(paths)
    for place in found:
        _check(place, chosen, search)
    options = Options(id_field, text_field, paragraphs, sections, types_given(types))
    notes = Notes()
    items = _read_all(found, chosen, search, options, Meter(on_bytes), notes, named)
    pipe = any(place.path == STDIN or _is_pipe(place.path) for place in found)
    return Reading(
        items,
        notes,
        lambda: _total(found, search),
        lambda: _formats(found, chosen, search),
        lambda: _fingerprint(found, search, repr((chosen, named, id_field, text_field, paragraphs, sections, types))),
        reads_pipe=pipe,
    )


def total_bytes(
    paths: Iterable[str | Path] | str | Path, *, exclude: Sequence[str] = (), follow_links: bool = False
) -> int | None:
    """Bytes that `read` will report at its end, for a progress bar; None where a pipe is among the paths."""
    search = Search(exclude, follow_links, known=lambda path: format_of(path) is not None)
    return _total(_places(paths), search)


def _places(paths: Iterable[str | Path] | str | Path) -> list[Place]:
    given = one_or_many("paths", paths, (str, Path), "a path or an iterable of paths")
    return [place for argument in given for place in places(argument)]


def _found(among: list[Place], search: Search, notes: Notes) -> Iterator[Path | Unreadable]:
    """Every file at or below the places, once, however many of them lead to it."""
    seen = SeenKeys()
    for path in (path for place in among for path in files(place, search, notes)):
        if isinstance(path, Unreadable) or seen.add(search.key(path)):
            yield path


def _total(found: list[Place], search: Search) -> int | None:
    total = 0
    for path in _found(found, search, Notes()):
        if isinstance(path, Unreadable):
            continue
        size = None if path == STDIN else size_bytes(path)
        if size is None:
            return None
        total += size
    return total


def _fingerprint(found: list[Place], search: Search, how: str) -> str:
    digest = hashlib.sha256(how.encode())
    for path in _found(found, search, Notes()):
        if isinstance(path, Unreadable):
            continue
        told = path.stat() if path.exists() else None
        digest.update(f"\0{search.key(path)}\0{told and (told.st_size, told.st_mtime_ns)}".encode())
    return digest.hexdigest()


def _formats(found: list[Place], format: Format | None, search: Search) -> set[Format | None]:
    files = (path for path in _found(found, search, Notes()) if not isinstance(path, Unreadable))
    return {format or _default_format(path) for path in files}


def _check(place: Place, format: Format | None, search: Search) -> None:
    path = place.path
    search.key(path)
    _ = search.excluded
    if not place.named or is_folder(path):
        if format is not None:
            require(format)
        return
    chosen = format or _default_format(path)
    if chosen is None:
        raise InvalidInput(f"{path}: {unknown_suffix(path)}")
    _check_kind(path, chosen)
    require(chosen)
    if path.suffix.lower() in compression.COMPRESSIONS:
        compression.require(path.suffix.lower())


def _check_kind(path: Path, format: Format) -> None:
    if path != STDIN and not _is_pipe(path):
        mode = path.stat().st_mode if path.exists() else stat.S_IFREG
        if not stat.S_ISREG(mode):
            raise InvalidInput(f"path: expected a file, folder or pipe, got {str(path)!r}, a device or socket")
    elif not KINDS[format].streams:
        raise InvalidInput(f"format: expected a file for {format}, which is not readable front to back, got {path}")


def _is_pipe(path: Path) -> bool:
    """A pipe, `<(…)` or a terminal: what is named expressly is read, line by line."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and path.resolve().is_relative_to("/dev/pts"))


def _default_format(path: Path) -> Format | None:
    found = format_of(path) if path != STDIN else None
    # `/dev/stdin` may be a file.
    unnamed = path == STDIN or path.is_relative_to("/dev") or _is_pipe(path)
    return found or (Format.JSONL if unnamed else None)


def _read_all(
    found: list[Place],
    format: Format | None,
    search: Search,
    options: Options,
    meter: Meter,
    notes: Notes,
    encoding: str | None,
) -> Iterator[Item]:
    seen = SeenKeys()
    for path in _found(found, search, notes):
        if isinstance(path, Unreadable):
            yield Source(path.path, "").reject(0, f"folder: expected a readable one, got {describe(path.error)}")
            continue
        source = Source(path, search.key(path), meter, notes, encoding, seen)
        yield from _file(source, format or _default_format(path), options)


def _file(source: Source, format: Format | None, options: Options) -> Iterator[Item]:
    """One file's items. Whatever exception it raises ends this file, and no other."""
    try:
        if format is None:
            raise BadLine(unknown_suffix(source.path))
        require(format)
        yield from KINDS[format].read(source, options)
    except BadLine as error:
        yield source.reject(error.line, str(error))
    except InvalidInput as error:
        yield source.reject(0, f"file: {error}")
    except Exception as error:  # noqa: BLE001  # libraries raise what they like, and the next file is as good as ever
        yield source.reject(0, f"file: expected a readable one, got {describe(error)}; what follows in it was not read")
