"""Texts for benchmarks: of mixed lengths, from CPython's own language reference, which every Python carries."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gristmill_schemas.errors import InvalidInput

#: Log-normal lengths in tokens: what mixed document collections look like (FAQ entries, paragraphs, a few long pages).
MEDIAN_TOKENS: Final = 55
SIGMA: Final = 1.0
MAX_TOKENS: Final = 1_024
_SEED: Final = 7


def mixed_texts(count: int, count_tokens: Callable[[str], int], median_tokens: int = MEDIAN_TOKENS) -> list[str]:
    """Texts of log-normal lengths in the given tokens, at most about 1,024; always the same ones."""
    draw = np.random.default_rng(_SEED)
    lengths = np.clip(draw.lognormal(np.log(median_tokens), SIGMA, count), 4, MAX_TOKENS)
    return _texts(lengths, count_tokens, draw)


def even_texts(count: int, tokens: int, count_tokens: Callable[[str], int]) -> list[str]:
    """Texts of about so many tokens each, at most about 1,024; always the same ones."""
    return _texts(np.full(count, min(tokens, MAX_TOKENS)), count_tokens, np.random.default_rng(_SEED))


def _texts(lengths: npt.NDArray[Any], count_tokens: Callable[[str], int], draw: np.random.Generator) -> list[str]:
    from pydoc_data.topics import topics

    words = " ".join(topics[name] for name in sorted(topics)).split()
    per_word = count_tokens(" ".join(words[:2_000])) / 2_000
    starts = draw.integers(0, len(words) - MAX_TOKENS, len(lengths))
    return [
        " ".join(words[start : start + max(1, round(length / per_word))])
        for start, length in zip(starts, lengths, strict=True)
    ]


def read_texts(path: Path) -> list[str]:
    """One text per line, or per JSON line's `text`; blank lines are left out.

    Raises:
        InvalidInput: the file cannot be read or holds no text.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        texts = [str(json.loads(line)["text"]) for line in lines] if path.suffix == ".jsonl" else lines
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"texts: {path} cannot be read: {error!r}") from error
    if not texts:
        raise InvalidInput(f"texts: {path} holds no text")
    return texts


def describe(lengths: Sequence[int]) -> str:
    """One line about lengths in tokens."""
    return f"median {np.median(lengths):.0f}, longest {max(lengths)}, {sum(lengths)} in all"
