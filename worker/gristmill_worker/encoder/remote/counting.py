"""How long texts are for a model that runs elsewhere: by its own tokenizer where that can be had, else by an estimate."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from gristmill_schemas import ChunkBy
from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.base import TokenizedText
from gristmill_worker.encoder.chunking import Spans, counted_chunks
from gristmill_worker.encoder.model.hub import tokenizer_file
from gristmill_worker.encoder.tokenizing import Tokenizer
from gristmill_worker.phases import phase

log = logging.getLogger(__name__)

_NO_IDS: Final = np.empty(0, dtype=np.int32)
#: Special tokens of a text by which two honest counts may differ.
_SPECIAL: Final = 4
#: Where no window is known.
_ENDLESS: Final = 10_000_000
#: A name that may be the hub's; names without an owner are those of hosted models, or aliases.
_HUB_ID: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def agree(counted: int, here: int) -> bool:
    """Whether two counts of one text's tokens may be those of one tokenizer."""
    return abs(counted - here) <= _SPECIAL


class Counting(Protocol):
    """Lengths of texts, and where to cut them."""

    @property
    def window(self) -> int | None:
        """Tokens behind which a text is not read, where that is known."""

    @window.setter
    def window(self, tokens: int | None) -> None: ...

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """See `Encoder.tokenize`; without ids, since the server makes its own."""

    def chunk(self, text: str, size: int, overlap: int, by: ChunkBy, reserved: int) -> Spans:
        """See `Encoder.chunk`."""

    def told(self, window: int) -> None:
        """The server says how many tokens it takes of a text, and refuses more."""

    def least(self, item: TokenizedText) -> int:
        """So many tokens a server that reads all of a text counts in it at least."""


def estimate_tokens(text: str) -> int:
    """Tokens of a text where no tokenizer is at hand: one per CJK character, one per four other bytes."""
    if text.isascii():
        return len(text) // 4 + 3
    wide = sum(character > "\u2e7f" for character in text)
    return wide + (len(text) - wide) // 3 + 3


class Estimate:
    """See `Counting`. What seems too long is sent as it is: the server may see it otherwise."""

    def __init__(self, window: int | None = None) -> None:
        self.window = window

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Estimate the cost; a text that seems too long counts as truncated."""
        return [self._record(text) for text in texts]

    def _record(self, text: str) -> TokenizedText:
        count = estimate_tokens(text)
        read = min(count, self.window or count)
        return TokenizedText(text, _NO_IDS, read, truncated=count > read)

    def chunk(self, text: str, size: int, overlap: int, by: ChunkBy, reserved: int) -> Spans:
        """Spans of at most `size` estimated tokens."""
        size = max(1, size if self.window is None else min(size, self.window - reserved))
        if estimate_tokens(text) <= size:
            return [(0, len(text))]
        return counted_chunks(text, estimate_tokens, size, overlap, by) or [(0, len(text))]

    def told(self, window: int) -> None:
        """Not heeded: what is estimated to be longer may well be taken."""

    def least(self, item: TokenizedText) -> int:
        """A word has one token or more, with few exceptions."""
        words = len(item.text.split())
        return min(words, self.window or words) * 9 // 10 - _SPECIAL


class Exact:
    """See `Counting`. What is too long is cut here, so that it is never too long for the server."""

    def __init__(self, tokenizer: Tokenizer, window: int | None = None, *, template: str = "") -> None:
        """Count with a tokenizer.

        Args:
            tokenizer: the model's.
            window: most tokens of a text, special ones included; None leaves it to the server.
            template: what stands around documents, for which chunks leave room.
        """
        self._tokenizer = tokenizer
        self._reserved = tokenizer.count(template) if template else 0
        self.window = window

    @property
    def window(self) -> int | None:
        """Tokens behind which a text is not read, where that is known."""
        return None if self._tokenizer.max_tokens == _ENDLESS else self._tokenizer.max_tokens

    @window.setter
    def window(self, tokens: int | None) -> None:
        self._tokenizer.max_tokens = tokens or _ENDLESS

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Count the tokens; a text beyond the window ends with its last whole token."""
        return [self._without_ids(item) for item in self._tokenizer.tokenize(texts)]

    def _without_ids(self, item: TokenizedText) -> TokenizedText:
        text = self._tokenizer.fitting(item.text) if item.truncated else item.text
        return replace(item, text=text, ids=_NO_IDS)

    def chunk(self, text: str, size: int, overlap: int, by: ChunkBy, reserved: int) -> Spans:
        """Spans of at most `size` tokens, special ones included."""
        return self._tokenizer.chunk(text, size, overlap, by, self._reserved + reserved)

    def told(self, window: int) -> None:
        """What is longer is cut from now on."""
        self.window = min(window, self.window or window)

    def least(self, item: TokenizedText) -> int:
        """What was counted here, but for a little: servers see odd characters in their own ways."""
        return item.n_tokens * 49 // 50 - _SPECIAL


def tokenizer_of(name: str) -> Tokenizer | None:
    """The tokenizer of a served model whose name is a folder on this machine, or a hub id; None where it cannot be had.

    Where it should be there and is not, a warning says why, and what to do.
    """
    try:
        file = _file_of(name)
        return Tokenizer.read(file, _ENDLESS) if file else None
    except (ImportError, ModelUnavailable) as error:
        log.warning(
            "%s: its texts' lengths are estimated, since its tokenizer cannot be had: %s. To have them exact, set "
            "HF_ENDPOINT to a mirror (such as https://hf-mirror.com) or HF_HOME to a cache that holds its tokenizer.json; "
            "or serve it under the path of a folder that is on this machine, too",
            name,
            error,
        )
        return None


def _file_of(name: str) -> Path | None:
    folder = Path(name).expanduser()
    if folder.is_dir():
        file = folder / "tokenizer.json"
        return file if file.is_file() else None
    if not _HUB_ID.fullmatch(name):
        return None
    with phase(f"fetching the tokenizer of {name}, or finding it in the cache"):
        return tokenizer_file(name)
