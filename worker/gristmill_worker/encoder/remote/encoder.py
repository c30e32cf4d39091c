"""The encoder on another machine: any server with an OpenAI-compatible `/v1/embeddings` (SGLang, vLLM, TEI, infinity).

Such servers drop instructions and prefixes, so templates are applied here, before the text leaves. A launch is one request,
or several smaller ones where the server takes fewer texts; how many it takes is learned from its refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import numpy as np

from gristmill_schemas import EncoderInfo
from gristmill_schemas.errors import EncodingFailed, Unavailable
from gristmill_worker.encoder.base import REMOTE, BatchLimits, TokenizedText, Vectors
from gristmill_worker.encoder.chunking import Spans, counted_chunks
from gristmill_worker.encoder.remote.api import Api
from gristmill_worker.encoder.remote.refusals import BatchRefused

_NO_IDS: Final = np.empty(0, dtype=np.int32)
#: Requests in flight; servers batch across requests, and more than a few only queue there.
IN_FLIGHT: Final = 8
#: Texts per request; TEI's default limit is 32.
MAX_TEXTS: Final = 32
#: Tokens per request.
MAX_TOKENS: Final = 8_192


def estimate_tokens(text: str) -> int:
    """Tokens of a text where no tokenizer is at hand: one per CJK character, one per four other bytes."""
    if text.isascii():
        return len(text) // 4 + 3
    wide = sum(character > "\u2e7f" for character in text)
    return wide + (len(text) - wide) // 3 + 3


class RemoteEncoder:
    """See `Encoder`. Requests run on threads of its own, so `launch` returns at once."""

    device = REMOTE
    dtype = "float32"

    def __init__(
        self,
        api: Api,
        info: EncoderInfo,
        *,
        budget_tokens: int = MAX_TOKENS,
        silent_window: int | None = None,
    ) -> None:
        """Speak to a server.

        Args:
            api: the model at its server.
            info: what the model is; `open_remote` finds out.
            budget_tokens: most estimated tokens per request.
            silent_window: tokens behind which it passes over the rest of a text without a word, if it does.
        """
        self._silent_window = silent_window
        self.info = info
        self.limits = BatchLimits(budget_tokens, texts=MAX_TEXTS, in_flight=IN_FLIGHT)
        self._api = api
        #: Most texts that the server takes in one request, once it has refused more.
        self._most: int | None = None
        # One more than bulk work keeps busy, so that a query does not wait for a thread.
        self._threads = ThreadPoolExecutor(IN_FLIGHT + 1, thread_name_prefix="gristmill-remote")

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Estimate the cost only: the server tokenizes.

        What is too long for it, it refuses. Where it cuts silently instead, a text that seems too long counts as truncated,
        so that its collection's policy decides, and receipts tell.
        """
        return [self._record(text) for text in texts]

    def _record(self, text: str) -> TokenizedText:
        count = estimate_tokens(text)
        cut = self._silent_window is not None and count > self._silent_window
        return TokenizedText(text, _NO_IDS, count, truncated=cut)

    def chunk(self, text: str, size: int, overlap: int) -> Spans:
        """Spans of at most `size` estimated tokens; see the protocol."""
        size = min(size, self.info.max_tokens, self._silent_window or size)
        if estimate_tokens(text) <= size:
            return [(0, len(text))]
        return counted_chunks(text, estimate_tokens, size, overlap) or [(0, len(text))]

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        """See `Encoder.encode`."""
        return self.launch(batch)()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        """Send one request; the returned call waits for its answer.

        Raises:
            Unavailable: the server is away, overloaded, or answers what is no answer.
            EncodingFailed: it blames the texts.
        """
        if not batch:
            return lambda: np.empty((0, self.info.dimensions), dtype=np.float32)
        return self._threads.submit(self._request, batch).result

    def _request(self, batch: Sequence[TokenizedText]) -> Vectors:
        vectors = self._embedded(batch)
        if vectors.shape[1] != self.info.dimensions:
            raise Unavailable(
                f"{self._api.address}: expected vectors of {self.info.dimensions} dimensions, got {vectors.shape[1]}; "
                f"check that it still serves {self._api.name}"
            )
        if self.info.normalize:
            # In float64, where the square of a large float32 is still finite.
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
            vectors = np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
        return vectors

    def _embedded(self, batch: Sequence[TokenizedText]) -> Vectors:
        """The vectors of a batch, part by part where the server takes fewer texts, or less text, in one request."""
        most = self._most or len(batch)
        if len(batch) > most:
            return np.concatenate([self._embedded(batch[at : at + most]) for at in range(0, len(batch), most)])
        try:
            return self._api.embed([item.text for item in batch]).vectors
        except BatchRefused as error:
            if len(batch) == 1:
                raise EncodingFailed(str(error)) from error
            self._learn(error, batch)
            middle = (len(batch) + 1) // 2
            parts = [batch] if error.counted else [batch[:middle], batch[middle:]]
            return np.concatenate([self._embedded(part) for part in parts])

    def _learn(self, refused: BatchRefused, batch: Sequence[TokenizedText]) -> None:
        """Let later batches be smaller than one that the server refused."""
        if refused.counted:
            wanted = refused.most or len(batch) // 2
            self._most = max(1, min(self._most or wanted, wanted, len(batch) - 1))
            self.limits = replace(self.limits, texts=self._most)
        else:
            cost = sum(item.n_tokens for item in batch)
            self.limits = replace(self.limits, tokens=max(1, min(self.limits.tokens, cost // 2)))

    def close(self) -> None:
        """Finish what is under way and hang up."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._api.close()
