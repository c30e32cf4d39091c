"""From texts to vectors: tokenized on threads of the server's own, encoded in the batcher that all requests share.

Which lane? What is as short as a query (`QUERY_TOKENS` in all) goes first, as a worker's queries do: somebody waits for it,
and a launch holds many such requests. Longer requests go with the bulk: sorted by length and filled up to the measured
budget, which is what an accelerator does best, and in turns with each other and with a worker's parcels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from gristmill_schemas.errors import EncodingFailed, InvalidInput, Unavailable
from gristmill_worker.batching.batcher import QUERY_TOKENS
from gristmill_worker.batching.submission import Lane, Row
from gristmill_worker.encoder import Vectors, cut
from gristmill_worker.encoder.base import TokenizedText
from gristmill_worker.metering.meter import Source
from gristmill_worker.server.asking import Asked, token_ids, tokenized
from gristmill_worker.server.metrics import Metrics
from gristmill_worker.server.service import ServedEncoder

#: The tokenizer itself works on all cores; more threads than this would only take them from the model.
_TOKENIZING = 4
#: Rerank requests that wait for their model at once; their batcher, or their server, puts them together.
_SCORING = 16


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of the texts of a request."""

    #: float32 (B, D), D as asked for.
    vectors: Vectors
    #: Tokens that the model read.
    tokens: int
    #: Places of the texts of which a part was cut off.
    truncated: list[int]


class Embedding:
    """The threads of one server, and the figures of what they do."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._threads = ThreadPoolExecutor(_TOKENIZING, thread_name_prefix="gristmill-tokens")
        #: Where rerankers, which wait in their calls, are asked.
        self.scoring = ThreadPoolExecutor(_SCORING, thread_name_prefix="gristmill-scores")

    async def tokenized(self, served: ServedEncoder, asked: Asked) -> list[TokenizedText]:
        """See `asking.tokenized`; the event loop goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, tokenized, served.encoder, asked)

    async def token_ids(self, served: ServedEncoder, asked: Asked, *, special: bool) -> list[list[int]]:
        """See `asking.token_ids`."""
        work = partial(token_ids, served.encoder, asked, special=special)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def embed(self, served: ServedEncoder, asked: Asked) -> Embedded:
        """The vectors of texts.

        A caller that is cancelled takes what still waits of its texts out of the batcher.

        Raises:
            InvalidInput: a text is too long, or cannot be encoded; or the model has not declared these dimensions.
            Unavailable, DeviceFailed, ShuttingDown: see `Batcher.submit`.
        """
        _check_dimensions(served, asked)
        texts = await self.tokenized(served, asked)
        tokens = sum(each.n_tokens for each in texts)
        lane = Lane.INTERACTIVE if tokens <= QUERY_TOKENS else Lane.BULK
        reading = served.meter.reading(Source.HTTP)
        rows = await asyncio.wrap_future(served.batcher.submit(texts, lane, launched=reading.launched))
        reading.done(len(texts), tokens)
        served.meter.waits[Source.HTTP].observe(reading.waited_s)
        return Embedded(
            cut(_vectors(rows, asked), asked.dimensions or served.info.dimensions, normalize=served.info.normalize),
            tokens,
            [index for index, each in enumerate(texts) if each.truncated],
        )

    def close(self) -> None:
        """Stop the threads."""
        for each in (self._threads, self.scoring):
            each.shutdown(wait=False, cancel_futures=True)


def _vectors(rows: Sequence[Row], asked: Asked) -> Vectors:
    for index, row in enumerate(rows):
        if isinstance(row, Unavailable):
            raise row
        if isinstance(row, EncodingFailed):
            field = asked.place(index)
            raise InvalidInput(f"{field}: expected text that the model can encode, got: {row}", field=field)
    return np.stack([row for row in rows if isinstance(row, np.ndarray)])


def _check_dimensions(served: ServedEncoder, asked: Asked) -> None:
    size, field = asked.dimensions, asked.dimensions_field
    if size is not None and not served.info.declares(size):
        raise InvalidInput(
            f"{field}: expected {served.info.declared()}, which is what {served.name} declares, got {size}; leave it out "
            "for the full size",
            field=field,
        )
