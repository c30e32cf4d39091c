"""Texts to token ids on the tokenizer's own threads, with the model's special tokens and its window.

Works on the Rust tokenizer behind transformers' fast tokenizers: it takes a whole batch, releases the GIL and encodes
in parallel, so that it runs ahead of the model thread instead of in its way.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np

from gristmill_schemas import ChunkBy, EncoderInfo
from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.base import TokenizedText
from gristmill_worker.encoder.chunking import Spans, TokenSplitter, readable
from gristmill_worker.encoder.model.prompts import PROMPT_END
from gristmill_worker.encoder.model.recipe import Recipe
from gristmill_worker.encoder.model.spelling import vocabulary_files

log = logging.getLogger(__name__)

#: Splitters kept per tokenizer, one for each (size, overlap, kind) in use.
_MAX_SPLITTERS: Final = 4
#: Characters above which a text's beginning is looked at first: it may be beyond the window already.
_LONG: Final = 16_384


class Tokenizer:
    """A model's tokenizer, cutting at its window. Safe to call from many threads."""

    def __init__(
        self, backend: Any, max_tokens: int, *, special: bool = True, keeps_end: bool = False, prompts: bool = False
    ) -> None:
        """Take over a `tokenizers.Tokenizer`.

        Args:
            backend: the tokenizer; its padding and truncation are switched off.
            max_tokens: the window, special tokens included.
            special: add the model's special tokens; static embeddings have none.
            keeps_end: of a text beyond the window keep the end, not the beginning.
            prompts: texts come with the end of their prompt marked, and its tokens are counted.
        """
        backend.no_padding()
        # Cutting is done here and not in the backend, because the chunker needs the same tokenizer without it, and a
        # second copy costs a second and 100 MB where the vocabulary is large.
        backend.no_truncation()
        self.backend = backend
        self.max_tokens = max_tokens
        self._special, self._keeps_end, self._prompts = special, keeps_end, prompts
        #: Special tokens before and after each text, such as `<s>` and `</s>`; they survive cutting.
        self._before, self._after = _around(backend) if special else (0, 0)
        #: Tokens that the model adds around each text.
        self.n_special: int = len(backend.encode("").ids) if special else 0
        self._splitters: dict[tuple[int, int, ChunkBy], TokenSplitter] = {}
        self._lock = Lock()

    @classmethod
    def load(cls, recipe: Recipe) -> Tokenizer:
        """Load the tokenizer of a folder, converting older kinds.

        Raises:
            ModelUnavailable: the folder has no tokenizer that can be loaded without running its code.
        """
        folder, window = recipe.transformer, recipe.info.max_tokens
        if recipe.static:
            return cls(_backend(folder / "tokenizer.json"), window, special=False)
        tokenizer = load_fast(folder, code=recipe.runs_code)
        backend = tokenizer.backend_tokenizer
        if recipe.lower_case:
            _lower(backend)
        if recipe.end:
            _append(backend, recipe)
        whole = cls(backend, window, keeps_end=tokenizer.truncation_side == "left", prompts=not recipe.include_prompt)
        if window <= whole.n_special:
            raise ModelUnavailable(
                f"{folder}: a window of {window} tokens leaves no room for a text beside the model's {whole.n_special} "
                "special ones; set max_seq_length in sentence_bert_config.json, model_max_length in tokenizer_config.json, "
                "or max_tokens to more"
            )
        return whole

    @classmethod
    def read(cls, file: Path, max_tokens: int) -> Tokenizer:
        """A tokenizer by its `tokenizer.json` alone, without transformers: what model servers count with.

        Raises:
            ModelUnavailable: the file cannot be read.
        """
        return cls(_backend(file), max_tokens)

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """One record per text, in order; ids int32 (T,), T from `n_special` to `max_tokens`."""
        if self._prompts:
            return [self._prompted(text) for text in texts]
        needed = texts if self._keeps_end else [self.beginning(text, self.max_tokens) for text in texts]
        encodings = self.backend.encode_batch_fast(list(needed), add_special_tokens=self._special)
        return [self._record(text, encoding.ids) for text, encoding in zip(texts, encodings, strict=True)]

    def beginning(self, text: str, tokens: int) -> str:
        """A beginning that has more than so many tokens, the same as in the whole text; where there is none, the text.

        A word's tokens depend on all of it, so the last word of what is looked at does not count.
        """
        size = max(_LONG, 16 * tokens)
        while size < len(text) // 2:
            words = self.backend.encode(text[:size], add_special_tokens=False).word_ids
            if words and words.index(words[-1]) > tokens:
                return text[:size]
            size *= 4
        return text

    def _prompted(self, text: str) -> TokenizedText:
        """One text after its prompt, whose tokens (special ones before it included) are not pooled."""
        prompt, mark, rest = text.partition(PROMPT_END)
        plain = prompt + rest
        record = self._record(plain, self.backend.encode(plain).ids)
        left_out = self._before + self.count(prompt) if mark and prompt else 0
        return replace(record, prompt=min(left_out, len(record.ids) - 1))

    def _record(self, text: str, ids: list[int]) -> TokenizedText:
        truncated = len(ids) > self.max_tokens
        if truncated:
            ids = self._cut(ids)
        # Static embeddings may have no token for a text; it still has a row of its own in a batch.
        return TokenizedText(text, np.asarray(ids, dtype=np.int32), max(1, len(ids)), truncated)

    def _cut(self, ids: list[int]) -> list[int]:
        if self._keeps_end:
            return ids[: self._before] + ids[len(ids) - (self.max_tokens - self._before) :]
        return ids[: self.max_tokens - self._after] + ids[len(ids) - self._after :]

    def fitting(self, text: str) -> str:
        """So much of a text as has at most `max_tokens` tokens, special ones included, ending where a token ends."""
        looked_at = self.beginning(text, self.max_tokens)
        encoding = self.backend.encode(looked_at, add_special_tokens=False)
        ends = [end for _, end in encoding.offsets]
        room = max(0, self.max_tokens - self.n_special)
        # A word that is cut may have more tokens than the part of it had in the whole.
        while (
            room and self.count(kept := looked_at[: ends[min(room, len(ends)) - 1]]) > self.max_tokens - self.n_special
        ):
            room -= 1
        return kept if room else ""

    def ids_of(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """Token ids of texts, however long; a prompt's end is no token."""
        plain = [text.replace(PROMPT_END, "", 1) for text in texts] if self._prompts else list(texts)
        found = self.backend.encode_batch_fast(plain, add_special_tokens=special and self._special)
        return [each.ids for each in found]

    def ending(self, text: str, tokens: int) -> str:
        """The end of a text that has about so many tokens, special ones apart, beginning where one does."""
        tail = text[-max(_LONG, 16 * tokens) :]
        offsets = self.backend.encode(tail, add_special_tokens=False).offsets
        if len(offsets) <= tokens and len(tail) < len(text):
            tail = text
            offsets = self.backend.encode(tail, add_special_tokens=False).offsets
        return tail if len(offsets) <= tokens else tail[offsets[len(offsets) - tokens][0] :] if tokens else ""

    def count(self, text: str) -> int:
        """Tokens of a text without special tokens."""
        return len(self.backend.encode(text, add_special_tokens=False).ids)

    def chunk(self, text: str, size: int, overlap: int, by: ChunkBy = ChunkBy.TEXT, reserved: int = 0) -> Spans:
        """Character spans of chunks; see `Encoder.chunk`.

        Args:
            text: what to cut.
            size: most tokens per chunk, special tokens included; more than the window means the window.
            overlap: tokens that neighbours share, about.
            by: where to cut.
            reserved: tokens of the window that are needed for what stands around the text.
        """
        room = max(1, min(size, self.max_tokens - reserved) - self.n_special)
        # A token is at least one byte, so a short text needs no counting.
        if len(text) * 4 <= room or self.count(self.beginning(text, room)) <= room:
            return [(0, len(text))]
        # White space beyond the window says nothing and is one empty chunk.
        return self._splitter(room, min(overlap, room - 1), readable(text, by)).spans(text) or [(0, 0)]

    def _splitter(self, room: int, overlap: int, by: ChunkBy) -> TokenSplitter:
        # Building one copies the vocabulary, so they are kept; collections share few chunk sizes.
        with self._lock:
            key = (room, overlap, by)
            if key not in self._splitters:
                if len(self._splitters) >= _MAX_SPLITTERS:
                    self._splitters.pop(next(iter(self._splitters)))
                self._splitters[key] = TokenSplitter(self.backend, room, overlap, by)
            return self._splitters[key]


class TokenizerReader:
    """See `TextReader`: a model's tokenizer, with what its document template takes of the window."""

    def __init__(self, tokenizer: Tokenizer, info: EncoderInfo) -> None:
        self.info = info
        self.tokenizer = tokenizer
        template = info.templates.document.replace("{text}", "").replace(PROMPT_END, "")
        self._document_tokens = tokenizer.count(template) if template else 0

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """See `TextReader.tokenize`."""
        return self.tokenizer.tokenize(texts)

    def chunk(self, text: str, size: int, overlap: int, by: ChunkBy = ChunkBy.TEXT, reserved: int = 0) -> Spans:
        """See `TextReader.chunk`; the document template's own tokens are left room for."""
        return self.tokenizer.chunk(text, size, overlap, by, self._document_tokens + reserved)


def _around(backend: Any) -> tuple[int, int]:
    """How many special tokens stand before a text, and how many follow it."""
    mask = backend.encode("a").special_tokens_mask
    before = next((n for n, special in enumerate(mask) if not special), 0)
    return before, next((n for n, special in enumerate(reversed(mask)) if not special), 0)


def load_fast(folder: Path, *, code: bool = False) -> Any:
    """transformers' tokenizer of a folder, which has a Rust one inside (`backend_tokenizer`).

    Raises:
        ModelUnavailable: the folder has no tokenizer that can be loaded without running its code, which `code` allows.
    """
    from transformers import AutoTokenizer

    if not vocabulary_files(folder) and not code:
        # transformers makes an empty tokenizer of nothing.
        raise ModelUnavailable(
            f"{folder}: expected a tokenizer (tokenizer.json, or a vocabulary such as vocab.txt), found none: copy the "
            "model's tokenizer files into it, or fetch the folder again"
        )
    try:
        # AutoTokenizer and not tokenizer.json alone: it also applies what tokenizer_config.json adds, such as the
        # end-of-text token that Qwen3-Embedding pools from.
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=code)
    except Exception as error:  # the library raises bare Exceptions, and checks settings by errors of its own
        raise ModelUnavailable(f"{folder}: its tokenizer cannot be loaded: {error}; fetch the folder again") from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelUnavailable(
            f"{folder}: expected a fast tokenizer (tokenizer.json), found {type(tokenizer).__name__}"
        )
    return tokenizer


