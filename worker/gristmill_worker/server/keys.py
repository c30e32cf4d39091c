"""API keys from a file, one to a line; read again when the file changes, so that a key is given or taken without a restart.

    # the billing service
    sk-…
    sk-…      # ana, until March

Kept and compared as digests, each with each, so that an answer's time says nothing about a key.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import stat
from pathlib import Path
from threading import Lock

from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.redaction import remember
from gristmill_schemas.validation import clean_key

log = logging.getLogger(__name__)

#: What changes when a file does.
_Version = tuple[int, int, int]


class Keys:
    """The keys of a file."""

    def __init__(self, file: Path) -> None:
        """Read the file.

        Raises:
            InvalidInput: it cannot be read, holds no key, or something that can be none.
        """
        self._file = file
        self._lock = Lock()
        self._version = _version(file)
        self._digests = self._read()
        if not self._digests:
            raise InvalidInput(f"api_keys: expected a key on at least one line of {file}, got none", field="api_keys")

    def let_in(self, key: str) -> bool:
        """Whether it is one of the file's keys, as the file is now."""
        self._look()
        asked = _digest(key)
        # All of them, whichever fits.
        return sum(hmac.compare_digest(asked, each) for each in self._digests) > 0

    def _look(self) -> None:
        with self._lock:
            if (seen := _version(self._file)) == self._version:
                return
            # Remembered also where it cannot be read: said once, not with every request.
            self._version = seen
            try:
                self._digests = self._read()
                log.info("API keys: %d read from %s, which has changed", len(self._digests), self._file)
            except InvalidInput as error:
                # A file that is being replaced shuts nobody out.
                log.error("API keys: those read before stay in force: %s", error)

    def _read(self) -> tuple[bytes, ...]:
        try:
            lines = self._file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(
                f"api_keys: expected a text file with a key on each line, got {self._file}: {error}", field="api_keys"
            ) from None
        keys = [_key(number, line) for number, line in enumerate(lines, 1)]
        _warn_of_readers(self._file)
        return tuple(_digest(key) for key in keys if key)


def _key(number: int, line: str) -> str:
    """The key of a line; empty where there is none."""
    words = line.split()
    before = [] if line.lstrip().startswith("#") else words
    comment = next((at for at, word in enumerate(before) if word.startswith("#")), len(before))
    if not (found := " ".join(before[:comment])):
        return ""
    try:
        key = clean_key(found)
    except ValueError as error:
        raise InvalidInput(f"api_keys: line {number}: {error}", field="api_keys") from None
    remember(key)
    return key


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _version(file: Path) -> _Version | None:
    try:
        there = file.stat()
    except OSError:
        return None
    return there.st_mtime_ns, there.st_size, there.st_ino


def _warn_of_readers(file: Path) -> None:
    if os.name == "posix" and stat.S_IMODE(file.stat().st_mode) & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("API keys: %s can be read by others on this machine: chmod 600 it", file)
