"""Where to cut a text: character spans at the best boundary that fits, sizes in the model's own tokens.

The splitter is semantic-text-splitter (Rust): it prefers paragraph ends to sentence ends to words to characters by
Unicode rules, so Chinese without spaces splits at its own sentence marks; and in Markdown, headings by their depth to
blocks to sentences.

It counts the rest of a sentence anew for each chunk, which is quadratic where nothing ends: hex, base64, long URLs, Chinese
without marks. Texts with such stretches are cut window by window, each tokenized once, and counts are read from the
tokens' places; what is cut so is counted once more by the tokenizer. Cost: linear, about two passes over the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final

from gristmill_schemas import ChunkBy
from gristmill_worker.encoder.chunking.arranging import Arranger
from gristmill_worker.encoder.chunking.outline import is_readable, outline

Spans = list[tuple[int, int]]

#: A stretch in which nothing ends: no white space, no mark that ends a Chinese sentence or clause.
_UNBROKEN: Final = re.compile(r"[^\s。，、；：？！…]{2000}")
#: Characters cut at a time where a text has such stretches, at least; and for each token of a chunk.
_WINDOW, _WINDOW_PER_TOKEN = 4_096, 16
#: Tokens by which a count read from places may be too small: a slice that starts inside a word has its own tokens.
_SLACKS: Final = (2, 8, 32)


def counted_chunks(
    text: str, count: Callable[[str], int], size: int, overlap: int, by: ChunkBy = ChunkBy.TEXT
) -> Spans:
    """Spans for encoders that have no tokenizer here, whose `count` is cheap; ascending, covering all but white space."""
    by = readable(text, by)
    splitter = _counting(by, count, size, overlap)
    spans = _spans(text, splitter) if ordinary(text) else _windows(text, size, lambda part: _spans(part, splitter))
    return spans if by is ChunkBy.TEXT else _arranged(text, spans, count, size)


class TokenSplitter:
    """Cuts texts to chunks of at most `size` tokens, special tokens left out. Safe to call from many threads."""

    def __init__(self, tokenizer: Any, size: int, overlap: int, by: ChunkBy = ChunkBy.TEXT) -> None:
        """Count with a `tokenizers.Tokenizer` without truncation."""
        self._tokenizer, self._size, self._overlap, self._by = tokenizer, size, min(overlap, size - 1), by
        self._exact = _kind(by).from_huggingface_tokenizer(tokenizer, size, overlap=self._overlap)

    def spans(self, text: str) -> Spans:
        """Ascending character spans that cover all that is not white space."""
        spans = _spans(text, self._exact) if ordinary(text) else _windows(text, self._size, self._window)
        return spans if self._by is ChunkBy.TEXT else _arranged(text, spans, self._count, self._size)

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _window(self, text: str) -> Spans:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        starts = [start for start, _ in encoding.offsets]
        for slack in _SLACKS:
            if slack < self._size:
                spans = _spans(text, _counting(self._by, _places(text, starts, slack), self._size, self._overlap))
                if self._fit(text, spans):
                    return spans
        return _spans(text, self._exact)

    def _fit(self, text: str, spans: Spans) -> bool:
        parts = [text[start:end] for start, end in spans]
        encodings = self._tokenizer.encode_batch_fast(parts, add_special_tokens=False)
        return all(len(encoding) <= self._size for encoding in encodings)


def readable(text: str, by: ChunkBy) -> ChunkBy:
    """How a text is cut: one that is not fit to be read as Markdown is cut as text."""
    return by if by is ChunkBy.TEXT or is_readable(text) else ChunkBy.TEXT


def _arranged(text: str, spans: Spans, count: Callable[[str], int], size: int) -> Spans:
    def cut(part: str, room: int) -> Spans:
        return counted_chunks(part, count, room, 0)

    return Arranger(text, outline(text), count, size, cut).arrange(spans)


def ordinary(text: str) -> bool:
    """Whether something ends often enough in a text that the splitter's own cost stays linear."""
    return _UNBROKEN.search(text) is None


def _kind(by: ChunkBy) -> Any:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    return MarkdownSplitter if by is ChunkBy.MARKDOWN else TextSplitter


def _counting(by: ChunkBy, count: Callable[[str], int], size: int, overlap: int) -> Any:
    return _kind(by).from_callback(count, size, overlap=min(overlap, size - 1))


def _places(text: str, starts: list[int], slack: int) -> Callable[[str], int]:
    """A count of tokens that looks up where a slice stands; equal slices have equal tokens, so any place will do."""

    def count(part: str) -> int:
        at = text.find(part)
        return bisect_left(starts, at + len(part)) - bisect_left(starts, at) + slack

    return count


def _windows(text: str, tokens: int, cut: Callable[[str], Spans]) -> Spans:
    """The spans of a long text, cut window by window: what the end of a window has shaped is cut again in the next."""
    spans: Spans = []
    least = max(_WINDOW, _WINDOW_PER_TOKEN * tokens)
    start, size = 0, least
    while start < len(text):
        part = cut(text[start : start + size])
        if start + size < len(text):
            if 0 < len(part) <= 2:
                size *= 2
                continue
            kept = part[:-2]
            after = start + (part[-2][0] if part else size)
        else:
            kept, after = part, len(text)
        spans += [(start + first, start + last) for first, last in kept]
        start, size = after, least
    return spans


def _spans(text: str, splitter: Any) -> Spans:
    # Without the white space around it, of which the splitter for Markdown makes very much work.
    body = text.strip()
    offset = len(text) - len(text.lstrip())
    return [(offset + start, offset + start + len(part)) for start, part in splitter.chunk_indices(body)]
