"""Documents in, an estimate out: what `enqueue` would take, what workers would make of it, how long, how many bytes.

    stream ─► the door of `enqueue` ─► parcels ─► forecast (the workers' own code) ─► sums

It reads the store and the ledger, and writes nothing. Memory: 8 bytes for each document's id and 8 for its text's hash.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

from gristmill.ingest.estimating.forecast import Forecast, Forecaster
from gristmill.ingest.estimating.rates import Encode, Rate, Sample
from gristmill.ingest.estimating.sizes import QueueSize, StoreSize
from gristmill.ingest.intake import sound
from gristmill.ingest.packing import group
from gristmill.seen_keys import TWICE, SeenKeys
from gristmill_schemas import CollectionSpec, Document, Outcome, Rejection
from gristmill_schemas.errors import GristmillError
from gristmill_schemas.outlook import Estimate

log = logging.getLogger(__name__)

#: Rejections and deaths that are kept with their reasons.
_KEPT = 1_000
#: What a job takes beside encoding: until its first parcel is in hand, and for the last one to be stored, seconds.
_ENDS_S = 0.3
#: What one worker's threads need for a document, however short: the rate at which it can store, seconds.
_DOCUMENT_S = 0.0005


@dataclass
class Sums:
    """Everything so far."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    rejected: int = 0
    duplicates: int = 0
    repeated_texts: int = 0
    tokens: int = 0
    chunks: int = 0
    truncated: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    deaths: list[Rejection] = field(default_factory=list)

    def reject(self, rejection: Rejection) -> None:
        """One that `enqueue` would refuse."""
        self.rejected += 1
        self.duplicates += rejection.reason == TWICE
        if len(self.rejections) < _KEPT:
            self.rejections.append(rejection)

    def add(self, forecast: Forecast, position: int) -> None:
        """One that it would accept."""
        self.outcomes[forecast.outcome] += 1
        self.tokens += forecast.tokens
        self.chunks += forecast.chunks
        self.truncated += forecast.truncated
        if forecast.outcome is Outcome.DEAD and len(self.deaths) < _KEPT:
            self.deaths.append(Rejection(position=position, id=forecast.document.id, reason=forecast.reason))


class Estimator:
    """Estimates one input for one collection."""

    def __init__(
        self,
        spec: CollectionSpec,
        forecaster: Forecaster,
        queue: QueueSize,
        store: StoreSize | None,
        rate: Rate | None,
        *,
        exists: bool,
        workers: int,
        sample: Sample | None = None,
        insists: bool = False,
    ) -> None:
        """Nothing is read yet.

        Args:
            spec: the collection.
            forecaster: tells what would become of documents.
            queue: adds up Redis's memory.
            store: adds up Qdrant's; None for its local mode.
            rate: how fast the workers are, as far as it is known.
            exists: whether the collection is there.
            workers: how many serve its model.
            sample: is filled with documents that would be encoded.
            insists: what cannot be measured is an error.
        """
        self._insists = insists
        self._spec, self._forecaster, self._exists, self._workers = spec, forecaster, exists, workers
        self._queue, self._store, self._rate, self._sample = queue, store, rate, sample
        self._sums, self._texts = Sums(), SeenKeys()
        #: What looking, tokenizing and cutting has taken here, which workers do by the same code.
        self._reading_s = 0.0
        #: In the input, of the documents that are in hand.
        self._positions: deque[int] = deque()

    def run(
        self,
        items: Iterable[Document | Rejection],
        progress: Callable[[Estimate], None] | None = None,
        encode: Encode | None = None,
    ) -> Estimate:
        """Take all of a stream.

        Args:
            items: consumed one by one, never held whole.
            progress: called with the estimate so far.
            encode: measures the sample with a living worker.
        """
        for batch in group(self._accepted(items)):
            self._take(batch)
            if progress is not None:
                progress(self.estimate())
        if encode is not None and self._sample is not None:
            self._measure(self._sample, encode)
        return self.estimate()

    def _measure(self, sample: Sample, encode: Encode) -> None:
        try:
            self._rate = sample.measure(encode, self._spec.space, self._workers) or self._rate
        except GristmillError as error:
            if self._insists:
                raise
            log.info("no rate could be measured: %s", error)

    def _accepted(self, items: Iterable[Document | Rejection]) -> Iterator[Document]:
        position = -1

        def counted() -> Iterator[Document | Rejection]:
            nonlocal position
            for item in items:
                position += 1
                yield item

        for document in sound(self._spec, counted(), self._sums.reject):
            self._positions.append(position)
            yield cast("Document", document)

    def _take(self, batch: tuple[Document, ...]) -> None:
        self._queue.add(batch)
        began = time.monotonic()
        forecasts = self._forecaster.forecast(batch)
        self._reading_s += time.monotonic() - began
        for forecast in forecasts:
            self._sums.add(forecast, self._positions.popleft())
            self._sums.repeated_texts += not self._texts.add(forecast.document.text)
            if forecast.written and self._store is not None:
                self._store.add(forecast)
            if forecast.written and self._sample is not None:
                self._sample.add(forecast)

    def estimate(self) -> Estimate:
        """Of what was taken so far."""
        sums, outcomes = self._sums, self._sums.outcomes
        return Estimate(
            collection=self._spec.name,
            exists=self._exists,
            model=self._spec.space.model,
            accepted=outcomes.total(),
            **{
                str(each): outcomes[each]
                for each in (Outcome.STORED, Outcome.SKIPPED, Outcome.SUPERSEDED, Outcome.DEAD)
            },
            rejected=sums.rejected,
            duplicates=sums.duplicates,
            repeated_texts=sums.repeated_texts,
            tokens=sums.tokens,
            chunks=sums.chunks,
            truncated=sums.truncated,
            inexact=self._forecaster.inexact,
            seconds=self._seconds(),
            tokens_per_s=self._rate.tokens_per_s if self._rate else None,
            rate_source=self._rate.source if self._rate else None,
            workers=self._workers,
            store_bytes=self._store.total() if self._store else None,
            queue_bytes=self._queue.total,
            rejections=tuple(sums.rejections),
            deaths=tuple(sums.deaths),
        )

    def _seconds(self) -> float | None:
        if self._rate is None:
            return None
        documents, workers = self._sums.outcomes.total(), max(1, self._workers)
        # They go on at once, and the slowest decides; but each document is read before it is encoded.
        encoding = self._sums.tokens / self._rate.tokens_per_s
        storing, reading = documents * _DOCUMENT_S / workers, self._reading_s / workers
        return _ENDS_S + self._reading_s / max(1, documents) + max(encoding, storing, reading)
