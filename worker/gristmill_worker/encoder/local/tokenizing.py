"""Texts to token ids on the tokenizer's own threads, with the model's special tokens and its window.

Works on the Rust tokenizer behind transformers' fast tokenizers: it takes a whole batch, releases the GIL and encodes
in parallel, so that it runs ahead of the model thread instead of in its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np

from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.base import TokenizedText
from gristmill_worker.encoder.chunking import Spans, chunk_spans, token_splitter

#: Splitters kept per tokenizer, one for each (size, overlap) in use.
_MAX_SPLITTERS: Final = 4


class Tokenizer:
    """A model's tokenizer, cutting at its window. Safe to call from many threads."""

    def __init__(self, backend: Any, max_tokens: int) -> None:
        """Take over a `tokenizers.Tokenizer`.

        Args:
            backend: the tokenizer; its padding and truncation are switched off.
            max_tokens: the window, special tokens included.
        """
        backend.no_padding()
        # Cutting is done here and not in the backend, because the chunker needs the same tokenizer without it, and a
        # second copy costs a second and 100 MB where the vocabulary is large.
        backend.no_truncation()
        self.backend = backend
        self.max_tokens = max_tokens
        #: Special tokens that follow each text, such as `</s>` or `<|endoftext|>`; they survive cutting.
        self._tail = _tail(backend)
        #: Tokens that the model adds around each text.
        self.n_special: int = len(backend.encode("").ids)
        self._splitters: dict[tuple[int, int], Any] = {}
        self._lock = Lock()

    @classmethod
    def load(cls, folder: Path, max_tokens: int) -> Tokenizer:
        """Load a folder's tokenizer, converting older kinds.

        Raises:
            ModelUnavailable: the folder has no tokenizer that can be loaded without running its code.
        """
        return cls(_backend(folder), max_tokens)

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """One record per text, in order; ids int32 (T,), T from `n_special` to `max_tokens`."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=True)
        return [self._record(text, encoding.ids) for text, encoding in zip(texts, encodings, strict=True)]

    def _record(self, text: str, ids: list[int]) -> TokenizedText:
        truncated = len(ids) > self.max_tokens
        if truncated:
            ids = ids[: self.max_tokens - self._tail] + ids[len(ids) - self._tail :]
        return TokenizedText(text, np.asarray(ids, dtype=np.int32), len(ids), truncated)

    def count(self, text: str) -> int:
        """Tokens of a text without special tokens."""
        return len(self.backend.encode(text, add_special_tokens=False).ids)

    def chunk(self, text: str, size: int, overlap: int, reserved: int = 0) -> Spans:
        """Character spans of chunks; see `Encoder.chunk`.

        Args:
            text: what to cut.
            size: most tokens per chunk, special tokens included; more than the window means the window.
            overlap: tokens that neighbours share, about.
            reserved: tokens of the window that a template needs.
        """
        room = max(1, min(size, self.max_tokens - reserved) - self.n_special)
        # A token is at least one byte, so a short text needs no counting.
        if len(text) * 4 <= room or self.count(text) <= room:
            return [(0, len(text))]
        return chunk_spans(text, self._splitter(room, min(overlap, room - 1))) or [(0, len(text))]

    def _splitter(self, room: int, overlap: int) -> Any:
        # Building one copies the vocabulary, so they are kept; collections share few chunk sizes.
        with self._lock:
            key = (room, overlap)
            if key not in self._splitters:
                if len(self._splitters) >= _MAX_SPLITTERS:
                    self._splitters.pop(next(iter(self._splitters)))
                self._splitters[key] = token_splitter(self.backend, room, overlap)
            return self._splitters[key]


def _tail(backend: Any) -> int:
    """How many special tokens follow a text."""
    mask = backend.encode("a").special_tokens_mask
    return next((n for n, special in enumerate(reversed(mask)) if not special), 0)


def _backend(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        # AutoTokenizer and not tokenizer.json alone: it also applies what tokenizer_config.json adds, such as the
        # end-of-text token that Qwen3-Embedding pools from.
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ModelUnavailable(f"{folder}: its tokenizer cannot be loaded: {error}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelUnavailable(
            f"{folder}: expected a fast tokenizer (tokenizer.json), found {type(tokenizer).__name__}"
        )
    return backend
