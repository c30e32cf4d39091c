"""Which keys of a stream came before, in little memory."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

#: Why the second of two documents with one id is rejected: they would share a version, and which of them wins would be luck.
TWICE = "id: expected each id once per call, got this one a second time; the first was accepted"


class SeenKeys:
    """A set of strings at 8 bytes each, for streams of millions: 64-bit hashes in one sorted array and a small buffer.

    Two different keys collide with probability n²/2⁶⁵: for a million documents, 3 in a hundred million.
    """

    _BUFFER = 65_536

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)

    def add(self, key: str) -> bool:
        """Remember the key; false if it was there already."""
        digest = _digest(key)
        if digest in self._recent or self._in_sorted(digest):
            return False
        self._recent.add(digest)
        if len(self._recent) >= self._BUFFER:
            recent = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
            self._sorted = np.union1d(self._sorted, recent)
            self._recent.clear()
        return True

    def __contains__(self, key: str) -> bool:
        digest = _digest(key)
        return digest in self._recent or self._in_sorted(digest)

    def _in_sorted(self, digest: int) -> bool:
        if not len(self._sorted):
            return False
        value = np.uint64(digest)
        at = int(np.searchsorted(self._sorted, value))
        return at < len(self._sorted) and self._sorted[at] == value


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
