"""The client: everything an application does with Gristmill.

>>> client = Client()                                    # GRISTMILL_* variables; Client.embedded() needs no servers
>>> client.create_collection("faq", model="Qwen/Qwen3-Embedding-0.6B")
>>> client.enqueue("faq", [Document(id="42", text="…")]).wait()
>>> client.search("faq", "用了优惠券但没减钱", instruction="Given a complaint, find the FAQ entry that solves it")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal

from pydantic import ValidationError
from qdrant_client import models

from gristmill.asking import Asking
from gristmill.backends import Parts, open_parts
from gristmill.ingest.jobs import Job
from gristmill.ingest.packing import parse
from gristmill.ingest.producer import Producer
from gristmill.ledger import new_job_id
from gristmill.maintenance.dead_letters import DeadLetters
from gristmill.models import served
from gristmill.search.filters import Where, compile_filter
from gristmill.search.searcher import Searcher
from gristmill.settings import ClientSettings, load_settings
from gristmill.store.connection import require_server
from gristmill.store.points import scroll
from gristmill_schemas import (
    Chunking,
    CollectionSpec,
    Deletion,
    Distance,
    Document,
    Instruction,
    Rejection,
    SearchHit,
    VectorSpace,
)
from gristmill_schemas.errors import DocumentsRejected, InvalidInput
from gristmill_schemas.point import CHUNK_PATH, JOB_PATH
from gristmill_schemas.validation import explain


class Client(Asking):
    """Enqueue, search and manage. Safe to share between threads; open it once per process, after forking."""

    def __init__(self, settings: ClientSettings | None = None, **overrides: Any) -> None:
        """Open a client.

        Args:
            settings: ready-made settings; None reads `GRISTMILL_*` variables and `.env`.
            overrides: single settings by name, such as `redis_url=...`.

        Raises:
            InvalidInput: a setting is wrong; the message names it.
        """
        self._parts: Parts = open_parts(settings or load_settings(ClientSettings, **overrides), overrides)
        self.collections = self._parts.collections
        self._producer = Producer(self._parts.ledger, self._parts.dispatcher, self._parts.high_water)
        self._searcher = Searcher(self._parts.store, self.collections, self._parts.queries)
        self.dead = DeadLetters(
            self._parts.ledger, self._parts.evidence, lambda name, items: self._feed(name, items, [])
        )
        self._server_checked = self._parts.local

    @classmethod
    def embedded(cls, path: str = ":memory:", *, model: str | None = None, **overrides: Any) -> Client:
        """The whole of Gristmill in this process, without any server: for notebooks, demos and tests.

        Args:
            path: folder that keeps the vectors, `:memory:`, or the URL of a Qdrant server.
            model: folder or hub id; None takes GRISTMILL_MODEL.
            overrides: any other setting, the worker's included.
        """
        return cls(embedded_path=path, model=model, **overrides)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give all connections back. Embedded mode forgets what is not stored yet: `job.wait()` first."""
        self._parts.closing.close()

    # collections

    def create_collection(
        self,
        name: str,
        model: str | None = None,
        *,
        dimensions: int | None = None,
        force_dimensions: bool = False,
        space: VectorSpace | None = None,
        distance: Distance | str = Distance.COSINE,
        text_key: str = "text",
        chunking: Chunking | None = None,
        instructions: Iterable[Instruction] = (),
        wait_s: float = 30.0,
    ) -> CollectionSpec:
        """Create a collection for a model; an existing one with the same space is returned as it is.

        Args:
            name: Qdrant's name of the collection.
            model: what a running worker was started with; None takes GRISTMILL_MODEL, or where that is not set, the
                one model that is being served.
            dimensions: shorter vectors, for models that declare Matryoshka sizes.
            force_dimensions: cut although the model does not declare it.
            space: the exact space, instead of asking the workers for it.
            distance: how Qdrant compares vectors.
            text_key: payload key that holds the text.
            chunking: policy for long texts.
            instructions: registered instructions.
            wait_s: how long to wait for a worker to announce the model.

        Raises:
            SpaceMismatch: it exists with another space.
            NoWorker: no worker has announced this model.
            DimensionsNotSupported: the model has not declared this size.
        """
        self._check_server()
        wanted = space or served(self._parts.ledger, self._parts.settings, model, wait_s).space(
            dimensions, force=force_dimensions
        )
        try:
            spec = CollectionSpec(
                name=name,
                space=wanted,
                distance=Distance(distance),
                text_key=text_key,
                chunking=chunking or Chunking(),
                instructions=tuple(instructions),
            )
        except ValidationError as error:
            raise InvalidInput(f"collection: {explain(error)}") from error
        return self.collections.create(spec)

    def _check_server(self) -> None:
        if not self._server_checked:
            require_server(self._parts.store)
            self._server_checked = True

    # writing

    def enqueue(
        self,
        collection: str,
        documents: Iterable[Document | Rejection | Mapping[str, Any]],
        *,
        on_rejected: Literal["raise", "report"] = "raise",
        block: bool = True,
        timeout_s: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Job:
        """Hand documents over; they are embedded and stored by the workers.

        Args:
            collection: an existing collection.
            documents: any iterable, consumed as the queue takes it: documents, mappings with the same fields, or
                rejections of a reader, which are passed on.
            on_rejected: `raise` DocumentsRejected at the end, or only `report` them on the job. Either way every
                valid document is accepted.
            block: wait while the queue is above its high-water mark; otherwise raise QueueFull.
            timeout_s: longest wait at a full queue.
            progress: called with the number of documents accepted so far.

        Returns:
            A handle: `job.wait()`, `job.report()`. If the iterable itself raises, or on Ctrl-C, what was accepted
            stays accepted; the same call again skips what is unchanged.

        Raises:
            DocumentsRejected: some documents were invalid; all others are on their way (`error.job`).
            CollectionNotFound, QueueFull, BrokerUnavailable, StoreUnavailable.
        """
        rejections: list[Rejection] = []

        def valid() -> Iterator[Document]:
            for item in parse(documents):
                if isinstance(item, Rejection):
                    rejections.append(item)
                else:
                    yield item

        job = self._feed(collection, valid(), rejections, block=block, timeout_s=timeout_s, progress=progress)
        if rejections and on_rejected == "raise":
            raise DocumentsRejected(job, rejections)
        return job

    def delete(
        self,
        collection: str,
        ids: Iterable[str],
        *,
        tenant: str | None = None,
        version: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Job:
        """Delete documents by id, on the same path as writes: late older work will not revive them.

        Args:
            collection: an existing collection.
            ids: document ids.
            tenant: whose documents.
            version: deletes everything up to and including it. None means now; pass it if your documents carry
                versions of their own, else later writes with lower numbers stay refused while the deletion is
                remembered.
            progress: called with the number of deletions accepted so far.
        """
        try:
            deletions = (Deletion(id=document_id, tenant=tenant, version=version) for document_id in ids)
            return self._feed(collection, deletions, [], progress=progress)
        except ValidationError as error:
            raise InvalidInput(f"delete: {explain(error)}") from error

    def delete_where(self, collection: str, where: Where, *, tenant: str | None = None) -> Job:
        """Delete every document that matches now, in the version that matches; what was or will be written later stays.

        An empty filter is refused: delete the collection instead.
        """
        conditions = compile_filter(where, tenant)
        if conditions is None:
            raise InvalidInput("where: expected at least one condition; to delete everything, delete the collection")
        return self._feed(collection, self._matching(collection, conditions), [])

    def delete_job(self, collection: str, job_id: str) -> Job:
        """Delete every document that this job was the last to write."""
        return self.delete_where(collection, {JOB_PATH: job_id})

    def _matching(self, collection: str, conditions: models.Filter) -> Iterator[Deletion]:
        # By chunk 0 alone, so that each document comes once. Deleting behind the scroll does not disturb it: pages go by id.
        first_chunk = models.FieldCondition(key=CHUNK_PATH, match=models.MatchValue(value=0))
        for page in scroll(self._parts.store, collection, models.Filter(must=[conditions, first_chunk])):
            for seen in page:
                if seen.system is not None:
                    yield Deletion(id=seen.system.id, tenant=seen.system.tenant, version=seen.system.version)

    def _feed(self, collection: str, items: Iterable[Any], rejections: list[Rejection], **how: Any) -> Job:
        self._check_server()
        spec = self.collections.get(collection)
        job_id = new_job_id()
        try:
            ticket = self._parts.ledger.open_job(collection, job_id)
            self._producer.feed(spec, ticket, items, **how)
        finally:
            # Also on errors of the caller's own iterable and on Ctrl-C, be it while the answer to `open_job` is on its
            # way: a job that nobody closes never ends.
            self._parts.ledger.close_job(job_id, rejected=len(rejections))
        return Job(self._parts.ledger, job_id, rejections)

    # searching

    def search(
        self,
        collection: str,
        query: str,
        *,
        instruction: str | None = None,
        where: Where | None = None,
        tenant: str | None = None,
        limit: int = 10,
        offset: int = 0,
        score_threshold: float | None = None,
        group_by_document: bool = False,
    ) -> list[SearchHit]:
        """Search a collection.

        Args:
            collection: its name.
            query: what is looked for.
            instruction: what the search is for: free text, or the name of a registered one (`faq`, `faq@2`).
                Goes through the model's own template. None takes the model's default.
            where: `{"lang": "zh", "year": {"gte": 2020}}` or a Qdrant filter.
            tenant: only this tenant's documents.
            limit: most hits.
            offset: hits to pass over first.
            score_threshold: hits below it are left out.
            group_by_document: at most one hit per document, its best chunk.

        Returns:
            Hits, best first; an empty list where nothing matches.

        Raises:
            InvalidInput: an argument is wrong; the message names it.
            CollectionNotFound, NoWorker, WaitTimeout, StoreUnavailable, BrokerUnavailable.
        """
        return self._searcher.search(
            collection,
            query,
            instruction=instruction,
            where=where,
            tenant=tenant,
            limit=limit,
            offset=offset,
            score_threshold=score_threshold,
            group_by_document=group_by_document,
        )
