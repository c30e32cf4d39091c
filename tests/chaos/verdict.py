"""What must hold afterwards, counted against what was asked for: none lost, stale, revived, twice, or buried for nothing."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gristmill import Client, DeadLetter, JobReport, JobState
from gristmill_schemas import PointSystem
from gristmill_schemas.validation import SYSTEM_KEY
from gristmill_worker.encoder.base import Encoder

#: Cosine of two vectors that differ by rounding alone.
_SAME_VECTOR = 0.999
#: Least time for jobs to end, on a machine that is torn between many.
PATIENCE_S = 120.0


@dataclass
class Verdict:
    """The last line of a chaos run, as JSON."""

    accepted: int = 0
    stored: int = 0
    skipped: int = 0
    superseded: int = 0
    dead: int = 0
    gone: int = 0
    lost: int = 0
    stale: int = 0
    revived: int = 0
    duplicates: int = 0
    buried_without_cause: int = 0
    kills: int = 0
    restarts: int = 0
    redis_restarts: int = 0
    qdrant_restarts: int = 0
    seconds: float = 0.0

    def add(self, other: Verdict) -> None:
        """Sum up several scenarios."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def sound(self) -> bool:
        """Whether every promise held."""
        return self.lost == self.stale == self.revived == self.duplicates == self.buried_without_cause == 0


def settled(client: Client, job_ids: Iterable[str], deadline_s: float) -> list[JobReport]:
    """Reports of jobs that have all come to their end; fails with what is still open at the deadline, or `PATIENCE_S`."""
    open_ids, reports = set(job_ids), {}
    until = time.monotonic() + max(deadline_s, PATIENCE_S)
    while open_ids:
        for job_id in list(open_ids):
            report = client.jobs.get(job_id).report()
            reports[job_id] = report
            if report.state is JobState.DONE:
                open_ids.discard(job_id)
        if open_ids and time.monotonic() > until:
            unfinished = [reports[job_id] for job_id in open_ids]
            raise AssertionError(f"{len(open_ids)} jobs did not end: {unfinished[:3]}; workers: {workers(client)}")
        if open_ids:
            time.sleep(0.2)
    return list(reports.values())


def workers(client: Client) -> dict[str, dict[str, object]]:
    """Heartbeats, for messages."""
    return client._parts.ledger.workers()


def points(client: Client, collection: str) -> Iterator[tuple[str, PointSystem, str]]:
    """Every point of a collection: id, system payload, text."""
    page = None
    while True:
        found, page = client._parts.store.scroll(collection, limit=2000, offset=page, with_payload=True)
        for point in found:
            payload = point.payload or {}
            yield str(point.id), PointSystem.model_validate(payload[SYSTEM_KEY]), payload["text"]
        if page is None:
            return


def buried(client: Client) -> dict[str, DeadLetter]:
    """Every dead letter by its document's id."""
    letters = client.dead.list(limit=1_000_000)
    return {item.id if (item := letter.document or letter.deletion) else letter.id: letter for letter in letters}


def meaningless(client: Client, collection: str, encoder: Encoder) -> int:
    """How many stored vectors are not those of their texts; for documents of one chunk, without templates."""
    found, _ = client._parts.store.scroll(collection, limit=1_000_000, with_payload=["text"], with_vectors=True)
    texts = [str((point.payload or {})["text"]) for point in found]
    wanted = encoder.encode(encoder.tokenize(texts))
    stored = np.asarray([_unnamed(point.vector) for point in found], dtype=np.float32)
    return int((np.sum(wanted * stored, axis=1) < _SAME_VECTOR).sum())


def _unnamed(vector: Any) -> Any:
    """The vector made by the model, beside which a point may have its words by name."""
    return vector[""] if isinstance(vector, dict) else vector


def judge(client: Client, collection: str, expected: Mapping[str, str | None], bad: Collection[str] = ()) -> Verdict:
    """Compare collection and dead letters with what must be there.

    Args:
        client: of the mill.
        collection: its only collection that has dead letters.
        expected: the text that each document must have; None: it must be absent.
        bad: the documents that no worker can store, so that they must be dead and nothing else.
    """
    letters = buried(client)
    verdict = Verdict(buried_without_cause=len(innocent := set(letters) - set(bad)))
    for each in sorted(innocent)[:3]:
        sys.stdout.write(f"buried without cause: {letters[each]!r}\n")
    texts: dict[str, dict[int, tuple[PointSystem, str]]] = {}
    for _, system, text in points(client, collection):
        chunks = texts.setdefault(system.id, {})
        verdict.duplicates += system.chunk in chunks
        chunks[system.chunk] = (system, text)
    verdict.duplicates += len(set(texts) - set(expected))
    for document_id, wanted in expected.items():
        chunks = texts.get(document_id, {})
        if wanted is None:
            verdict.revived += bool(chunks)
        elif not chunks:
            verdict.lost += document_id not in letters
        elif not _is(chunks, wanted):
            verdict.stale += 1
    return verdict


def _is(chunks: Mapping[int, tuple[PointSystem, str]], text: str) -> bool:
    """Whether these chunks are all chunks of this text, and nothing else."""
    systems = [system for system, _ in chunks.values()]
    whole = sorted(chunks) == list(range(systems[0].chunks))
    one_content = len({system.etag for system in systems}) == 1
    return (
        whole
        and one_content
        and all(text[slice(*(system.span or (None,)))] == part for system, part in chunks.values())
    )


def add_up(verdict: Verdict, reports: Iterable[JobReport], done: Counter[str], started: float) -> Verdict:
    """Fill in the counters; every job's must add up."""
    for report in reports:
        assert report.accepted == report.finished, f"counters do not add up: {report}"
        assert report.chunks >= report.stored >= report.truncated, f"counters contradict one another: {report}"
        for name in ("accepted", "stored", "skipped", "superseded", "dead", "gone"):
            setattr(verdict, name, getattr(verdict, name) + getattr(report, name))
    for name in ("kills", "restarts", "redis_restarts", "qdrant_restarts"):
        setattr(verdict, name, done[name])
    verdict.seconds = round(time.monotonic() - started, 1)
    return verdict
