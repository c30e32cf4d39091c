"""One parcel's way through the worker; one function per stage.

    claim ─► survey ─► decide ─► tokenize ─► encode ─► write ─► confirm ─► finish
    ledger   Qdrant    fence     here        batcher   Qdrant   Qdrant     ledger

Runs in a task thread. Many run at once, so while one waits for vectors others tokenize, read and write: that is how the
accelerator's work hides everything else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gristmill.ledger import Claim, Verdict
from gristmill_schemas import CollectionSpec, Intent, Outcome, Parcel, PointSystem, VectorSpace, point_id
from gristmill_schemas.errors import CollectionNotFound, GristmillError, InvalidInput, StoreUnfit
from gristmill_worker.metering.meter import ModelMeter, Step
from gristmill_worker.pipeline.commons import Commons
from gristmill_worker.pipeline.descriptions import Descriptions
from gristmill_worker.pipeline.fence import Action, Held, Task, Unchanged, decide, leaves_chunks, outcome
from gristmill_worker.pipeline.prepare import Prepared, Preparer
from gristmill_worker.pipeline.sink import Point, Sighting, Sink
from gristmill_worker.pipeline.tally import Tally

log = logging.getLogger(__name__)


class AnotherModel(GristmillError):
    """The collection's name now means one of another model; the parcel belongs into that model's queue."""

    def __init__(self, space: VectorSpace) -> None:
        self.space = space
        super().__init__(f"the collection now wants {space.describe()}")


class TakenOver(Exception):
    """Another worker holds the parcel by now, and looks for itself."""


#: A document overtaken this often in one go is left for a later attempt.
_MAX_ROUNDS = 5


@dataclass(slots=True)
class _Plan:
    task: Task
    before: Held
    action: Action


class Pipeline:
    """Works on the parcels of one model. Shared by all task threads; who claims and answers for them is `Handler`."""

    def __init__(self, commons: Commons, preparer: Preparer, sink: Sink, meter: ModelMeter | None = None) -> None:
        self._ledger = commons.patient_ledger
        meter = meter or ModelMeter()
        self._descriptions = Descriptions(commons.collections, commons.clock, meter.lookups)
        self._asking_store = meter.asking_store
        self._patience = commons.patience
        self._clock = commons.clock
        self._preparer = preparer
        self._sink = sink
        self._steps = meter.steps
        self._server_wait_s = commons.server_wait_s

    def work(self, claim: Claim, *, undeleted: bool = False) -> Verdict:
        """Bring the documents and deletions of a claim to their ends.

        Args:
            claim: whose attempt is counted.
            undeleted: no deletion was remembered, just now, in the collection that the parcel was accepted for.

        Returns:
            What became of each. Those that died, died of themselves as far as can be seen from here.

        Raises:
            CollectionNotFound, AnotherModel: of the collection that its name means now.
            StoreUnavailable: the store stayed away, or limits us, for longer than a thread should wait.
            StoreUnfit: the store refuses whatever is written to this collection.
            DeviceFailed, NewerFormat, ShuttingDown.
        """
        try:
            with self._steps[Step.DESCRIBE].timing():
                spec = self._spec(claim.parcel)
            return self._work(claim, spec, undeleted and spec.key == claim.parcel.collection_key)
        except CollectionNotFound:
            self._descriptions.forget(claim.parcel.collection)
            raise

    def _work(self, claim: Claim, spec: CollectionSpec, undeleted: bool) -> Verdict:
        parcel = claim.parcel
        if spec.space.model_digest != parcel.model_digest:
            raise AnotherModel(spec.space)
        if spec.key != parcel.collection_key:
            log.info("parcel %s: %r means %r by now", parcel.id, parcel.collection, spec.physical)
            self._ledger.follow(parcel, spec.key)
        tally = Tally(claim, spec.key, self._clock)
        if parcel.deletions:
            undeleted = False
            with self._steps[Step.DELETE].timing():
                self._delete(spec, parcel, tally)
        left = [
            Task(document, parcel.version_of(document), parcel.job_id, spec.chunking) for document in parcel.documents
        ]
        for _ in range(_MAX_ROUNDS):
            if not left:
                return tally.verdict()
            with self._steps[Step.SURVEY].timing():
                plans = self._survey(spec, left, tally, undeleted)
            undeleted = False
            prepared = self._prepare(spec, plans, tally)
            with self._steps[Step.WRITE].timing():
                self._write(spec, plans, prepared, tally)
            with self._steps[Step.CONFIRM].timing():
                left = self._confirm(spec, plans, prepared, tally)
        raise GristmillError(f"{len(left)} documents were overtaken {_MAX_ROUNDS} times; trying again later")

    def retract(self, claim: Claim) -> None:
        """Take back what a claim that is lost has written of tenants that were erased meanwhile."""
        for retraction in self._ledger.retractions():
            if retraction.token == claim.token:
                self._sink.retract(self._spec(claim.parcel), retraction)
                self._ledger.lift(retraction.id)

    def _spec(self, parcel: Parcel) -> CollectionSpec:
        """What the name that was asked for means now."""
        try:
            return self._patience.call(lambda: self._described(parcel), at_most_s=self._server_wait_s)
        except InvalidInput as error:  # one of this name is there, and it is none of ours
            raise StoreUnfit(str(error)) from error

    def _described(self, parcel: Parcel) -> CollectionSpec:
        with self._asking_store():
            return self._descriptions.get(parcel.collection, parcel.enqueued_at)

    def _delete(self, spec: CollectionSpec, parcel: Parcel, tally: Tally) -> None:
        """Tombstones first, so that whoever writes meanwhile sees them; then the points."""
        buried: dict[str, int] = {}
        for item in parcel.deletions:
            key = point_id(item.id, item.tenant)
            buried[key] = max(parcel.version_of(item), buried.get(key, 0))
        owners = {point_id(item.id, item.tenant): item.tenant for item in parcel.deletions if item.tenant is not None}
        if not self._ledger.bury(spec.key, buried, owners, tally.claim):
            raise TakenOver
        found = self._find(spec, buried, tally.claim)
        self._sink.delete_through(spec, [(item.id, item.tenant, parcel.version_of(item)) for item in parcel.deletions])
        held = self._sink.stored(spec, list(buried))
        for item in parcel.deletions:
            # Something as old may be there again already, written late by somebody who will take it away.
            left = held.get(point_id(item.id, item.tenant))
            newer = left is not None and left.version > parcel.version_of(item)
            there = left is not None or point_id(item.id, item.tenant) in found
            tally.outcomes[Outcome.SUPERSEDED if newer else Outcome.DELETED if there else Outcome.ABSENT] += 1

    def _find(self, spec: CollectionSpec, buried: Mapping[str, int], claim: Claim) -> frozenset[str]:
        """Which of the documents are there to be deleted, or were when an earlier delivery of the parcel came for them."""
        held = self._sink.stored(spec, list(buried))
        found = claim.found.union(key for key, system in held.items() if system.version <= buried[key])
        if found != claim.found and not self._ledger.note_found(claim, found):
            raise TakenOver
        return found

    def _survey(self, spec: CollectionSpec, tasks: Sequence[Task], tally: Tally, undeleted: bool) -> list[_Plan]:
        """Read what is there, and decide; documents whose place is taken go to the dead letters."""
        plans = []
        # Where it is this very version already, it matters who wrote it: that is read in full.
        older = {task.key: task.version for task in tasks}
        looks = self._look(spec, tasks, leftovers=False, unchanged=older, undeleted=undeleted)
        for task, held in zip(tasks, looks, strict=True):
            if held.squatter is not None:
                _bury_squatted(task, held.squatter, tally)
            else:
                plans.append(_Plan(task, held, decide(task, held, spec.fingerprint)))
        return plans

    def _look(
        self,
        spec: CollectionSpec,
        tasks: Sequence[Task],
        *,
        leftovers: bool,
        expected: Mapping[str, PointSystem] | None = None,
        unchanged: Mapping[str, int] | None = None,
        undeleted: bool = False,
    ) -> list[Held]:
        sightings = self._sink.look(spec, tasks, leftovers=leftovers, expected=expected, unchanged=unchanged)
        # After the points: who deletes writes the tombstone first, so of what was still there then, it takes care itself.
        tombs = {} if undeleted else self._ledger.tombstones(spec.key, [task.key for task in tasks])
        return held(tasks, sightings, tombs)

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
        self._intend(spec, prepared.values(), tally.claim)
        refused = self._sink.write(spec, points)
        if refused:
            # Is it these documents, or would the store refuse anything?
            self._sink.require_fit(spec)
        for item in list(prepared.values()):
            reason = next((refused[point.id] for point in item.points if point.id in refused), None)
            if reason is not None:
                del prepared[item.task.key]
                tally.waste(Outcome.DEAD, item.tokens)
                tally.bury(item.task.document, item.task.version, "StoreRefused", reason)
                if len(item.points) > 1:
                    self._sink.withdraw(spec, [item.task])
        unchanged = [(p.task, p.before.stored) for p in plans if p.action is Action.TOUCH and p.before.stored]
        self._sink.touch(spec, unchanged)
        for plan in plans:
            if plan.action is Action.METADATA and isinstance(plan.before.stored, PointSystem):
                self._sink.replace_metadata(spec, plan.task, plan.before.stored)

    def _intend(self, spec: CollectionSpec, prepared: Iterable[Prepared], claim: Claim) -> None:
        """Say what is about to be written, for whoever must look after it if this process dies on the way."""
        tasks = [each.task for each in prepared]
        if tasks:
            intent = Intent(
                token=claim.token,
                parcel_id=claim.parcel.id,
                collection=spec.physical,
                key=spec.key,
                job_id=claim.parcel.job_id,
                documents=tuple((task.document.id, task.document.tenant) for task in tasks),
                contents=tuple((task.etag, task.version) for task in tasks),
            )
            if not self._ledger.intend(intent):
                raise TakenOver

    def _confirm(
        self, spec: CollectionSpec, plans: Sequence[_Plan], prepared: dict[str, Prepared], tally: Tally
    ) -> list[Task]:
        """Read back what became of each document; returns those that were overtaken midway."""
        open_plans = [plan for plan in plans if plan.action is not Action.ENCODE or plan.task.key in prepared]
        again: list[Task] = []
        # Only what has been written anew can have left something behind that nobody else will clear.
        written = any(plan.action is Action.ENCODE for plan in open_plans)
        touched = {p.task.key: p.task.version + 1 for p in open_plans if isinstance(p.before.stored, Unchanged)}
        after = self._look(
            spec,
            [plan.task for plan in open_plans],
            leftovers=written,
            expected=_expected(open_plans, prepared),
            unchanged=touched,
        )
        for plan, held in zip(open_plans, after, strict=True):
            if held.squatter is not None:
                if plan.action is Action.ENCODE:
                    self._sink.withdraw(spec, [plan.task])
                tally.waste(Outcome.DEAD, _tokens(prepared, plan.task))
                _bury_squatted(plan.task, held.squatter, tally)
                continue
            became = outcome(plan.task, plan.action, held, spec.fingerprint)
            if became is None:
                again.append(plan.task)
                continue
            if became is not Outcome.STORED or not isinstance(held.stored, PointSystem):
                tally.outcomes[became] += 1
                tally.waste(became, _tokens(prepared, plan.task))
                continue
            tally.store(held.stored)
            if item := prepared.get(plan.task.key):
                tally.written += len(item.points)
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


def _expected(plans: Sequence[_Plan], prepared: Mapping[str, Prepared]) -> dict[str, PointSystem]:
    """What the points hold, by id, where nobody came in between."""
    expected: dict[str, PointSystem] = {}
    for plan in plans:
        if item := prepared.get(plan.task.key):
            expected |= item.systems
        elif plan.action is Action.TOUCH and isinstance(plan.before.stored, PointSystem):
            expected[plan.task.key] = plan.before.stored.model_copy(update={"version": plan.task.version})
    return expected


def _tokens(prepared: Mapping[str, Prepared], task: Task) -> int:
    """Those that the model has just read of a document."""
    item = prepared.get(task.key)
    return item.tokens if item else 0


def held(tasks: Sequence[Task], sightings: Sequence[Sighting], tombstones: Mapping[str, int]) -> list[Held]:
    """What store and ledger hold of each document."""
    return [
        Held(each.stored, tombstones.get(task.key), each.others, each.squatter)
        for task, each in zip(tasks, sightings, strict=True)
    ]


def squatted(problem: str) -> str:
    """Why a document dies whose place is taken."""
    return (
        f"a point that is not Gristmill's lies under an id of this document ({problem}); it is left as it is: "
        "delete it or store it elsewhere, then replay this letter"
    )


def _bury_squatted(task: Task, problem: str, tally: Tally) -> None:
    tally.bury(task.document, task.version, "ForeignPoint", squatted(problem))
