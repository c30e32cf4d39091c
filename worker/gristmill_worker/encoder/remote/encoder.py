"""The encoder on another machine: any server with an OpenAI-compatible `/v1/embeddings` (SGLang, vLLM, TEI, infinity).

Such servers drop instructions and prefixes, so templates are applied here, before the text leaves. A launch is one request,
or several smaller ones where the server takes fewer texts; how many it takes is learned from its refusals.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import Final

import numpy as np

from gristmill_schemas import ChunkBy, EncoderInfo
from gristmill_schemas.errors import EncodingFailed, Unavailable
from gristmill_worker.encoder.base import REMOTE, BatchLimits, StaleTokens, TokenizedText, Vectors
from gristmill_worker.encoder.chunking import Spans
from gristmill_worker.encoder.remote.api import Api
from gristmill_worker.encoder.remote.counting import Counting, Estimate
from gristmill_worker.encoder.remote.refusals import BatchRefused, TooLong
from gristmill_worker.encoder.remote.window import silent_window

log = logging.getLogger(__name__)

#: Requests in flight; servers batch across requests, and more than a few only queue there.
IN_FLIGHT: Final = 8
#: Texts per request; TEI's default limit is 32.
MAX_TEXTS: Final = 32
#: Tokens per request.
MAX_TOKENS: Final = 8_192


class RemoteEncoder:
    """See `Encoder`. Requests run on threads of its own, so `launch` returns at once."""

    device = REMOTE
    dtype = "float32"

    def __init__(
        self,
        api: Api,
        info: EncoderInfo,
        counting: Counting | None = None,
        *,
        budget_tokens: int = MAX_TOKENS,
        usage_counts: bool = False,
    ) -> None:
        """Speak to a server.

        Args:
            api: the model at its server.
            info: what the model is; `open_remote` finds out.
            counting: how long texts are, and where they are cut; None estimates.
            budget_tokens: most tokens per request.
            usage_counts: whether what the server calls its usage is the tokens that it read.
        """
        self.info = info
        self.limits = BatchLimits(budget_tokens, texts=MAX_TEXTS, in_flight=IN_FLIGHT)
        self._api = api
        self._counting = counting or Estimate()
        self._usage_counts = usage_counts
        self._looking = Lock()
        #: Most texts that the server takes in one request, once it has refused more.
        self._most: int | None = None
        # One more than bulk work keeps busy, so that a query does not wait for a thread.
        self._threads = ThreadPoolExecutor(IN_FLIGHT + 1, thread_name_prefix="gristmill-remote")

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Count only: the server makes its own tokens.

        What is too long for it, it refuses. Where it cuts silently instead, or where its window is known and texts can be
        counted, a text that is too long counts as truncated, so that its collection's policy decides, and receipts tell.
        """
        return self._counting.tokenize(texts)

    def chunk(self, text: str, size: int, overlap: int, by: ChunkBy = ChunkBy.TEXT, reserved: int = 0) -> Spans:
        """Spans of at most `size` tokens; see the protocol."""
        return self._counting.chunk(text, min(size, self.info.max_tokens - reserved), overlap, by, reserved)

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        """See `Encoder.encode`."""
        return self.launch(batch)()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        """Send one request; the returned call waits for its answer.

        Raises:
            Unavailable: the server is away, overloaded, or answers what is no answer.
            StaleTokens: it reads only the beginning of a text, which was not known when the text was tokenized.
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
        self._check_window(batch)
        try:
            answer = self._api.embed([item.text for item in batch])
        except TooLong as error:
            if error.window:
                self._counting.told(error.window)
                self._check_window(batch)
            raise
        except BatchRefused as error:
            if len(batch) == 1:
                raise EncodingFailed(str(error)) from error
            self._learn(error, batch)
            middle = (len(batch) + 1) // 2
            parts = [batch] if error.counted else [batch[:middle], batch[middle:]]
            return np.concatenate([self._embedded(part) for part in parts])
        if self._usage_counts and answer.tokens is not None and answer.tokens < sum(map(self._counting.least, batch)):
            self._look_for_window(batch)
        return answer.vectors

    def _check_window(self, batch: Sequence[TokenizedText]) -> None:
        window = self._counting.window
        longest = max((item.n_tokens for item in batch if not item.truncated), default=0)
        if window is not None and longest > window:
            raise StaleTokens(
                f"text: {self._api.name} at {self._api.address} reads about {window} tokens of it, got {longest}; shorten "
                "it, have it cut into chunks, or give that server a larger window"
            )

    def _look_for_window(self, batch: Sequence[TokenizedText]) -> None:
        """The server counted fewer tokens than it was sent: find out whether it passes over the rest of a text.

        The count is a sum and says of no text that it was cut; whether any was, vectors say.
        """
        with self._looking:
            self._check_window(batch)  # what another thread has just found
            if not self._usage_counts:
                return
            try:
                found = silent_window(self._api, max(item.n_tokens for item in batch))
            except EncodingFailed:
                found = None
            if found is None:
                self._usage_counts = False
                log.info(
                    "%s at %s counts tokens in its own way, and reads all: its counts are left alone",
                    self._api.name,
                    self._api.address,
                )
                return
            self._counting.window = found
        self._check_window(batch)

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
