"""What there is to read: paths, patterns and folders in, files out, sorted, each with the key that its ids begin with.

**Keys.** A file's key is its absolute path, so no two files share one, and it depends neither on the working directory nor
on what else is read; below a `root` that the caller names it is the path from there, the same on every machine. Links in
it are not resolved: `current/a.md` keeps its key when `current` points elsewhere. `#`, which begins what follows a key in
an id, is written `%23`, `%` is `%25`, and a byte that is no UTF-8 likewise.

**Passed over** in folders, and counted: what is hidden, excluded, a pipe, socket or device (opening one may wait for
ever), a link to a folder or to what lies outside the folder (unless links are followed), and what no reader knows.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from gristmill.arguments import refuse
from gristmill.readers.files.notes import Notes, Passed
from gristmill.readers.files.source import STDIN
from gristmill_schemas.errors import InvalidInput

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

#: Folders that hold what machines made, wherever they are; hidden ones are passed over anyway.
NEVER = ("node_modules/", "__pycache__/", "__MACOSX/")
#: Longest key, in characters; a longer one keeps its end and gets a hash.
_MAX_KEY_CHARS = 384

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}")


@dataclass(frozen=True)
class Search:
    """How folders are searched, and what their files are called in ids."""

    #: Patterns as `.gitignore` has them, relative to the folder that was named.
    exclude: Sequence[str] = ()
    #: Follow links to folders, and to files outside.
    follow_links: bool = False
    #: What keys are relative to; None: nothing.
    root: Path | None = None
    #: Whether a reader knows this file by its name.
    known: Callable[[Path], bool] = field(default=lambda path: True)

    @cached_property
    def excluded(self) -> GitIgnoreSpec:
        """What is passed over."""
        return _patterns([*NEVER, *self.exclude], "exclude")

    def key(self, path: Path) -> str:
        """What the ids of a file's documents begin with."""
        if path == STDIN:
            return "stdin"
        absolute = _absolute(path)
        if self.root is not None:
            root = _absolute(self.root)
            if not absolute.is_relative_to(root):
                raise InvalidInput(
                    f"root: expected a folder that holds everything read, got {str(self.root)!r} for {str(path)!r}",
                    field="root",
                )
            absolute = absolute.relative_to(root)
        return _shortened(_escaped(absolute.as_posix()))


