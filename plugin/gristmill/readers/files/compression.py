"""Compressed files: .gz .zst .bz2 .xz, by suffix.

Each streams. Bounds: xz and zstd may ask for at most 128 MiB of memory, and what grows more than a thousandfold is no
data but an attack or an accident; gzip itself cannot grow more than 1,032-fold.
"""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import lzma
import sys
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol, cast

from gristmill_schemas.errors import InvalidInput

#: Most bytes that come out for one that goes in, once `_RATIO_FROM_BYTES` have come out.
MAX_RATIO = 1000
_RATIO_FROM_BYTES = 64 * 1024 * 1024
_MAX_MEMORY_BYTES = 128 * 1024 * 1024
_STEP_BYTES = 256 * 1024


class _Decompressor(Protocol):
    """What the standard library's decompressors share."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(memlimit=_MAX_MEMORY_BYTES)


def _zstd() -> _Decompressor:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        _require_zstd()
        from backports import zstd
    # A window of 128 MiB is the most it takes unless told otherwise.
    return cast("_Decompressor", zstd.ZstdDecompressor())


def _require_zstd() -> None:
    if sys.version_info < (3, 14) and importlib.util.find_spec("backports.zstd") is None:
        raise InvalidInput(
            "reading .zst needs backports.zstd, which is not installed; run: pip install 'gristmill[files]'"
        )


class _Tally(io.RawIOBase):
    """Knows how much was read through it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = cast("io.BufferedReader", self._stream).readinto1(buffer)
        self.taken += count
        return count


#: How each suffix is read: at most so many bytes at a time.
_OPENERS: MappingProxyType[str, Callable[[_Tally], Callable[[int], bytes]]] = MappingProxyType(
    {
        ".gz": lambda packed: gzip.GzipFile(fileobj=cast("BinaryIO", packed)).read1,
        ".bz2": lambda packed: _Streams(packed, bz2.BZ2Decompressor).read,
        ".xz": lambda packed: _Streams(packed, _xz).read,
        ".zst": lambda packed: _Streams(packed, _zstd).read,
    }
)
#: The suffixes that are taken off a file's name.
COMPRESSIONS = tuple(_OPENERS)


def require(suffix: str) -> None:
    """Raise InvalidInput, with the way out, where the package that this compression needs is not installed."""
    if suffix == ".zst":
        _require_zstd()


def unpack(packed: BinaryIO, suffix: str) -> BinaryIO:
    """What comes out of a compressed stream.

    Raises:
        InvalidInput: the package that it needs is not installed; or, while reading, it grows beyond all measure.
        EOFError, OSError, zlib.error, lzma.LZMAError, ZstdError: while reading, it is damaged or cut off.
    """
    counted = _Tally(packed)
    return io.BufferedReader(_Bounded(_OPENERS[suffix](counted), counted), buffer_size=_STEP_BYTES)


class _Streams:
    """One compressed stream after another, until the file ends."""

    def __init__(self, packed: _Tally, make: Callable[[], _Decompressor]) -> None:
        self._packed, self._make, self._current = packed, make, make()
        self._rest = b""
        self._begun = False

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        while True:
            if self._current.eof and not self._next():
                return b""
            data = self._more() if self._current.needs_input else b""
            if self._current.needs_input and not data:
                if self._begun:
                    raise EOFError("the compressed data ends before its end marker")
                return b""
            self._begun = True
            if out := self._current.decompress(data, size):
                return out

    def _more(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest or self._packed.read(_STEP_BYTES) or b""

    def _next(self) -> bool:
        self._rest = self._current.unused_data
        # xz allows padding with zeros between and after its streams.
        while (data := self._more()) and not (rest := data.lstrip(b"\0")):
            pass
        if not data:
            return False
        self._rest, self._current, self._begun = rest, self._make(), False
        return True


class _Bounded(io.RawIOBase):
    """Passes on what was unpacked as long as it is in proportion."""

    def __init__(self, read: Callable[[int], bytes], packed: _Tally) -> None:
        self._read, self._packed, self._out = read, packed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        self._out += len(data)
        if self._out > max(_RATIO_FROM_BYTES, MAX_RATIO * self._packed.taken):
            raise InvalidInput(
                f"compression: expected at most {MAX_RATIO} bytes out for one in, got {self._out} out of "
                f"{self._packed.taken}; unpack it first if that is right"
            )
        return len(data)
