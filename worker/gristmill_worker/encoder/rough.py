"""Where no tokenizer can be had: lengths by a rule of thumb, and cuts at even places. What comes of it is an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from gristmill_schemas import ChunkBy, EncoderInfo
from gristmill_schemas.document import estimated_tokens
from gristmill_worker.encoder.base import TokenizedText
from gristmill_worker.encoder.chunking import Spans

_NO_IDS: Final = np.empty(0, dtype=np.int32)


class RoughReader:
    """See `TextReader`."""

    def __init__(self, info: EncoderInfo) -> None:
        self.info = info

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Lengths only, by `estimated_tokens`."""
        return [self._record(text) for text in texts]

    def _record(self, text: str) -> TokenizedText:
        tokens, window = estimated_tokens(text), self.info.max_tokens
        return TokenizedText(text, _NO_IDS, min(tokens, window), truncated=tokens > window)

    def chunk(self, text: str, size: int, overlap: int, by: ChunkBy = ChunkBy.TEXT, reserved: int = 0) -> Spans:
        """As many spans as such a text would have, all of one length, wherever sentences end."""
        room = max(1, min(size, self.info.max_tokens - reserved))
        overlap, tokens = min(overlap, room - 1), estimated_tokens(text)
        pieces = max(1, -(-(tokens - overlap) // (room - overlap)))
        step, shared = len(text) / pieces, len(text) * overlap / tokens
        return [(max(0, round(n * step - shared)) if n else 0, round((n + 1) * step)) for n in range(pieces)]
