"""Query and document as the input of a cross-encoder: tokenized together, the document's end cut at the window.

The query is never cut: a score for half a question would look like one for all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gristmill_schemas.errors import EncodingFailed, ModelUnavailable
from gristmill_worker.encoder.base import TokenizedText
from gristmill_worker.encoder.tokenizing import Tokenizer, load_fast
from gristmill_worker.reranker.recipe import RerankRecipe

#: Qwen3-Reranker's question, word for word as in its card (huggingface.co/Qwen/Qwen3-Reranker-0.6B).
PREFIX: Final = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX: Final = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION: Final = "Given a web search query, retrieve relevant passages that answer the query"
#: Where an id says that its token is one of the second text. No vocabulary is as large.
SECOND: Final = 24
#: What single texts are scored against, where only a pass over something is wanted: at the start, and to measure.
_ANY_QUERY: Final = "mill"


class PairTokenizer(Tokenizer):
    """A reranker's tokenizer. Single texts are documents to a query of no meaning."""

    def pairs(self, query: str, documents: Sequence[str], instruction: str | None = None) -> list[TokenizedText]:
        """One record per document, in order.

        Raises:
            EncodingFailed: the query leaves no room for a document.
        """
        raise NotImplementedError

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """See `Encoder.tokenize`."""
        return self.pairs(_ANY_QUERY, texts)

    def _check_room(self, room: int, used: int) -> None:
        if used >= room:
            raise EncodingFailed(
                f"query: expected fewer than {room} tokens, instruction included, so that a document has room in the "
                f"reranker's window of {self.max_tokens}, got {used}: shorten it"
            )


class Questions(PairTokenizer):
    """Qwen3-Reranker's: one text that asks for yes or no."""

    def __init__(self, backend: Any, max_tokens: int) -> None:
        super().__init__(backend, max_tokens)
        self._prefix = backend.encode(PREFIX, add_special_tokens=False).ids
        self._suffix = backend.encode(SUFFIX, add_special_tokens=False).ids
        self._room = max_tokens - len(self._prefix) - len(self._suffix)

    def pairs(self, query: str, documents: Sequence[str], instruction: str | None = None) -> list[TokenizedText]:
        """See `PairTokenizer.pairs`."""
        asked = f"<Instruct>: {INSTRUCTION if instruction is None else instruction}\n<Query>: {query}\n<Document>: "
        self._check_room(self._room, self.count(asked) + self.n_special)
        texts = [asked + self.beginning(each, self.max_tokens) for each in documents]
        encodings = self.backend.encode_batch_fast(texts)
        return [self._question(text, found.ids) for text, found in zip(texts, encodings, strict=True)]

    def _question(self, text: str, ids: list[int]) -> TokenizedText:
        truncated = len(ids) > self._room
        if truncated:
            ids = ids[: self._room - self._after] + ids[len(ids) - self._after :]
        whole = np.asarray([*self._prefix, *ids, *self._suffix], dtype=np.int32)
        return TokenizedText(text, whole, len(whole), truncated)


class TwoTexts(PairTokenizer):
    """A classifier's: two texts with the special tokens that its tokenizer puts around a pair."""

    def __init__(self, backend: Any, max_tokens: int, *, typed: bool) -> None:
        super().__init__(backend, max_tokens)
        self._room = max_tokens - len(backend.encode("", "").ids)
        self._typed = typed

    def pairs(self, query: str, documents: Sequence[str], instruction: str | None = None) -> list[TokenizedText]:
        """See `PairTokenizer.pairs`; these models know no instructions."""
        self._check_room(self._room, self.count(query))
        read = [self.beginning(each, self.max_tokens) for each in documents]
        encodings = self.backend.encode_batch([(query, each) for each in read])
        return [self._pair(text, found) for text, found in zip(read, encodings, strict=True)]

    def _pair(self, text: str, found: Any) -> TokenizedText:
        ids = np.asarray(found.ids, dtype=np.int32)
        if self._typed:
            ids |= np.asarray(found.type_ids, dtype=np.int32) << SECOND
        surplus = len(ids) - self.max_tokens
        if surplus > 0:
            ids = np.delete(ids, _of_second(found)[-surplus:])
        return TokenizedText(text, ids, len(ids), surplus > 0)


def _of_second(found: Any) -> npt.NDArray[np.intp]:
    """Places of the second text's own tokens."""
    return np.flatnonzero([part == 1 for part in found.sequence_ids])


def load_pairs(recipe: RerankRecipe) -> PairTokenizer:
    """The tokenizer of a reranker's folder.

    Raises:
        ModelUnavailable: it has none that can be loaded, or its window leaves no room for a pair.
    """
    backend = load_fast(recipe.folder, code=recipe.runs_code).backend_tokenizer
    window = recipe.info.max_tokens
    pairs = Questions(backend, window) if recipe.chat else TwoTexts(backend, window, typed=recipe.typed)
    try:
        pairs.tokenize(["a"])
    except EncodingFailed as error:
        raise ModelUnavailable(
            f"{recipe.info.model}: its window of {window} tokens leaves no room for a query and a document ({error}); set "
            "model_max_length in tokenizer_config.json, or GRISTMILL_RERANKER_MAX_TOKENS, to more"
        ) from error
    return pairs
