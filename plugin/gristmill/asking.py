"""What a client can ask: jobs, receipts, audits, and what was refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from gristmill.backends import Parts
from gristmill.ingest.jobs import Job
from gristmill.maintenance.audit import Auditor
from gristmill.maintenance.dead_letters import RefusedMessages
from gristmill.maintenance.receipts import find_receipt
from gristmill.store.collections import Collections
from gristmill_schemas import AuditReport, Document, EncoderInfo, JobReport, Receipt, Rejection


class Asking(ABC):
    """The asking half of `Client`."""

    _parts: Parts
    collections: Collections

    @abstractmethod
    def _feed(self, collection: str, items: Iterable[Any], rejections: list[Rejection], **how: Any) -> Job:
        """Hand items over as one job."""

    # jobs

    def job(self, job_id: str) -> Job:
        """A handle on a job that any process opened."""
        return Job(self._parts.ledger, job_id)

    def jobs(self, limit: int = 20) -> list[JobReport]:
        """The newest jobs, newest first."""
        return self._parts.ledger.jobs(limit)

    def receipt(self, collection: str, document_id: str, *, tenant: str | None = None) -> Receipt:
        """What became of one document: its state, version, tokens, chunks, attempts, times and point ids.

        Args:
            collection: an existing collection.
            document_id: as it was enqueued.
            tenant: whose document.

        Raises:
            CollectionNotFound, StoreUnavailable, BrokerUnavailable.
        """
        spec = self.collections.get(collection)
        return find_receipt(self._parts.store, self._parts.ledger, self._parts.evidence, spec, document_id, tenant)

    def audit(
        self,
        collection: str,
        expected: Iterable[Document | Rejection | Mapping[str, Any]] | None = None,
        *,
        repair: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> AuditReport:
        """Compare what was accepted with what Qdrant holds, document by document, in bounded memory.

        Args:
            collection: an existing collection.
            expected: documents that should be there. Without them the ledger's roster says which should be; that
                names what is missing but has no texts to restore it from.
            repair: enqueue exactly what is missing, stale or damaged and whose text is at hand, and delete leftover
                chunks. The documents are on their way when this returns: `client.job(report.job_id).wait()`.
            progress: called with the number of documents looked at so far.

        Returns:
            Counters, and the first 1,000 gaps one by one. `report.left` is what no repair was found for.

        Raises:
            CollectionNotFound, StoreUnavailable, BrokerUnavailable.
        """
        spec = self.collections.get(collection)
        parts = self._parts
        auditor = Auditor(parts.store, parts.ledger, parts.evidence, spec, repair=repair, progress=progress)
        documents = auditor.run(expected)
        # A job only if there is something to enqueue.
        first = next(documents, None)
        job = None if first is None else self._feed(collection, chain([first], documents), [])
        return auditor.report(job.id if job else None)

    @property
    def refused(self) -> RefusedMessages:
        """Broker messages that did not speak of work."""
        return RefusedMessages(self._parts.evidence)

    def announced_models(self) -> list[EncoderInfo]:
        """Every model that a worker has announced, newest first."""
        return self._parts.ledger.models()