def _patterns(lines: Iterable[str], argument: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise InvalidInput(f"{argument}: expected patterns as .gitignore has them: {error}", field=argument) from None


def _absolute(path: Path) -> Path:
    # `a/../b` is `b` only where `a` is no link.
    return path.resolve() if ".." in path.parts else path.absolute()


def _escaped(path: str) -> str:
    readable = os.fsencode(path).decode("utf-8", "surrogateescape").replace("%", "%25").replace("#", "%23")
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", readable)


def _shortened(key: str) -> str:
    if len(key) <= _MAX_KEY_CHARS:
        return key
    return f"%…{hashlib.sha256(key.encode()).hexdigest()[:32]}…{key[64 - _MAX_KEY_CHARS :]}"


def _refuse_url(path: str) -> None:
    """Raise InvalidInput, with what to do, for what is an address and no path."""
    if (found := _URL.match(path)) is None:
        return
    scheme = found[1].lower()
    if scheme == "file":
        raise InvalidInput(f"path: expected a path, got the address {path!r}: give the path alone", field="path")
    raise InvalidInput(
        f"path: expected a file or folder on this machine, got the address {path!r}: download it first, "
        f"or pipe it: {_DOWNLOAD.get(scheme, _FETCH)} | gristmill ingest -",
        field="path",
    )


_FETCH = "curl -L ADDRESS"
_DOWNLOAD = {"s3": "aws s3 cp ADDRESS -", "gs": "gcloud storage cat ADDRESS", "hf": "hf download … and cat the file"}


@dataclass(frozen=True, slots=True)
class Place:
    """One path to read at, after patterns are expanded."""

    path: Path
    #: The caller wrote this very path; else it was found, and may be passed over.
    named: bool = True
    #: What of a folder is meant; None: everything.
    include: GitIgnoreSpec | None = None


def places(argument: str | Path) -> list[Place]:
    """What one argument names: itself, or everything that matches it as a pattern.

    Raises:
        InvalidInput: it is an address, it does not exist, or nothing matches it.
    """
    if not isinstance(argument, str | Path) or not str(argument):
        raise refuse("path", "a file or folder", argument)
    text = str(argument)
    _refuse_url(text)
    path = Path(argument)
    if path == STDIN or _is_there(path):
        return [Place(path)]
    if not glob.has_magic(text):
        raise InvalidInput(f"path: expected a file or folder, got {text!r}, which does not exist", field="path")
    found = _deep(path) if "**" in path.parts else [Place(each, named=False) for each in _matching(path)]
    if not found:
        expected = f"path: expected a pattern that something matches, got {text!r}, which nothing does"
        raise InvalidInput(expected, field="path")
    return found


def _is_there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:
        # A name with a zero byte.
        return False


def _matching(pattern: Path) -> list[Path]:
    # `Path.glob` finds hidden files, which a shell's patterns do not.
    return sorted(Path(each) for each in glob.glob(str(pattern)))  # noqa: PTH207


def _deep(pattern: Path) -> list[Place]:
    # Python's own `**` follows links in circles; here the folder above it is searched, and what matches is taken.
    at = pattern.parts.index("**")
    include = _patterns(["/" + "/".join(pattern.parts[at:])], "path")
    above = _matching(Path(*pattern.parts[:at])) if at else [Path()]
    return [Place(each, named=False, include=include) for each in above if is_folder(each)]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A folder that cannot be listed."""

    path: Path
    error: OSError


def files(place: Place, search: Search, notes: Notes) -> Iterator[Path | Unreadable]:
    """The files at or below a place, sorted, depth first."""
    if place.path == STDIN or (place.named and not is_folder(place.path)):
        yield place.path
        return
    top = place.path if is_folder(place.path) else place.path.parent
    waiting = [place.path]
    while waiting:
        path = waiting.pop()
        folder = is_folder(path)
        if path != top and (why := _passed(path, top, folder, search)):
            notes.pass_over(path, why)
        elif folder:
            try:
                waiting.extend(sorted(path.iterdir(), reverse=True))
            except OSError as error:
                yield Unreadable(path, error)
        elif place.include is None or place.include.match_file(path.relative_to(top)):
            yield path


def _passed(path: Path, top: Path, folder: bool, search: Search) -> Passed | None:
    """Why an entry below `top` is passed over, if it is."""
    if path.name.startswith("."):
        return Passed.HIDDEN
    if search.excluded.match_file(f"{path.relative_to(top).as_posix()}{'/' if folder else ''}"):
        return Passed.EXCLUDED
    if path.is_symlink() and not _followed(path, top, folder, search):
        return Passed.LINK
    if folder:
        return None
    if not _is_ordinary(path):
        return Passed.SPECIAL
    return None if search.known(path) else Passed.UNKNOWN


def _followed(link: Path, top: Path, folder: bool, search: Search) -> bool:
    target = Path(os.path.realpath(link))
    if search.follow_links:
        # A folder inside itself has no end.
        return not (folder and Path(os.path.realpath(link.parent)).is_relative_to(target))
    # A link that leads nowhere is an unreadable file, and says so.
    return not folder and (not target.exists() or target.is_relative_to(os.path.realpath(top)))


def is_folder(path: Path) -> bool:
    """Whether it is a folder, and may be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def size_bytes(path: Path) -> int | None:
    """A file's size; 0 for what cannot be looked at, None for a pipe."""
    try:
        about = path.stat()
    except OSError:
        return 0
    return about.st_size if stat.S_ISREG(about.st_mode) else None


def _is_ordinary(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        # Opening it says why.
        return True
