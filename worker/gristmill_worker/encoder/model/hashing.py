"""SHA-256 of whole files, read once: afterwards remembered in the user's cache folder.

    {"format": 1, "files": {"/models/bge/model.safetensors": [size, mtime_ns, ctime_ns, inode, "9f86d0…"]}}

A file that is another by size, times or inode is read again, as one is that was still being written when it was read. In
the hub's cache a large file's name is its SHA-256 already. Costs about a second per gigabyte.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

_FORMAT: Final = 1
#: Smaller files are read each time: that is as quick as remembering them.
_WORTH_REMEMBERING: Final = 1 << 20
#: Two changes within the steps of a file system's clock look like one, so what is younger is not remembered.
_AT_REST_NS: Final = 2_000_000_000
_BLOB: Final = re.compile(r"[0-9a-f]{64}")
_MOST_FILES: Final = 1_000
_THREADS: Final = 4


class FileHashes:
    """Digests of files by path, size, times and inode."""

    def __init__(self, kept: Path | None = None) -> None:
        """Read what is remembered; what cannot be read is as good as nothing.

        Args:
            kept: the file of remembered digests; None means the user's cache folder.
        """
        self._kept = kept or _in_cache()
        self._known, self._new = _read(self._kept), dict[str, list[Any]]()

    def of(self, paths: Iterable[Path]) -> list[str]:
        """SHA-256 in hex of each file, in order; several are read at once."""
        with ThreadPoolExecutor(_THREADS, "gristmill-hashing") as threads:
            found = list(threads.map(self._one, paths))
        self._keep()
        return found

    def of_value(self, path: Path, compute: Callable[[], str]) -> str:
        """What `compute` makes of a file, remembered in the same way."""
        found = self._remembered(path, f"{path.resolve()}#value", compute)
        self._keep()
        return found

    def _one(self, path: Path) -> str:
        real = path.resolve()
        if real.parent.name == "blobs" and _BLOB.fullmatch(real.name):
            return real.name
        return self._remembered(real, str(real), lambda: _sha256(real))

    def _remembered(self, path: Path, key: str, compute: Callable[[], str]) -> str:
        before = _state(path)
        if (known := self._known.get(key)) and known[:-1] == before:
            return str(known[-1])
        digest = compute()
        at_rest = time.time_ns() - max(before[1], before[2]) > _AT_REST_NS
        if before[0] >= _WORTH_REMEMBERING and at_rest and _state(path) == before:
            self._new[key] = [*before, digest]
        return digest

    def _keep(self) -> None:
        """Add what is new. A read-only or full disk costs reading at each start, nothing else."""
        if not self._new:
            return
        # Read again, since processes start side by side; what one of them loses is read once more.
        files = dict(list({**_read(self._kept), **self._new}.items())[-_MOST_FILES:])
        with contextlib.suppress(OSError):
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            scratch = self._kept.with_suffix(f".{os.getpid()}")
            scratch.write_text(json.dumps({"format": _FORMAT, "files": files}), encoding="utf-8")
            scratch.replace(self._kept)
        self._known, self._new = files, {}


def _in_cache() -> Path:
    # Here, since who embeds `hash:DIM` reads no model and has the base install only.
    from platformdirs import user_cache_path

    return user_cache_path("gristmill", appauthor=False) / "hashes.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path) -> list[int]:
    seen = path.stat()
    return [seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino]


def _read(path: Path) -> dict[str, list[Any]]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] == _FORMAT:
            return {key: state for key, state in record["files"].items() if _is_sound(state)}
    return {}


def _is_sound(state: Any) -> bool:
    return (
        isinstance(state, list)
        and [type(each) for each in state] == [int, int, int, int, str]
        and bool(_BLOB.fullmatch(state[-1]))
    )
