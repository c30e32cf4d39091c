"""Long texts to chunks: character spans at the best boundary that fits, sizes in the model's own tokens.

The splitter is semantic-text-splitter (Rust): it prefers paragraph ends to sentence ends to words to characters by
Unicode rules, so Chinese without spaces splits at its own sentence marks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Spans = list[tuple[int, int]]


def chunk_spans(text: str, splitter: Any) -> Spans:
    """Character spans [start, end) of a splitter's chunks; ascending, covering all that is not white space."""
    return [(start, start + len(part)) for start, part in splitter.chunk_indices(text)]


def token_splitter(tokenizer: Any, size: int, overlap: int) -> Any:
    """A splitter that counts with a `tokenizers.Tokenizer` (without truncation), special tokens left out."""
    from semantic_text_splitter import TextSplitter

    return TextSplitter.from_huggingface_tokenizer(tokenizer, size, overlap=min(overlap, size - 1))


def counting_splitter(count: Callable[[str], int], size: int, overlap: int) -> Any:
    """A splitter that counts with a plain function, for encoders that have no tokenizer here."""
    from semantic_text_splitter import TextSplitter

    return TextSplitter.from_callback(count, size, overlap=min(overlap, size - 1))
