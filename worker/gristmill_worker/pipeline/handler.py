"""Takes a parcel in hand: claims it, has it worked on, and answers for whatever goes wrong on the way.

Whose fault is it, and what does it cost?

    what happens                                   whose fault         what becomes of the parcel
    ─────────────────────────────────────────────  ──────────────────  ─────────────────────────────────────────────────
    draining                                       nobody's            back, with its attempt
    the device is sick (`DeviceFailed`)            the device's        back; with its attempt unless it is a suspect
    a server stays away                            the server's        back, with its attempt; this worker pauses
    a server limits us, or fails for this          the server's        back, with its attempt; the collection rests
      collection while others get through
    a server fails at this very request, and       the document's      back, the attempt is spent
      others of the collection get through
    Redis refuses to give parcels                  its keys'            none is taken; this worker pauses
    the collection wants another model             nobody's            into that model's queue
    the collection is not there                    the store's, until  back, with its attempt; this worker pauses
                                                   shown otherwise     (deleted on purpose: its documents are `gone`)
    a newer Gristmill wrote the parcel             this process's      back, with its attempt, for a worker that reads it
    a text cannot be encoded, a point is refused   the document's, if  dead, once the fuse has agreed
                                                   others get through
    anything else                                  ours                back, the attempt is spent
    the attempts are spent                         the document's      split; a single document is dead
    it is too long a piece of what is left         nobody's            back in parts, for whoever has room first
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections import Counter
from enum import StrEnum

from gristmill.ingest.broker import messages_for
from gristmill.ledger import Begun, Claim, EnoughHeld, Holding, UnreadableParcel, Verdict, Waiting
from gristmill_schemas import Outcome
from gristmill_schemas.errors import (
    BrokerRefused,
    CollectionNotFound,
    DeviceFailed,
    GristmillError,
    NewerFormat,
    ShuttingDown,
    StoreUnavailable,
    StoreUnfit,
    Unavailable,
)
from gristmill_schemas.redaction import redact
from gristmill_worker.concerning import concerning
from gristmill_worker.metering.meter import Attempt, ModelMeter, Step
from gristmill_worker.pipeline.commons import Commons
from gristmill_worker.pipeline.pipeline import AnotherModel, Pipeline, TakenOver
from gristmill_worker.pipeline.tally import all_dead
from gristmill_worker.waiting.fuse import Fuse
from gristmill_worker.waiting.in_hand import InHand
from gristmill_worker.waiting.notices import Notices, Waits
from gristmill_worker.waiting.pause import Pause
from gristmill_worker.waiting.share import Share

log = logging.getLogger(__name__)

#: How long a parcel of a newer format waits for a worker that can read it.
_NEWER_FORMAT_S = 60.0
#: Pauses of a collection whose store does not take its writes: the first, the longest, and the longest that is asked for.
_FIRST_REST_S, _LONGEST_REST_S, _LONGEST_ASKED_S = 1.0, 5.0, 60.0
#: How much longer than the pause it is shown: another worker may be the one that ends it.
_SHOWN_S = 15.0
#: Between two looks for a collection that is not there.
_MISSING_REST_S = 1.5


class Handled(StrEnum):
    """What became of the parcel, and with it of the message."""

    DONE = "done"  #: it is answered for
    NONE = "none"  #: none waits: a message too many
    CUT = "cut"  #: it waits in parts now, one of which is this message's
    LATER = "later"  #: it still waits, and wants a message; or others do that are for other workers


class Handler:
    """Handles the parcels of one model. Shared by all task threads."""

    def __init__(
        self,
        model_digest: str,
        commons: Commons,
        pipeline: Pipeline,
        fuse: Fuse,
        in_hand: InHand,
        meter: ModelMeter | None = None,
    ) -> None:
        self._model_digest = model_digest
        self._pipeline = pipeline
        self._fuse = fuse
        self._in_hand = in_hand
        self._meter = meter or ModelMeter()
        self._ledger = commons.patient_ledger
        self._impatient = commons.ledger
        self._leases = commons.leases
        self._clock = commons.clock
        self._draining = commons.patience.draining
        self._gate = commons.gate
        self._missing = commons.missing
        self._notices = commons.notices
        self._rests = _Rests(commons.notices)
        #: While it lasts, no work should be pulled.
        self.pause = Pause()
        self.share = Share(functools.partial(commons.workers, model_digest))
        self._max_attempts = commons.max_attempts
        self._publish = commons.publish

    def process(self) -> Handled:
        """Bring one parcel to its end, whatever it takes; nothing where none waits."""
        try:
            with self.share.one_more() as holding:
                return self._process(holding)
        except EnoughHeld:
            return Handled.LATER

    def _process(self, holding: Holding) -> Handled:
        try:
            claim = self._ledger.claim(self._model_digest, self._leases.lease_s, holding)
        except ShuttingDown:
            return Handled.LATER
        except BrokerRefused as error:
            self._pause(error)
            return Handled.LATER
        except NewerFormat as error:
            self._wait_for_newer(str(error))
            return Handled.DONE
        except UnreadableParcel as error:
            log.error("parked an unreadable parcel: %s", error)
            self._meter.parked(error.items)
            return Handled.DONE
        if claim is None:
            return Handled.NONE
        self._meter.claimed(claim)
        parcel = claim.parcel
        about = concerning(model=self._model_digest, job=parcel.job_id, parcel=parcel.id, collection=parcel.collection)
        with self._leases.holding(claim), about:
            return self._hold(claim)

    def _cut(self, claim: Claim, count: int) -> Handled:
        parts = claim.parcel.split(count)
        if self._ledger.split(claim, parts, claim.attempts - 1):
            self._meter.attempts.add(Attempt.SPLIT)
            with contextlib.suppress(Unavailable):  # the reconciler sees that they wait
                self._publish(self._model_digest, messages_for(len(parts) - 1))
        return Handled.CUT

    def _parts(self, claim: Claim) -> int:
        """How many parcels this should rather be: when little is left, everybody is to have some of it."""
        parcel = claim.parcel
        # What somebody has begun stays as it is: it may have written a part.
        if claim.attempts > 1 or parcel.deletions or not self._in_hand.may_be_long(claim):
            return 1
        try:
            there = self._impatient.waiting().get(self._model_digest, Waiting())
        except GristmillError:
            return 1
        waiting = there.wanted_tokens * (there.parcels - there.held_parcels) / max(1, there.parcels)
        return self._in_hand.parts(parcel, waiting)

    def _hold(self, claim: Claim) -> Handled:
        try:
            return self._try(claim)
        except ShuttingDown:
            return self._give_back(claim)
        except DeviceFailed as error:
            return self._give_back(claim, refund=not error.suspect, error=_line(error))
        except TakenOver:
            log.info("parcel %s: another worker took it over", claim.parcel.id)
            self._lose(claim)
            return Handled.DONE
        except CollectionNotFound as error:
            return self._not_found(claim, error)
        except AnotherModel as error:
            return self._reroute(claim, error)
        except (Unavailable, StoreUnfit) as error:
            return self._away(claim, error)
        except NewerFormat as error:
            return self._leave_alone(claim, error)
        except GristmillError as error:
            log.warning("parcel %s, attempt %d, failed: %s", claim.parcel.id, claim.attempts, error)
            return self._give_back(claim, refund=False, error=_line(error))
        except Exception as error:
            log.exception("parcel %s, attempt %d, failed", claim.parcel.id, claim.attempts)
            return self._give_back(claim, refund=False, error=_line(error))

    def _try(self, claim: Claim) -> Handled:
        if claim.attempts > self._max_attempts:
            return self._give_up(claim)
        if (parts := self._parts(claim)) > 1:
            return self._cut(claim, parts)
        with self._in_hand.holding(claim), self._gate.alone() if claim.attempts > 1 else self._gate.shared():
            if self._draining.is_set():
                raise ShuttingDown("draining before work on this parcel began")
            # Counted here and not when claimed: if the process dies, those that waited at the gate are innocent.
            if (begun := self._ledger.begin(claim)) is Begun.NO:
                self._meter.attempts.add(Attempt.LOST)
                return Handled.DONE
            verdict = self._pipeline.work(claim, undeleted=begun is Begun.CLEAR)
        return self._close(claim, verdict)

    def _close(self, claim: Claim, verdict: Verdict) -> Handled:
        """Finish, unless the deaths in the verdict are too many of a kind to be the documents' own."""
        self._missing.found(claim.parcel.collection)
        # What was skipped says nothing about writing, and what was not encoded nothing about the model.
        if any(verdict.outcomes[each] for each in (Outcome.STORED, Outcome.DELETED, Outcome.ABSENT)):
            self._rests.over(claim.parcel.collection)
            self.pause.over()
            self._notices.drop(self)
        if verdict.written:
            self._fuse.stored()
        elif not self._stands(verdict):
            return self._give_back(claim, delay_s=_FIRST_REST_S)
        self._finish(claim, verdict)
        return Handled.DONE

    def _stands(self, verdict: Verdict) -> bool:
        """Whether a verdict without a single survivor may stand. What a collection's policy refuses is always its own."""
        deaths = Counter(letter.error for letter in verdict.letters if letter.error != "TextTooLong")
        reasons = {letter.error: letter.reason for letter in verdict.letters}
        return all(self._fuse.stands(kind, count, reasons[kind]) for kind, count in deaths.items())

    def _finish(self, claim: Claim, verdict: Verdict) -> None:
        with self._meter.steps[Step.FINISH].timing():
            taken = self._ledger.finish(claim, verdict)
        if not taken:
            log.info("parcel %s: another worker took it over; its verdict counts", claim.parcel.id)
            self._lose(claim)
            return
        self._meter.finished(verdict)
        for letter in verdict.letters:
            # Without the document's name, so that thousands that die alike are one line and their number. No warning: in
            # embedded mode the log is the application's, and each job's report says who died.
            who = {"concerned": {"document": letter.item.id if letter.item else "", "dead_letter": letter.id}}
            log.info("a document is dead: %s: %s", letter.error, letter.reason, extra=who)

    def _lose(self, claim: Claim) -> None:
        self._meter.attempts.add(Attempt.LOST)
        self._retract(claim)

    def _retract(self, claim: Claim) -> None:
        """Who has lost a parcel may have lost it to the erasure of a tenant: then what was written meanwhile goes again."""
        try:
            self._pipeline.retract(claim)
        except GristmillError as away:
            log.warning("parcel %s: left to the duty that looks for late writes: %s", claim.parcel.id, away)

    def _give_back(self, claim: Claim, *, refund: bool = True, error: str = "", delay_s: float = 0.0) -> Handled:
        try:
            if self._impatient.release(claim, refund=refund, error=error, delay_s=delay_s):
                self._meter.attempts.add(Attempt.RETURNED if refund else Attempt.FAILED)
                self._impatient.fulfil(claim.token)  # whoever takes the parcel next looks at its documents
            else:
                self._lose(claim)
        except GristmillError as away:
            log.warning("parcel %s could not be given back (%s); its lease will run out", claim.parcel.id, away)
        # What is not due yet needs no message now: the reconciler sees when it is.
        return Handled.DONE if delay_s else Handled.LATER

    def _give_up(self, claim: Claim) -> Handled:
        """Attempts ran out: items in company are tried one by one, a single one goes to the dead letters."""
        if len(claim.parcel) > 1:
            log.warning("parcel %s failed %d times: its documents go alone", claim.parcel.id, claim.attempts - 1)
            # One attempt counts as spent, so each part is tried alone.
            return self._split(claim, attempts=1)
        reason = claim.last_error or f"its worker died {claim.attempts - 1} times while it was on it"
        self._finish(claim, all_dead(claim, "AttemptsExhausted", reason, self._clock))
        return Handled.DONE

    def _leave_alone(self, claim: Claim, error: NewerFormat) -> Handled:
        """One of the documents has a point of a newer Gristmill: that one waits, its neighbours do not."""
        self._wait_for_newer(str(error))
        if len(claim.parcel) == 1:
            return self._give_back(claim, delay_s=_NEWER_FORMAT_S)
        return self._split(claim, attempts=claim.attempts - 1)

    def _wait_for_newer(self, why: str) -> None:
        """As where producers were upgraded first. The ledger keeps the parcel from all for a while: no message is due."""
        text = f"{why}. Documents wait for a worker that reads it, and cost nothing meanwhile: upgrade workers first"
        self._notices.put(NewerFormat, Waits.VERSION, text, for_s=_NEWER_FORMAT_S + _SHOWN_S)

    def _split(self, claim: Claim, attempts: int) -> Handled:
        parts = claim.parcel.split()
        if self._ledger.split(claim, parts, attempts):
            self._meter.attempts.add(Attempt.SPLIT)
            self._publish(self._model_digest, messages_for(len(parts)))
        return Handled.DONE

    def _reroute(self, claim: Claim, error: AnotherModel) -> Handled:
        """Put a parcel where it belongs by now: into the queue of the model that its collection wants."""
        digest = error.space.model_digest
        log.info("parcel %s goes to the queue of %s: %s", claim.parcel.id, error.space.model, error)
        if self._ledger.reroute(claim, claim.parcel.model_copy(update={"model_digest": digest})):
            self._meter.attempts.add(Attempt.REROUTED)
            self._publish(digest, 1)
        return Handled.DONE

    def _not_found(self, claim: Claim, error: CollectionNotFound) -> Handled:
        name = claim.parcel.collection
        if self._missing.deleted(name, str(error)):
            self._finish(claim, Verdict(Counter({Outcome.GONE: len(claim.parcel)})))
            return Handled.DONE
        if self._rests.others_stored_since(name):
            self._rest(name, _MISSING_REST_S)
            return self._give_back(claim, delay_s=_MISSING_REST_S)
        self.pause.begin()
        return self._give_back(claim)

    def _away(self, claim: Claim, error: Unavailable | StoreUnfit) -> Handled:
        name = claim.parcel.collection
        if isinstance(error, Unavailable) and error.may_be_the_request and self._rests.stored_since(claim, name):
            return self._give_back(claim, refund=False, error=_line(error))
        others_go_on = isinstance(error, StoreUnavailable) and self._rests.others_stored_since(name)
        if not (_for_everybody(error) or others_go_on):
            self._pause(error)
            return self._give_back(claim)
        rest_s = self._rests.next(name, error)
        self._rest(name, rest_s)
        return self._give_back(claim, delay_s=rest_s)

    def _pause(self, error: GristmillError) -> None:
        """This worker pulls nothing for a while; others may fare better."""
        shown_s = 2 * self.pause.begin() + _SHOWN_S
        self._notices.put(self, Waits.of(error), f"no work is pulled for now: {error}", for_s=shown_s)

    def _rest(self, collection: str, seconds: float) -> None:
        """No worker takes this collection's parcels for a while; the others' go on."""
        try:
            self._impatient.rest(self._model_digest, collection, seconds)
        except GristmillError as away:
            log.warning("collection %s could not be rested: %s", collection, away)


