"""Tokens per second of the workers of a model: as they say, as they did before, or as they do with a sample of the texts."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from gristmill.ingest.estimating.forecast import Forecast
from gristmill.ingest.estimating.pace import Timed, tokens_per_s
from gristmill.ledger import Ledger
from gristmill.models import engines
from gristmill_schemas import CollectionSpec, JobState, VectorSpace
from gristmill_schemas.limits import MAX_QUERY_TEXTS
from gristmill_schemas.outlook import RateSource

#: Finished jobs that are looked at, and how long one must have taken to say anything, seconds.
_JOBS, _LEAST_JOB_S = 50, 2.0
#: Documents of a sample. It ends after so many seconds, in requests that grow until they take about so long, or have so
#: many texts: several full batches of most devices; and after so many of these.
_SAMPLE, _SAMPLE_S, _REQUEST_S, _REQUEST_TEXTS, _ENOUGH = 512, 8.0, 1.5, 8 * MAX_QUERY_TEXTS, 6

#: Encodes finished model input with living workers, at the pace of documents.
Encode = Callable[[VectorSpace, Sequence[str]], object]


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast, and who says so."""

    tokens_per_s: float
    source: RateSource


def workers_of(ledger: Ledger, model_digest: str) -> list[dict[str, Any]]:
    """What the living workers of a model say of themselves."""
    return [dict(each) for each in engines(ledger) if each.get("model_digest") == model_digest]


def known_rate(ledger: Ledger, spec: CollectionSpec, given: float | None) -> Rate | None:
    """The best that is known without trying: given, else of living workers, else of the collection's finished jobs."""
    if given is not None:
        return Rate(given, RateSource.GIVEN)
    if (said := _said(workers_of(ledger, spec.space.model_digest))) is not None:
        return Rate(said, RateSource.WORKERS)
    if (reached := _reached(ledger, spec)) is not None:
        return Rate(reached, RateSource.JOBS)
    return None


def _said(workers: Sequence[dict[str, Any]]) -> float | None:
    """Of all of them together; one that has not measured yet counts like the others."""
    rates = [float(each["tokens_per_s"]) for each in workers if each.get("tokens_per_s")]
    return sum(rates) / len(rates) * len(workers) if rates else None


def _reached(ledger: Ledger, spec: CollectionSpec) -> float | None:
    """The fastest job, since others may have waited for something."""
    names = (spec.name, spec.physical)
    jobs = [each for each in ledger.jobs(_JOBS) if each.collection in names and each.state is JobState.DONE]
    return max(
        (each.tokens / each.seconds for each in jobs if each.tokens and each.seconds >= _LEAST_JOB_S), default=None
    )


class Sample:
    """Documents drawn evenly out of a stream of unknown length, and how fast workers encode them."""

    def __init__(self) -> None:
        self._drawn: list[Forecast] = []
        self._seen = 0
        self._random = random.Random(0)

    def add(self, forecast: Forecast) -> None:
        """One more document that would be encoded."""
        self._seen += 1
        if len(self._drawn) < _SAMPLE:
            self._drawn.append(forecast)
        elif (place := self._random.randrange(self._seen)) < _SAMPLE:
            self._drawn[place] = forecast

    def measure(self, encode: Encode, space: VectorSpace, workers: int) -> Rate | None:
        """Have one worker encode it, for a few seconds; the others are taken to be as fast. None where there is nothing.

        Raises:
            NoWorker, WaitTimeout, EncodingFailed, BrokerUnavailable.
        """
        inputs = [each for forecast in self._drawn for each in forecast.inputs()]
        if not inputs:
            return None
        self._random.shuffle(inputs)
        # What is drawn from more is read again: nothing remembers it, and its batches are as full as those of all. The
        # whole of an input is read once, so that measuring never takes longer than the job.
        texts = cycle(inputs) if self._seen > len(self._drawn) else iter(inputs)
        # What is one request in Redis has one worker: of several that could share, none of it may be counted twice.
        most = _REQUEST_TEXTS if workers <= 1 else MAX_QUERY_TEXTS
        ends, timed, full, wanted = time.monotonic() + _SAMPLE_S, list[Timed](), 0, 1.0
        while full < _ENOUGH and (not timed or time.monotonic() < ends) and (part := [*_take(texts, wanted, most)]):
            timed.append(_timed(encode, space, part))
            tokens, seconds = timed[-1]
            full += len(part) == most
            wanted = min(2.0 * tokens, _REQUEST_S * tokens / seconds)
        return Rate(tokens_per_s(timed) * max(1, workers), RateSource.MEASURED)


def _take(texts: Iterator[tuple[str, int]], tokens: float, most: int) -> Iterator[tuple[str, int]]:
    """The next texts, until they have so many tokens, or are so many."""
    for number, each in enumerate(texts, 1):
        yield each
        tokens -= each[1]
        if tokens <= 0 or number == most:
            return


def _timed(encode: Encode, space: VectorSpace, texts: Sequence[tuple[str, int]]) -> Timed:
    """One request."""
    began = time.monotonic()
    encode(space, [text for text, _ in texts])
    return Timed(max(1, sum(tokens for _, tokens in texts)), max(time.monotonic() - began, 1e-6))