def _backend(file: Path) -> Any:
    from tokenizers import Tokenizer as Backend

    try:
        return Backend.from_file(str(file))
    except Exception as error:  # the library raises bare Exceptions
        raise ModelUnavailable(f"{file.parent}: expected a readable tokenizer.json: {error}; fetch it again") from error


def _lower(backend: Any) -> None:
    """Lower texts before anything else, unless the tokenizer does; as sentence-transformers does for `do_lower_case`."""
    from tokenizers import normalizers

    there = json.loads(backend.to_str())["normalizer"]
    if '"Lowercase"' in json.dumps(there) or (there or {}).get("lowercase"):
        return
    steps = [normalizers.Lowercase()] + ([backend.normalizer] if backend.normalizer else [])
    backend.normalizer = normalizers.Sequence(steps)


def _append(backend: Any, recipe: Recipe) -> None:
    """Let the tokenizer end each text with the token that the model pools from, where it does not yet."""
    from tokenizers import processors

    end = recipe.end or ""
    number = backend.token_to_id(end)
    if number is None:
        raise ModelUnavailable(
            f"{recipe.transformer}: {recipe.info.model} pools from {end!r}, and its tokenizer has no such token; fetch the "
            "tokenizer's files again"
        )
    if backend.encode("a").ids[-1] == number:
        return
    log.warning("%s: its tokenizer does not append %s, from which this model pools: added", recipe.info.model, end)
    last = processors.TemplateProcessing(single=f"$A {end}", pair=f"$A $B {end}", special_tokens=[(end, number)])
    there = backend.post_processor
    backend.post_processor = processors.Sequence([there, last]) if there else last