class _Rests:
    """How long each collection rests, and what was stored since a parcel first failed."""

    _MOST = 10_000

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._lock = threading.Lock()
        self._pauses: dict[str, float] = {}
        self._stored_at: dict[str, float] = {}
        self._failed_at: dict[str, float] = {}
        self._failing_since: dict[str, float] = {}

    def over(self, collection: str) -> None:
        """Something of this collection was stored."""
        with self._lock:
            self._stored_at[collection] = time.monotonic()
            self._pauses.pop(collection, None)
            self._failing_since.pop(collection, None)
        self._notices.drop(("rest", collection))

    def next(self, collection: str, error: Unavailable | StoreUnfit) -> float:
        """Seconds that a collection should rest now: as the server asks, else growing."""
        with self._lock:
            before = self._pauses.get(collection, 0.0)
            pause = self._pauses[collection] = min(max(2 * before, _FIRST_REST_S), _LONGEST_REST_S)
        asked = error.retry_after_s if isinstance(error, Unavailable) else None
        rest_s = pause if asked is None else min(max(asked, _FIRST_REST_S), _LONGEST_ASKED_S)
        self._notices.put(
            ("rest", collection),
            Waits.of(error),
            f"collection {collection!r} rests: {error}",
            for_s=2 * rest_s + _SHOWN_S,
        )
        return rest_s

    def stored_since(self, claim: Claim, collection: str) -> bool:
        """Whether other documents of the collection were stored since this parcel first failed."""
        with self._lock:
            first = self._failed_at.setdefault(claim.parcel.id, time.monotonic())
            if len(self._failed_at) > self._MOST:
                self._failed_at.pop(next(iter(self._failed_at)))
            return self._stored_at.get(collection, 0.0) > first

    def others_stored_since(self, collection: str) -> bool:
        """Whether documents of other collections were stored since this one began to fail: then the store is there."""
        with self._lock:
            first = self._failing_since.setdefault(collection, time.monotonic())
            return any(at > first for name, at in self._stored_at.items() if name != collection)


def _for_everybody(error: Unavailable | StoreUnfit) -> bool:
    """Whether other workers would fare no better: the store has answered, about this collection."""
    if isinstance(error, StoreUnavailable):
        return error.retry_after_s is not None or error.may_be_the_request
    return isinstance(error, StoreUnfit) or error.may_be_the_request


def _line(error: BaseException) -> str:
    return redact(f"{type(error).__name__}: {error}")
