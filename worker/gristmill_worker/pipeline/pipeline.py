"""One parcel's way through the worker; one function per stage.

    claim ─► survey ─► decide ─► tokenize ─► encode ─► write ─► confirm ─► finish
    ledger   Qdrant    fence     here        batcher   Qdrant   Qdrant     ledger

Runs in a task thread. Many run at once, so while one waits for vectors others tokenize, read and write: that is how the
accelerator's work hides everything else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gristmill.ledger import Claim, Ledger, UnreadableParcel, Verdict
from gristmill.store.collections import Collections
from gristmill_schemas import CollectionSpec, Outcome, Parcel, point_id
from gristmill_schemas.errors import CollectionNotFound, GristmillError, InvalidInput, ShuttingDown
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.idle_clock import IdleClock
from gristmill_worker.encoder.base import Encoder
from gristmill_worker.pipeline.fence import Action, Held, Task, decide, leaves_chunks, outcome
from gristmill_worker.pipeline.gate import Gate
from gristmill_worker.pipeline.leases import Keeper
from gristmill_worker.pipeline.patience import Patience
from gristmill_worker.pipeline.prepare import Prepared, Preparer
from gristmill_worker.pipeline.sink import Point, Sink
from gristmill_worker.pipeline.tally import Tally, all_dead

log = logging.getLogger(__name__)

#: A document overtaken this often in one go is left for a later attempt.
_MAX_ROUNDS = 5


class Handled(StrEnum):
    """What to do with the message."""

    DONE = "done"  #: acknowledge it
    LATER = "later"  #: put it back: nothing was decided


@dataclass(frozen=True, slots=True)
class _Plan:
    task: Task
    before: Held
    action: Action


class Pipeline:
    """Processes the parcels of one model, in the ledger's order. Shared by all task threads."""

    def __init__(
        self,
        ledger: Ledger,
        collections: Collections,
        encoder: Encoder,
        batcher: Batcher,
        sink: Sink,
        keeper: Keeper,
        patience: Patience,
        idle: IdleClock,
        *,
        lease_s: float,
        max_attempts: int,
        publish: Callable[[str, int], None],
    ) -> None:
        """`publish`: tells workers of a model that so many parcels more are waiting."""
        self._ledger = ledger
        self._collections = collections
        self._encoder = encoder
        self._sink = sink
        self._keeper = keeper
        self._patience = patience
        self._preparer = Preparer(encoder, batcher, idle)
        self._gate = Gate()
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._publish = publish

    def process(self) -> Handled:
        """Claim the parcel whose turn it is and bring it to its end, whatever it takes."""
        try:
            claim = self._patience.call(lambda: self._ledger.claim(self._encoder.info.digest, self._lease_s))
        except ShuttingDown:
            return Handled.LATER
        except UnreadableParcel as error:
            log.error("parked an unreadable parcel: %s", error)
            return Handled.DONE
        if claim is None:
            return Handled.DONE  # one message too many: finished, or in somebody's hands
        with self._keeper.holding(claim):
            return self._hold(claim)

    def _hold(self, claim: Claim) -> Handled:
        try:
            if claim.attempts > self._max_attempts:
                self._give_up(claim)
                return Handled.DONE
            with self._gate.alone() if claim.attempts > 1 else self._gate.shared():
                # Counted here and not when claimed: if the process dies, those that waited at the gate are innocent.
                if not self._patience.call(lambda: self._ledger.begin(claim)):
                    return Handled.DONE
                verdict = self._work(claim)
            self._finish(claim, verdict)
        except ShuttingDown:
            self._release(claim, refund=True)
            return Handled.LATER
        except Exception as error:
            log.exception("parcel %s, attempt %d, failed", claim.parcel.id, claim.attempts)
            self._release(claim, refund=False, error=f"{type(error).__name__}: {error}")
            return Handled.LATER
        return Handled.DONE

    def _finish(self, claim: Claim, verdict: Verdict) -> None:
        if not self._patience.call(lambda: self._ledger.finish(claim, verdict)):
            log.info("parcel %s: another worker took it over; its verdict counts", claim.parcel.id)

    def _release(self, claim: Claim, *, refund: bool, error: str = "") -> None:
        try:
            self._ledger.release(claim, refund=refund, error=error)
        except GristmillError as away:
            log.warning("parcel %s could not be given back (%s); its lease will run out", claim.parcel.id, away)

    def _give_up(self, claim: Claim) -> None:
        """Attempts ran out: items in company are tried one by one, a single one goes to the dead letters."""
        if len(claim.parcel) > 1:
            parts = claim.parcel.split()
            log.warning("parcel %s failed %d times: split into %d", claim.parcel.id, claim.attempts - 1, len(parts))
            # One attempt counts as spent, so each part is tried alone.
            if self._patience.call(lambda: self._ledger.split(claim, parts, attempts=1)):
                self._publish(claim.parcel.model_digest, len(parts))
            return
        reason = claim.last_error or f"its worker died {claim.attempts - 1} times while it was on it"
        self._finish(claim, all_dead(claim, "AttemptsExhausted", reason))

    def _work(self, claim: Claim) -> Verdict:
        parcel = claim.parcel
        try:
            spec = self._patience.call(lambda: self._collections.get(parcel.collection))
            self._check_model(spec)
        except (CollectionNotFound, InvalidInput) as error:
            return all_dead(claim, type(error).__name__, str(error))
        tally = Tally(claim)
        self._delete(spec, parcel, tally)
        left = [Task(document, parcel.version_of(document), parcel.job_id) for document in parcel.documents]
        for _ in range(_MAX_ROUNDS):
            if not left:
                return tally.verdict()
            plans = self._survey(spec, left)
            prepared = self._prepare(spec, plans, tally)
            self._write(spec, plans, prepared, tally)
            left = self._confirm(spec, plans, prepared, tally)
        raise GristmillError(f"{len(left)} documents were overtaken {_MAX_ROUNDS} times; trying again later")

    def _check_model(self, spec: CollectionSpec) -> None:
        if spec.space.model_digest != self._encoder.info.digest:
            raise InvalidInput(
                f"collection {spec.name!r} was replaced: it now wants {spec.space.describe()}, the parcel was "
                f"enqueued for {self._encoder.info.model}"
            )

    def _delete(self, spec: CollectionSpec, parcel: Parcel, tally: Tally) -> None:
        """Tombstones first, so that whoever writes meanwhile sees them; then the points."""
        if not parcel.deletions:
            return
        buried: dict[str, int] = {}
        for item in parcel.deletions:
            key = point_id(item.id, item.tenant)
            buried[key] = max(parcel.version_of(item), buried.get(key, 0))
        self._patience.call(lambda: self._ledger.bury(spec.name, buried))
        self._sink.delete_through(spec, [(item.id, item.tenant, parcel.version_of(item)) for item in parcel.deletions])
        newer = len(self._sink.stored(spec, list(buried)))
        tally.outcomes[Outcome.SUPERSEDED] += newer
        tally.outcomes[Outcome.DELETED] += len(parcel.deletions) - newer

    def _survey(self, spec: CollectionSpec, tasks: Sequence[Task]) -> list[_Plan]:
        """Read what is there, and decide."""
        return [
            _Plan(task, held, decide(task, held, spec.space.fingerprint))
            for task, held in zip(tasks, self._look(spec, tasks, leftovers=False), strict=True)
        ]

    def _look(self, spec: CollectionSpec, tasks: Sequence[Task], *, leftovers: bool) -> list[Held]:
        keys = [task.key for task in tasks]
        sightings = self._sink.look(spec, [task.document for task in tasks], leftovers=leftovers)
        tombs = self._patience.call(lambda: self._ledger.tombstones(spec.name, keys))
        return [Held(stored, tombs.get(key), others) for key, (stored, others) in zip(keys, sightings, strict=True)]

    def _prepare(self, spec: CollectionSpec, plans: Sequence[_Plan], tally: Tally) -> dict[str, Prepared]:
        """Tokenize, chunk and encode what needs it; documents that cannot be encoded go to the dead letters."""
        tasks = [plan.task for plan in plans if plan.action is Action.ENCODE]
        prepared, failed = self._preparer.prepare(spec, tasks, tally.claim)
        for task, error in failed:
            tally.bury(task.document, task.version, type(error).__name__, str(error))
        return {item.task.key: item for item in prepared}

    def _write(self, spec: CollectionSpec, plans: Sequence[_Plan], prepared: dict[str, Prepared], tally: Tally) -> None:
        """Points, payloads, versions; then what older versions left behind."""
        points: list[Point] = [point for item in prepared.values() for point in item.points]
        refused = self._sink.write(spec, points)
        for item in list(prepared.values()):
            reason = next((refused[point.id] for point in item.points if point.id in refused), None)
            if reason is not None:
                del prepared[item.task.key]
                tally.bury(item.task.document, item.task.version, "StoreRefused", reason)
                if len(item.points) > 1:
                    self._sink.withdraw(spec, [item.task])
        unchanged = [(p.task, p.before.stored) for p in plans if p.action is Action.TOUCH and p.before.stored]
        self._sink.touch(spec, unchanged)
        for plan in plans:
            if plan.action is Action.METADATA and plan.before.stored:
                self._sink.replace_metadata(spec, plan.task, plan.before.stored)

    def _confirm(
        self, spec: CollectionSpec, plans: Sequence[_Plan], prepared: dict[str, Prepared], tally: Tally
    ) -> list[Task]:
        """Read back what became of each document; returns those that were overtaken midway."""
        open_plans = [plan for plan in plans if plan.action is not Action.ENCODE or plan.task.key in prepared]
        again: list[Task] = []
        # Only what has been written anew can have left something behind that nobody else will clear.
        written = any(plan.action is Action.ENCODE for plan in open_plans)
        after = self._look(spec, [plan.task for plan in open_plans], leftovers=written)
        for plan, held in zip(open_plans, after, strict=True):
            became = outcome(plan.task, plan.action, held, spec.space.fingerprint)
            if became is None:
                again.append(plan.task)
                continue
            tally.outcomes[became] += 1
            if became is Outcome.STORED and (item := prepared.get(plan.task.key)):
                tally.tokens += item.tokens
                tally.chunks += len(item.points)
                tally.truncated += item.truncated
        self._clean_up(spec, list(zip(open_plans, after, strict=True)))
        return again

    def _clean_up(self, spec: CollectionSpec, ended: Sequence[tuple[_Plan, Held]]) -> None:
        """Delete what older versions left behind, and what was written after the document had been deleted."""
        winners = [held.stored for plan, held in ended if held.stored and leaves_chunks(plan.action, plan.before, held)]
        self._sink.delete_leftovers(spec, winners)
        revived = [
            (plan.task.document.id, plan.task.document.tenant, held.tombstone)
            for plan, held in ended
            if held.tombstone is not None
        ]
        self._sink.delete_through(spec, revived)
