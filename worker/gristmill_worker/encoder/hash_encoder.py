"""A stand-in encoder without a model: vectors are a pure function of the text, fast enough to be no bottleneck.

For chaos tests (any worker gives any text the same vector), pipeline benchmarks at zero encoding cost and machines
without torch. Equal texts have cosine 1, different ones about 0; it finds exact texts and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from gristmill_schemas import ChunkBy, EncoderInfo, Pooling
from gristmill_worker.encoder.base import BatchLimits, TokenizedText, Vectors
from gristmill_worker.encoder.chunking import Spans, counted_chunks

#: A "token": one CJK character, or a run of anything else that is not white space.
_TOKEN: Final = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)
_NO_IDS: Final = np.empty(0, dtype=np.int32)


def count_tokens(text: str) -> int:
    """Words, with each CJK character a word of its own."""
    return len(text.split()) if text.isascii() else len(_TOKEN.findall(text))


class HashEncoder:
    """`hash:DIM`: SHAKE-128 of the text's bytes as a vector of DIM signed bytes, normalised."""

    device = "cpu"
    dtype = "float32"

    def __init__(self, dimensions: int, *, max_tokens: int = 512, budget_tokens: int = 65_536) -> None:
        self.limits = BatchLimits(budget_tokens)
        self.info = EncoderInfo(
            model=f"hash:{dimensions}",
            digest=f"hash-1-{dimensions}-{max_tokens}",
            pooling=Pooling.MEAN,
            dimensions=dimensions,
            min_dimensions=1,
            max_tokens=max_tokens,
        )

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Count words; a text over the window keeps its first `max_tokens` ones."""
        return [self._record(text) for text in texts]

    def _record(self, text: str) -> TokenizedText:
        n_tokens, limit = count_tokens(text), self.info.max_tokens
        if n_tokens <= limit:
            return TokenizedText(text, _NO_IDS, n_tokens)
        last = next(match for number, match in enumerate(_TOKEN.finditer(text), 1) if number == limit)
        return TokenizedText(text[: last.end()], _NO_IDS, limit, truncated=True)

    def ending(self, text: str, tokens: int) -> str:
        """See `KeepsEnds.ending`."""
        starts = [match.start() for match in _TOKEN.finditer(text)]
        return text if len(starts) <= tokens else text[starts[len(starts) - tokens] :] if tokens else ""

    def chunk(self, text: str, size: int, overlap: int, by: ChunkBy = ChunkBy.TEXT, reserved: int = 0) -> Spans:
        """Spans of at most `size` words; see the protocol."""
        size = max(1, min(size, self.info.max_tokens - reserved))
        if count_tokens(text) <= size:
            return [(0, len(text))]
        return counted_chunks(text, count_tokens, size, overlap, by)

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        """Compute at once; the returned call only hands over."""
        vectors = self.encode(batch)
        return lambda: vectors

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        """float32 (B, D), rows of length 1."""
        size = self.info.dimensions
        raw = b"".join(hashlib.shake_128(item.text.encode()).digest(size) for item in batch)
        # The half keeps every component away from zero, so no row can be all zeros.
        vectors = np.frombuffer(raw, dtype=np.int8).reshape(len(batch), size).astype(np.float32) + np.float32(0.5)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def close(self) -> None:
        """Nothing to give back."""
