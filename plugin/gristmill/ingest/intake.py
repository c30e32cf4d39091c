"""One call's documents or deletions become one job: opened, fed, closed, whatever happens in between."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gristmill.ingest.jobs import Job
from gristmill.ingest.producer import Producer
from gristmill.ledger import Ledger, new_job_id
from gristmill.store.collections import Collections
from gristmill.store.tenancy import missing_tenant
from gristmill_schemas import CollectionSpec, Deletion, Document, Priority, Rejection
from gristmill_schemas.errors import GristmillError, JobCancelled

log = logging.getLogger(__name__)

Item = Document | Deletion | Rejection


class Intake:
    """Takes what applications hand over."""

    def __init__(
        self,
        ledger: Ledger,
        producer: Producer,
        collections: Collections,
        check_server: Callable[[], None],
        lives_on: bool = True,
    ) -> None:
        """Nothing is opened yet.

        Args:
            ledger: what is owed.
            producer: feeds it.
            collections: of the store.
            check_server: asked before the first write whether the server keeps what we promise.
            lives_on: whether what is accepted outlives this process.
        """
        self._lives_on = lives_on
        self._ledger = ledger
        self._producer = producer
        self._collections = collections
        self._check_server = check_server

    def take(
        self,
        collection: str,
        items: Iterable[Item] | Callable[[CollectionSpec], Iterable[Item]],
        *,
        tenant: str | None = None,
        notify: str | None = None,
        priority: Priority = Priority.NORMAL,
        **how: Any,
    ) -> Job:
        """Hand items over as one job.

        Args:
            collection: an existing collection.
            items: consumed as the queue takes them; or a function that makes them, once the collection is known.
            tenant: whose all of them are, where that is known.
            notify: URL that is told when the job is done, checked.
            priority: beside other jobs that wait for the same model.
            how: see `Producer.feed`.

        Returns:
            The job, with its rejections.
        """
        self._check_server()
        spec = self._collections.get(collection)
        rejections: list[Rejection] = []
        accepted = sound(spec, items(spec) if callable(items) else items, rejections.append)
        job_id = new_job_id()
        try:
            ticket = self._ledger.open_job(collection, job_id, tenant, notify, priority)
            self._producer.feed(spec, ticket, accepted, **how)  # type: ignore[type-var]  # a parcel may hold both kinds
        except JobCancelled:
            raise  # it says itself what became of them
        except BaseException as error:
            if self._lives_on:
                error.add_note(self._whereabouts(job_id))
            raise
        finally:
            # Also on errors of the caller's own iterable and on Ctrl-C, be it while the answer to `open_job` is on its
            # way: a job that nobody closes never ends.
            self._ledger.close_job(job_id, rejected=len(rejections))
        if rejections:
            log.warning("job %s: rejected %d, the first: %s", job_id, len(rejections), rejections[0])
        return Job(self._ledger, self._producer.announce, job_id, rejections)

    def _whereabouts(self, job_id: str) -> str:
        """For whoever is interrupted: what was accepted, and how to see it again."""
        with contextlib.suppress(GristmillError):
            if report := self._ledger.report(job_id):
                accepted = "1 document" if report.accepted == 1 else f"{report.accepted} documents"
                return (
                    f"{accepted} of job {job_id} accepted, and on their way: `gristmill jobs watch {job_id}` follows it"
                )
        return f"what job {job_id} has accepted goes on: `gristmill jobs watch {job_id}` follows it"


def sound(
    spec: CollectionSpec, items: Iterable[Item], reject: Callable[[Rejection], None]
) -> Iterator[Document | Deletion]:
    """Those that this collection takes; of the others, and of those that were rejected before, `reject` is told."""
    for position, item in enumerate(items):
        if isinstance(item, Document) and spec.text_key in item.metadata:
            reason = (
                f"metadata.{spec.text_key}: the key {spec.text_key!r} holds the text in collection {spec.name!r}; "
                "rename yours, or give the collection another text_key"
            )
            reject(Rejection(position=position, id=item.id, reason=reason))
        elif isinstance(item, Rejection):
            reject(item)
        elif spec.tenants and item.tenant is None:
            reject(Rejection(position=position, id=item.id, reason=missing_tenant(spec)))
        else:
            yield item
