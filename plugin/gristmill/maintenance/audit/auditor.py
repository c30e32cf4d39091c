"""The auditor: streams expectations past Qdrant, asks the ledger about what is not as expected, and collects the gaps."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from qdrant_client import QdrantClient

from gristmill.ingest.packing import parse
from gristmill.ledger import Ledger
from gristmill.ledger.reading import Evidence
from gristmill.maintenance.audit.enlisting import Enlisting
from gristmill.maintenance.audit.judging import Problem, Subject, chunk_ids, is_leftover, judge
from gristmill.maintenance.audit.repairing import Repairer
from gristmill.seen_keys import SeenKeys
from gristmill.store.points import PAGE, Seen, look_up, scroll
from gristmill.store.tenancy import of_tenant
from gristmill.store.vectors import lacks_a_vector, without_vectors
from gristmill_schemas import AuditReport, CollectionSpec, Document, Finding, Gap, PointSystem, Rejection, point_id

#: Of some points, those that should not be there.
_Finder = Callable[[Iterable[Seen]], dict[str, PointSystem]]
#: Gaps that a report describes one by one.
MAX_FINDINGS = 1000
#: Characters of the caller's texts held at once.
_PAGE_CHARS = 16 * 1024 * 1024


class Auditor:
    """One audit of one collection."""

    def __init__(
        self,
        store: QdrantClient,
        ledger: Ledger,
        evidence: Evidence,
        spec: CollectionSpec,
        *,
        tenant: str | None = None,
        repair: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._evidence = evidence
        self._spec = spec
        self._tenant = tenant
        self._repairer = Repairer(store, spec) if repair else None
        self._enlisting = Enlisting(store, ledger, evidence, spec, self._pending, repair=repair)
        self._progress = progress
        self._counts: Counter[str] = Counter()
        self._findings: list[Finding] = []
        #: Documents that are settled, one way or the other.
        self._settled = SeenKeys()
        #: Documents that were pending at some moment of this audit.
        self._in_flight = SeenKeys()
        self._started = time.monotonic()

    def run(self, expected: Iterable[Document | Rejection | Mapping[str, Any]] | None) -> Iterator[Document]:
        """Look at everything; yields the documents to enqueue again, if this audit repairs."""
        yield from self._compare(self._callers(expected or ()))
        if self._evidence.keeps_roster:
            yield from self._compare(self._rostered())
        theirs = of_tenant(self._tenant)
        for page in scroll(self._store, self._spec.physical, theirs):
            yield from self._compare(self._scanned(page))
            self._sweep(page)
            self._counts["unlisted"] += self._enlisting.look(page)
        for page in scroll(self._store, self._spec.physical, lacks_a_vector(self._spec, theirs)):
            found = (seen.system for seen in page if seen.system is not None)
            yield from self._compare(Subject(system.id, system.tenant, trace=True) for system in found)

    def report(self, job_id: str | None = None) -> AuditReport:
        """What has been found so far."""
        return AuditReport(
            collection=self._spec.name,
            fingerprint=self._spec.fingerprint,
            roster=self._evidence.keeps_roster,
            job_id=job_id,
            listed=self._counts["unlisted"] if self._repairer else 0,
            findings=tuple(self._findings),
            seconds=time.monotonic() - self._started,
            **cast("Any", self._counts),
        )

    # expectations

    def _callers(self, expected: Iterable[Document | Rejection | Mapping[str, Any]]) -> Iterator[Subject]:
        for item in parse(expected, self._tenant):
            if isinstance(item, Rejection) or (self._spec.tenants and item.tenant is None):
                self._counts["rejected"] += 1
            else:
                self._counts["expected"] += 1
                yield Subject(item.id, item.tenant, item.version, item)

    def _rostered(self) -> Iterator[Subject]:
        for entry in self._evidence.roster(self._spec.key):
            if self._tenant not in (None, entry.tenant):
                continue
            subject = Subject(entry.id, entry.tenant, entry.version)
            if subject.key not in self._settled:
                self._counts["expected"] += 1
                yield subject

    def _scanned(self, page: Sequence[Seen]) -> Iterator[Subject]:
        """What the points themselves say should be there: all chunks of every chunk 0, a chunk 0 for every chunk."""
        first = look_up(self._store, self._spec, _keys(page))
        for seen in page:
            self._counts["points"] += 1
            system = seen.system
            if system is None:
                self._note(Finding(gap=Gap.FOREIGN, point_id=seen.id, detail=seen.problem))
            elif system.chunk == 0:
                self._counts["documents"] += 1
                if system.chunks > 1 or system.space != self._spec.fingerprint:
                    yield Subject(system.id, system.tenant, trace=True)
            elif (zero := first.get(point_id(system.id, system.tenant))) is None or _newer(system, zero):
                yield Subject(system.id, system.tenant, system.version, trace=True)

    # comparing

    def _compare(self, subjects: Iterable[Subject]) -> Iterator[Document]:
        for batch in _batches(subject for subject in subjects if subject.key not in self._settled):
            problems = self._inspect(batch)
            yield from self._settle(problems)
            for subject in batch:
                self._settled.add(subject.key)
            if self._progress is not None:
                self._progress(self._counts["expected"])

    def _inspect(self, subjects: Sequence[Subject]) -> list[Problem]:
        points = look_up(self._store, self._spec, [subject.key for subject in subjects])
        more = [each for seen in points.values() if seen.system for each in chunk_ids(seen.system)[1:]]
        points |= look_up(self._store, self._spec, more)
        lacking = without_vectors(self._store, self._spec, [each for each, seen in points.items() if seen.system])
        judged = (judge(subject, points, self._spec, lacking) for subject in subjects)
        return [problem for problem in judged if problem is not None]

    def _settle(self, problems: list[Problem]) -> Iterator[Document]:
        """Drop what the ledger can explain, and what was only in motion; what is left is a gap."""
        if not problems:
            return
        pending = self._pending({problem.subject.key for problem in problems})
        letters = self._letters({problem.subject.key for problem in problems})
        tombs = self._ledger.tombstones(self._spec.key, [problem.subject.key for problem in problems])
        self._counts["in_flight"] += len(pending)
        # Again, and only now: what was finished between the first look and the ledger's answer is there by this time.
        gaps = []
        for problem in self._inspect([each.subject for each in problems if each.subject.key not in pending]):
            key, version = problem.subject.key, problem.version
            if _covers(tombs.get(key), version):
                self._counts["deleted"] += 1
            elif _covers(letters.get(key), version):
                self._counts["dead"] += 1
            else:
                gaps.append(problem)
        yield from self._close(gaps)

    def _pending(self, keys: set[str]) -> set[str]:
        if any(key not in self._in_flight for key in keys) and self._ledger.load().parcels:
            for parcel in self._evidence.pending(self._spec.space.model_digest):
                if self._spec.is_meant_by(parcel.collection, parcel.collection_key):
                    for item in parcel.items:
                        self._in_flight.add(point_id(item.id, item.tenant))
        return {key for key in keys if key in self._in_flight}

    def _letters(self, keys: set[str]) -> dict[str, int]:
        versions: dict[str, int] = {}
        for letter in self._evidence.letters(self._spec.key):
            document_id, tenant = letter.identity
            if document_id is not None and (key := point_id(document_id, tenant)) in keys:
                versions[key] = max(letter.version, versions.get(key, 0))
        return versions

    def _close(self, gaps: Sequence[Problem]) -> Iterator[Document]:
        found = [(problem, self._document_for(problem)) for problem in gaps]
        if self._repairer is not None:
            self._repairer.make_way([problem for problem, document in found if document is not None])
        for problem, document in found:
            subject = problem.subject
            self._note(
                Finding(
                    gap=problem.gap,
                    id=subject.id,
                    tenant=subject.tenant,
                    version=subject.version,
                    point_id=subject.key,
                    detail=problem.detail,
                    repaired=document is not None,
                )
            )
            if document is not None:
                yield document

    def _document_for(self, problem: Problem) -> Document | None:
        return None if self._repairer is None else self._repairer.document_for(problem)

    def _note(self, finding: Finding) -> None:
        self._counts[finding.gap.value] += 1
        self._counts["repaired"] += finding.repaired
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(finding)

    # what must go

    def _sweep(self, page: Sequence[Seen]) -> None:
        """Chunks that their documents no longer have, and documents that were deleted and are there all the same."""
        ours = [seen for seen in page if seen.system is not None]
        self._weed(ours, self._leftovers, Gap.LEFTOVER, "which its document no longer has")
        self._weed(ours, self._revived, Gap.REVIVED, "though the document was deleted at that version or a newer one")

    def _weed(self, seen: Iterable[Seen], find: _Finder, gap: Gap, why: str) -> None:
        """Report what `find` finds, and delete it if this audit repairs, unless its document is in motion."""
        if not (suspects := find(seen)):
            return
        pending = self._pending({point_id(system.id, system.tenant) for system in suspects.values()})
        again = find(look_up(self._store, self._spec, list(suspects)).values())
        still = {each: it for each, it in again.items() if point_id(it.id, it.tenant) not in pending}
        if self._repairer is not None:
            self._repairer.delete_points(still)
        for each, system in still.items():
            self._note(
                Finding(
                    gap=gap,
                    id=system.id,
                    tenant=system.tenant,
                    point_id=each,
                    detail=f"chunk {system.chunk} of version {system.version}, {why}",
                    repaired=self._repairer is not None,
                )
            )

    def _leftovers(self, points: Iterable[Seen]) -> dict[str, PointSystem]:
        chunks = {seen.id: seen.system for seen in points if seen.system and seen.system.chunk}
        first = look_up(self._store, self._spec, list({point_id(it.id, it.tenant) for it in chunks.values()}))
        zeros = {key: zero.system for key, zero in first.items() if zero.system is not None}
        return {
            each: it
            for each, it in chunks.items()
            if (zero := zeros.get(point_id(it.id, it.tenant))) is not None and is_leftover(it, zero)
        }

    def _revived(self, points: Iterable[Seen]) -> dict[str, PointSystem]:
        """By a worker that had lost its lease, wrote after the deletion and died before it could clean up after itself."""
        held = {seen.id: seen.system for seen in points if seen.system is not None}
        tombs = self._ledger.tombstones(self._spec.key, [point_id(it.id, it.tenant) for it in held.values()])
        return {each: it for each, it in held.items() if tombs.get(point_id(it.id, it.tenant), -1) >= it.version}


def _keys(page: Iterable[Seen]) -> list[str]:
    """Chunk 0 of every later chunk on a page."""
    return list({point_id(seen.system.id, seen.system.tenant) for seen in page if seen.system and seen.system.chunk})


def _newer(chunk: PointSystem, first: Seen) -> bool:
    return first.system is not None and chunk.version > first.system.version


def _covers(known: int | None, version: int | None) -> bool:
    """Whether a deletion or a dead letter of this version explains that the expected one is not there."""
    return known is not None and (version is None or known >= version)


def _batches(subjects: Iterable[Subject]) -> Iterator[list[Subject]]:
    batch: dict[str, Subject] = {}
    chars = 0
    for subject in subjects:
        batch.setdefault(subject.key, subject)
        chars += len(subject.document.text) if subject.document else 0
        if len(batch) == PAGE or chars > _PAGE_CHARS:
            yield list(batch.values())
            batch, chars = {}, 0
    if batch:
        yield list(batch.values())
