"""What one model of this process has done: made by its engine, told by each stage, read by whoever shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from gristmill.ledger import Claim, Verdict
from gristmill_schemas import Outcome
from gristmill_schemas.errors import CollectionNotFound, StoreRefused, StoreUnavailable
from gristmill_worker.metering.instruments import RATIOS, REQUEST_SECONDS, Counts, Histogram, histograms


class Source(StrEnum):
    """Where texts come from, and with it the lane that they wait in."""

    BULK = "bulk"  #: parcels
    INTERACTIVE = "interactive"  #: queries, by the query lane
    HTTP = "http"  #: requests to `--serve`


class Attempt(StrEnum):
    """How an attempt at a parcel ended."""

    FINISHED = "finished"  #: the ledger took its verdict
    RETURNED = "returned"  #: given back, and not counted against it: a server or the device was at fault, or a drain
    FAILED = "failed"  #: given back, and counted
    SPLIT = "split"  #: its documents go on in smaller ones, or one by one
    REROUTED = "rerouted"  #: it is another model's
    LOST = "lost"  #: another worker had taken it over, so this one's verdict does not count
    UNREADABLE = "unreadable"  #: it was no parcel, and is parked


class Step(StrEnum):
    """A stretch of a parcel's way."""

    DESCRIBE = "describe"  #: what the collection is
    DELETE = "delete"  #: of deletions: tombstones, then points
    SURVEY = "survey"  #: what the store holds already
    TOKENIZE = "tokenize"
    ENCODE = "encode"  #: waiting for the model, and the model
    WRITE = "write"
    CONFIRM = "confirm"  #: reading back, and clearing what older versions left
    FINISH = "finish"  #: the ledger's verdict


class StoreCall(StrEnum):
    """What is asked of the store."""

    READ = "read"
    WRITE = "write"  #: new points
    CHANGE = "change"  #: versions, metadata, deletions


#: What a worker may find; cancelled documents never come to one.
_VERDICTS = tuple(outcome for outcome in Outcome if outcome is not Outcome.CANCELLED)
#: Why documents die, by the class of the error. Anything else counts as `other`.
DEATHS = (
    "AcceleratorOutOfMemory",
    "AttemptsExhausted",
    "EncodingFailed",
    "ForeignPoint",
    "StoreRefused",
    "TextTooLong",
    "UnreadableParcel",
)


class ModelMeter:
    """Shared by all threads that work for one model."""

    def __init__(self) -> None:
        #: Documents and deletions, and tokens that were read for them, by what became of them.
        self.documents = Counts(*_VERDICTS)
        self.document_tokens = Counts(*_VERDICTS)
        #: `chunks` and `truncated` documents that are stored.
        self.stored = Counts("chunks", "truncated")
        self.dead = Counts(*DEATHS)
        self.attempts = Counts(*Attempt)
        #: Claims of parcels that had been attempted before.
        self.retries = Counts("retries")
        #: Those whose holder had fallen silent.
        self.taken_over = Counts("parcels")
        self.texts, self.tokens = Counts(*Source), Counts(*Source)
        #: From when work came until it was taken: parcels claimed, requests on the model. The query lane measures its own.
        self.waits = histograms(Source.BULK, Source.HTTP)
        #: From the first text on the model to the last vector.
        self.encodes = histograms(*Source)
        self.steps = histograms(*Step)
        self.store = histograms(*StoreCall, bounds=REQUEST_SECONDS)
        self.store_errors = Counts("StoreUnavailable", "StoreRefused", "RequestTooLarge", "CollectionNotFound")
        #: Looks into what is remembered of collections.
        self.lookups = Counts("hit", "miss")
        self.batches = Counts(Source.BULK, Source.INTERACTIVE)
        #: What batches of parcels held and could have held: `useful` tokens, `padding`, `budget`.
        self.batch_tokens = Counts("useful", "padding", "budget")
        self.fill = Histogram(RATIOS)

    def claimed(self, claim: Claim) -> None:
        """A parcel was taken."""
        if claim.taken_over:
            self.taken_over.add("parcels")
        if claim.attempts > 1:
            self.retries.add("retries")
        else:
            self.waits[Source.BULK].observe(claim.waited_s)

    def finished(self, verdict: Verdict) -> None:
        """The ledger has taken a verdict: only now does it count, as in the job's report."""
        self.attempts.add(Attempt.FINISHED)
        for outcome, count in verdict.outcomes.items():
            self.documents.add(outcome, count)
        for outcome, tokens in verdict.in_vain.items():
            self.document_tokens.add(outcome, tokens)
        self.document_tokens.add(Outcome.STORED, verdict.tokens)
        self.stored.add("chunks", verdict.chunks)
        self.stored.add("truncated", verdict.truncated)
        for letter in verdict.letters:
            self.dead.add(letter.error)

    def parked(self, items: int) -> None:
        """The ledger has parked a parcel that nobody can read."""
        self.attempts.add(Attempt.UNREADABLE)
        self.documents.add(Outcome.DEAD, items)
        self.dead.add("UnreadableParcel")

    @contextmanager
    def asking_store(self) -> Iterator[None]:
        """Count the request in the block where it fails."""
        try:
            yield
        except (StoreUnavailable, StoreRefused, CollectionNotFound) as error:
            self.store_errors.add(type(error).__name__)
            raise

    def reading(self, lane: Source) -> Reading:
        """Begin to watch the texts of one caller on their way through the model."""
        return Reading(self, lane)

    def batch(self, useful: int, computed: int, budget: int, *, interactive: bool) -> None:
        """A batch is done.

        Args:
            useful: its tokens.
            computed: with padding.
            budget: most tokens that it could have held.
            interactive: it held queries, which wait for no company.
        """
        self.batches.add(Source.INTERACTIVE if interactive else Source.BULK)
        if not interactive:
            for kind, tokens in (("useful", useful), ("padding", computed - useful), ("budget", budget)):
                self.batch_tokens.add(kind, tokens)
            self.fill.observe(min(1.0, computed / budget))


class Reading:
    """The texts of one caller, from when they were handed to the batcher to their vectors."""

    def __init__(self, meter: ModelMeter, lane: Source) -> None:
        self._meter, self._lane = meter, lane
        self._began = self._launched_at = time.perf_counter()

    def launched(self) -> None:
        """The first of them is on the model; called on its thread."""
        self._launched_at = time.perf_counter()

    @property
    def waited_s(self) -> float:
        """Seconds that they waited for the model."""
        return self._launched_at - self._began

    def done(self, texts: int, tokens: int) -> None:
        """So many have their vectors; the others never will."""
        if texts:
            self._meter.texts.add(self._lane, texts)
            self._meter.tokens.add(self._lane, tokens)
            self._meter.encodes[self._lane].observe(time.perf_counter() - self._launched_at)
