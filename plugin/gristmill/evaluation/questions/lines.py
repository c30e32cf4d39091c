"""Lines of the files that evaluation reads, each with its place; what is wrong in them is said of all lines at once."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gristmill.readers.files.lines import BadLine
from gristmill_schemas.errors import InvalidInput

STDIN = "-"
#: So many wrong lines are told in full.
_TOLD = 5


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, from 1; `-` is standard input, `.gz` is unpacked.

    Raises:
        InvalidInput: the file cannot be read, or is no UTF-8.
    """
    number = 0
    try:
        with _opened(path) as lines:
            for number, line in enumerate(lines, 1):  # named where the file breaks
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}:{number + 1}: expected UTF-8, got byte {error.object[error.start]:#04x}") from None
    except (OSError, EOFError) as error:
        raise InvalidInput(f"{path}: expected a readable file, got {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    if str(path) == STDIN:
        yield sys.stdin
    elif path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig") as lines:
            yield lines
    else:
        with path.open(encoding="utf-8-sig") as lines:
            yield lines


class Problems:
    """What is wrong with a file, gathered line by line."""

    def __init__(self, path: Path | str) -> None:
        self._path = "standard input" if str(path) == STDIN else str(path)
        self._said: list[str] = []

    @contextmanager
    def of_line(self, number: int) -> Iterator[None]:
        """Keep what is raised of this line, and go on to the next."""
        try:
            yield
        except (BadLine, InvalidInput) as error:
            self._said.append(f"{self._path}:{number}: {error}")

    def raise_any(self) -> None:
        """Raise InvalidInput where a line was wrong; it names the first of them."""
        if self._said:
            more = f"\n… and {len(self._said) - _TOLD} more" if len(self._said) > _TOLD else ""
            raise InvalidInput("\n".join(self._said[:_TOLD]) + more)
