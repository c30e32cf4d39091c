"""The client: everything an application does with Gristmill.

>>> client = Client()                                    # GRISTMILL_* variables; Client.embedded() needs no servers
>>> client.create_collection("faq", model="Qwen/Qwen3-Embedding-0.6B")
>>> client.enqueue("faq", [Document(id="42", text="…")]).wait().raise_for_failures()
>>> client.search("faq", "用了优惠券但没减钱", instruction="Given a complaint, find the FAQ entry that solves it")

What reads and writes documents is on the client itself; `client.collections`, `indexes`, `instructions`, `jobs`, `dead`,
`refused`, `webhooks`, `tenants` and `models` each `list`, `get` and do what can be done with one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Unpack, overload

import numpy as np
import numpy.typing as npt
from qdrant_client import models

from gristmill.arguments import (
    callback,
    flag,
    identifier,
    integer,
    is_one_id,
    number,
    one_of,
    one_or_many,
    one_or_many_ids,
    seconds,
    tenant_name,
)
from gristmill.backends import Parts, open_parts
from gristmill.habits import answers_habits
from gristmill.ingest.agreement import asked_for, settle
from gristmill.ingest.estimating.estimates import Estimates
from gristmill.ingest.intake import Intake
from gristmill.ingest.jobs import Job, Jobs
from gristmill.ingest.metadata import changed, check_changes
from gristmill.ingest.notify import asked_url, require_sender
from gristmill.ingest.packing import parse
from gristmill.ingest.producer import Producer
from gristmill.ingest.queue import queue_report
from gristmill.maintenance.audit import Auditor
from gristmill.maintenance.bulk_loads import PROMISE_S, BulkDesk, paused
from gristmill.maintenance.collection_group import CollectionGroup
from gristmill.maintenance.dead_letters import DeadLetters, RefusedMessages
from gristmill.maintenance.erasing import Eraser
from gristmill.maintenance.index_group import IndexGroup
from gristmill.maintenance.receipts import find_receipt
from gristmill.maintenance.tenants import TenantGroup
from gristmill.maintenance.webhooks import WebhookGroup
from gristmill.models import Models
from gristmill.options import ClientOptions, EmbeddedOptions, check_names, names_of, takes
from gristmill.search.browsing import Browser
from gristmill.search.clustering import Clusterer
from gristmill.search.clustering.clusterer import Progress, asked_groups
from gristmill.search.embedding import Embedder, Kind
from gristmill.search.filters import Where, compile_filter
from gristmill.search.instructions import Cautions, InstructionGroup
from gristmill.search.lenses import Lenses, asked_lenses, check_lenses, check_queries
from gristmill.search.options import DEFAULTS, RecommendOptions, SearchOptions, SimilarOptions
from gristmill.search.remembered_vectors import QueryCacheInfo
from gristmill.search.reranking import Reranking
from gristmill.search.searcher import Searcher
from gristmill.search.unindexed import Unindexed
from gristmill.search.unmatched import Unmatched
from gristmill.settings import ClientSettings, combine
from gristmill.store.collections import check_space
from gristmill.store.connection import require_server
from gristmill.store.documents import count, fetch, first_chunks
from gristmill.store.indexes import asked_indexes
from gristmill.store.layout import asked_layout
from gristmill.store.points import scroll as scroll_points
from gristmill.store.tenancy import require_tenant
from gristmill.tenants.confining import Confined, confined, confined_job, passed
from gristmill.tenants.groups import TenantDeadLetters, TenantInstructions, TenantJobs
from gristmill_schemas import (
    AuditReport,
    Chunking,
    Clustering,
    CollectionSpec,
    Deletion,
    Distance,
    Document,
    DocumentPage,
    Erasure,
    Estimate,
    Facet,
    Hits,
    IndexStatus,
    Instruction,
    Priority,
    QueueReport,
    Receipt,
    Rejection,
    RerankResult,
    StoredDocument,
    Strategy,
    VectorSpace,
)
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.point import JOB_PATH
from gristmill_schemas.redaction import redact

#: What a recommendation takes: ids of documents, texts, or several of these.
Examples = str | Mapping[str, str] | Iterable[str | Mapping[str, str]]
#: What `enqueue` and `audit` take one by one.
Item = Document | Rejection | Mapping[str, Any]

_DOCUMENTS = "a Document, a mapping with its fields, or an iterable of them"


@answers_habits
class Client:
    """Enqueue, search and manage. Safe to share between threads; open it once per process, after forking.

    Attributes:
        collections: Qdrant's collections that Gristmill made: `list`, `get`, `count`, `delete`.
        indexes: over fields of the metadata, which filters use: `create`, `list`, `get`, `drop`.
        instructions: what searches are for, by name and version: `register`, `list`, `show`, `retire`, `presets`.
        jobs: what was handed over, by any process: `list`, `get`.
        dead: documents that could not be stored: `summary`, `list`, `scroll`, `get`, `replay`, `drop`.
        refused: broker messages that were none of ours: `list`, `get`, `drop`, `unreadable`.
        webhooks: of jobs that are done, not delivered yet or given up: `list`, `get`, `resend`, `drop`.
        tenants: how much each has waiting, and how much it may: `list`, `get`, `limit`, `unlimit`.
        models: what workers serve: `list`, `get`.
    """

    @takes(ClientOptions)
    def __init__(self, settings: ClientSettings | None = None, **options: Unpack[ClientOptions]) -> None:
        """Open a client. Servers are first spoken to when first needed.

        Args:
            settings: ready-made settings; None reads `GRISTMILL_*` variables and `.env`.
            options: single settings by name, such as `redis_url=...`; they win over `settings`. None means not given.

        Raises:
            InvalidInput: a setting is wrong; the message names it.
            TypeError: there is no setting of this name.
        """
        check_names("Client()", options, names_of(ClientOptions))
        self._start(open_parts(combine(settings, options), options))

    @classmethod
    @takes(EmbeddedOptions)
    def embedded(
        cls,
        path: str | os.PathLike[str] = ":memory:",
        *,
        progress: bool | None = None,
        **options: Unpack[EmbeddedOptions],
    ) -> Client:
        """The whole of Gristmill in this process, without any server: for notebooks, demos and tests.

        Args:
            path: folder that keeps the vectors, `:memory:`, or the URL of a Qdrant server.
            progress: show on stderr what is being done until the model is ready, which may take a minute; None shows it
                on a terminal and in a notebook. Either way it is logged, at level INFO.
            options: any other setting, the worker's included; `model=` is a folder or hub id, by default GRISTMILL_MODEL.

        Raises:
            InvalidInput: a setting is wrong; the message names it.
            ModelUnavailable: there is no such model, or it cannot be fetched.
            StoreUnavailable: another process has the folder open.
            NotInstalled: a package that the worker needs is missing, too old or broken.
            TypeError: there is no setting of this name.
        """
        check_names(f"{cls.__name__}.embedded()", options, ("path", *names_of(EmbeddedOptions)))
        place: dict[str, Any] = {"embedded_path": os.fspath(path) if isinstance(path, os.PathLike) else path}
        client = cls.__new__(cls)
        asked = place | dict(options)
        client._start(open_parts(combine(None, asked), asked, None if progress is None else flag("progress", progress)))
        return client

    def _start(self, opened: Parts) -> None:
        self._parts = parts = opened.until_closed()
        lives_on = parts.settings.embedded_path is None
        # Of the parts as they were opened, since what is held ends when all else is closed.
        self._bulk = BulkDesk(opened.store, opened.ledger, opened.evidence, local=parts.local, lives_on=lives_on)
        self._server_checked = parts.local
        self._collections = parts.collections
        self.collections = CollectionGroup(self._collections, self._bulk)
        self.indexes = IndexGroup(parts.store, self._collections, local=parts.local)
        self.models = Models(parts.ledger, parts.settings)
        self.jobs = Jobs(parts.ledger, parts.dispatcher.publish)
        producer = Producer(parts.ledger, parts.dispatcher, parts.high_water)
        self._intake = Intake(parts.ledger, producer, self._collections, self._check_server, lives_on)
        self.dead = DeadLetters(parts.ledger, parts.evidence, self._intake, parts.settings.dead_max_bytes)
        self._estimates = Estimates(
            parts.settings, parts.ledger, parts.store, self._collections, self.models, local=parts.local
        )
        self.refused = RefusedMessages(parts.evidence)
        self.webhooks = WebhookGroup(parts.ledger)
        self.tenants = TenantGroup(parts.ledger, parts.high_water.tenant)
        self._unmatched = Unmatched(parts.store, self._collections)
        self._unindexed = Unindexed(parts.store, local=parts.local)
        self._browser = Browser(parts.store, self._collections, self._unmatched, self._unindexed, local=parts.local)
        self._clusterer = Clusterer(parts.store, self._collections, self._unmatched, self._unindexed, self._intake)
        self._cautions = cautions = Cautions()
        self._reranking = Reranking(self.models, parts.scorer)
        self._searcher = Searcher(
            parts.store,
            self._collections,
            parts.queries,
            self._reranking,
            self._unmatched,
            self._unindexed,
            cautions,
        )
        self._embedder = Embedder(self._collections, self.models, parts.queries, cautions)
        self.instructions = InstructionGroup(self._collections, lambda spec: self._searcher.forget(spec.physical))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        settings = self._parts.settings
        closed = ", closed" if self._parts.closed.is_set() else ""
        if settings.embedded_path is not None:
            return f"<Client embedded in {redact(settings.embedded_path)!r}, model {settings.model!r}{closed}>"
        redis, qdrant = redact(settings.redis_url), redact(settings.qdrant_url)
        return f"<Client of {redis} and {qdrant}, key prefix {settings.key_prefix!r}{closed}>"

    def close(self) -> None:
        """Give all connections back; whatever is called afterwards raises InvalidInput.

        Embedded mode forgets what is not stored yet: `job.wait()` first.
        """
        if not self._parts.closed.is_set():
            self._bulk.close()
        self._parts.close()

    def _check_server(self) -> None:
        if not self._server_checked:
            require_server(self._parts.store)
            self._server_checked = True

    def tenant(self, name: str) -> TenantClient:
        """A client of one tenant: the same calls, and no way to another's documents.

        It uses this client's connections, so it costs nothing, and ends with this client.

        Args:
            name: whose.

        Raises:
            InvalidInput: it is no name.
        """
        return TenantClient(self, identifier("tenant", name))

    def queue(self, *, tenant: str | None = None) -> QueueReport:
        """What waits, for which model and for whom, since when, how long it will take, and whether anyone serves it.

        Args:
            tenant: whose jobs; others, and how much waits beside them, are not told then.

        Returns:
            Every model that has work, or a worker; those with the most work first. Tokens are an estimate; seconds are by
            what the model's workers have measured, and None before the first has.

        Raises:
            InvalidInput: the tenant is no name.
            BrokerUnavailable, BrokerRefused.
        """
        return queue_report(self._parts.ledger, tenant_name(tenant))

    def erase_tenant(self, collection: str, tenant: str, *, wait_s: float = 30.0) -> Erasure:
        """Erase a tenant from a collection: points, what is on its way, dead letters, roster, tombstones, notes of workers.

        Nothing has to stop for it. What workers have in hand is taken from them, and what they were writing is taken back;
        documents of other tenants go their way. What is enqueued for the tenant afterwards is stored as ever; what is
        enqueued while this runs may be erased or may stay, and the proof says so.

        Args:
            collection: an existing collection.
            tenant: whose everything goes.
            wait_s: longest wait for workers that were writing.

        Returns:
            The proof: what was found, erased and is left in each place, by a last look. `confirm_erased` looks again.

        Raises:
            InvalidInput: an argument is wrong.
            CollectionNotFound, StoreUnavailable, StoreRefused, BrokerUnavailable, BrokerRefused: call it again
                then: it goes on where it was.
        """
        return paused(self._erasing(collection, tenant, wait_s))

    def _erasing(self, collection: str, tenant: str, wait_s: float) -> Generator[float, None, Erasure]:
        longest = number("wait_s", wait_s, 0)
        return (yield from self._eraser(collection, tenant).run(longest))

    def confirm_erased(self, collection: str, tenant: str) -> Erasure:
        """Look for a tenant in a collection, everywhere that `erase_tenant` looks; nothing is changed.

        Raises:
            InvalidInput: an argument is wrong.
            CollectionNotFound, StoreUnavailable, StoreRefused, BrokerUnavailable, BrokerRefused.
        """
        return self._eraser(collection, tenant).look()

    def _eraser(self, collection: str, tenant: str) -> Eraser:
        parts, owner = self._parts, identifier("tenant", tenant)
        spec = self._collections.get(identifier("collection", collection))
        names = self._collections.names_of(spec)
        return Eraser(parts.store, parts.ledger, parts.evidence, parts.dispatcher.publish, spec, names, owner)

    def create_collection(
        self,
        name: str,
        model: str | None = None,
        *,
        dimensions: int | None = None,
        force_dimensions: bool = False,
        space: VectorSpace | None = None,
        distance: Distance | str | None = None,
        text_key: str | None = None,
        chunking: Chunking | Mapping[str, Any] | None = None,
        instructions: Iterable[Instruction | Mapping[str, Any]] | Instruction | None = None,
        keyword: bool | None = None,
        tenants: bool | None = None,
        lenses: Lenses | None = None,
        indexes: Mapping[str, Any] | None = None,
        quantization: str | Mapping[str, Any] | models.QuantizationConfig | None = None,
        hnsw: Mapping[str, Any] | models.HnswConfigDiff | None = None,
        on_disk: bool | None = None,
        on_disk_payload: bool | None = None,
        shards: int | None = None,
        replicas: int | None = None,
        write_consistency: int | None = None,
        bulk: bool = False,
        update: bool = False,
        wait_s: float = 30.0,
    ) -> CollectionSpec:
        """Create a collection for a model. One that is there already is returned, if it is as asked for.

        Args:
            name: Qdrant's name of the collection.
            model: what a running worker was started with; None takes GRISTMILL_MODEL, or where that is not set, the
                one model that is being served.
            dimensions: shorter vectors, for models that declare Matryoshka sizes.
            force_dimensions: cut although the model does not declare it.
            space: the exact space, instead of asking the workers for it.
            distance: how Qdrant compares vectors: `cosine`, `dot` or `euclid`; None takes what the model was made for, in a
                new collection: `cosine` for most.
            text_key: payload key that holds the text; `text` in new collections.
            chunking: policy for long texts: how large chunks are, where they end and what stands above each, such as
                `Chunking(by="markdown", context="headings")`; `docs/explanation/chunking.md`. What is not given of it
                stays as it is in a collection that is there.
            instructions: registered instructions, one or many; `client.instructions` says the rest.
            keyword: whether texts can be searched for their words, too (`mode="keyword"`, `"hybrid"`), weighed by BM25 in
                any language, Chinese included. None is yes in a new collection. Fixed at creation.
            tenants: whether it keeps tenants apart: every document needs a tenant, and so does every call that reads or
                changes documents; `client.tenant("acme")` fixes it. The graph is one per tenant then (`m=0`,
                `payload_m=16`), unless `hnsw` says otherwise. None is no in a new collection. Fixed at creation.
            lenses: further vectors of every text, each under a document instruction of its own, for `search(…, lens=…)`:
                `{"legal": "Given a contract, …"}`, or `{"legal": {"document": "…", "query": "…"}}` with the instruction
                that its queries have unless they bring one; `docs/explanation/lenses.md`. Each costs as much as the first
                vector. Fixed at creation, but for the queries' instruction.
            indexes: over fields of the metadata that searches filter by, `{"lang": "keyword", "year": "integer"}`; see
                `client.indexes.create`. In an existing collection those that are missing are made.
            quantization: smaller vectors to search by, beside the whole ones: `int8`, `binary`, `1.5bit`, `2bit`, `product`,
                or qdrant's own models for options.
            hnsw: the graph: `{"m": 32, "ef_construct": 200}`.
            on_disk: vectors stay on disk, and come into memory as they are needed.
            on_disk_payload: texts and metadata likewise.
            shards: parts of a collection on a cluster.
            replicas: copies of each part, on as many machines; `docs/howto/servers.md` says what that costs.
            write_consistency: copies that must have a write before it counts; at most `replicas`.
            bulk: put its index off while much is loaded, which makes that many times cheaper. It is off until
                `finish_bulk`, or until this client is closed and what is on its way is stored; see `bulk`.
            update: give an existing collection this chunking, these instructions and the lenses' instructions of queries,
                instead of raising. Chunking is for
                documents that are written from now on; those that are there, and unchanged, stay as they are. An
                instruction with another text becomes a new version of its name; what is registered stays.
            wait_s: how long to wait for a worker to announce the model.

        Returns:
            The collection's description. Settings that are left out are not compared with those of an existing one.

        Raises:
            SpaceMismatch: it exists with another space.
            CollectionConflict: it exists with other settings; the message says both.
            NoWorker: no worker has announced this model.
            DimensionsNotSupported: the model has not declared this size.
            InvalidInput, StoreUnavailable, StoreRefused, BrokerUnavailable, ServerTooOld.
        """
        name = identifier("name", name)
        flag("update", update), flag("bulk", bulk)
        layout = asked_layout(
            quantization=quantization,
            hnsw=hnsw,
            on_disk=on_disk,
            on_disk_payload=on_disk_payload,
            shards=shards,
            replicas=replicas,
            write_consistency=write_consistency,
        )
        over, views = asked_indexes({} if indexes is None else indexes), asked_lenses(lenses)
        asked = asked_for(distance, text_key, chunking, instructions, keyword, tenants, views)
        self._check_server()
        wanted, compared = self._space(space, model, dimensions, force_dimensions, wait_s)
        spec = CollectionSpec(name=name, space=wanted, **{"distance": compared, "keyword": True, **asked})
        check_lenses(spec, self._cautions)
        check_queries(spec, self._collections)
        there = self._collections.create(spec, layout)
        check_space(there, wanted)
        settled = settle(self._collections, name, there, asked, update=update)
        self._searcher.forget(name)
        self.indexes._create(settled, over)
        if bulk:
            self._bulk.begin(settled)
        elif settled.bulk_since is not None:
            self._bulk.settle(settled)
        return self._collections.get(name) if bulk or settled.bulk_since is not None else settled

    @contextmanager
    def bulk(self, collection: str) -> Iterator[CollectionSpec]:
        """Put a collection's index (HNSW) off for the time of a `with` block, and build it once at the end.

        Building it while writing costs twenty times the writing itself. What is indexed already stays so; what is written
        meanwhile is found by reading all of it, which is right and slow. However the block ends, the settings that were
        there before are restored, by the last who loads the collection: at once, or, while documents of it are still on
        their way, by a worker when they are stored. After a kill a worker notices within a minute, or the next audit does.

        Args:
            collection: an existing collection.

        Raises:
            InvalidInput: an argument is wrong.
            CollectionNotFound, StoreUnavailable, StoreRefused, BrokerUnavailable.
        """
        spec = self._collections.get(identifier("collection", collection))
        with self._bulk.load(spec):
            yield spec

    def begin_bulk(self, collection: str, *, for_s: float = PROMISE_S) -> CollectionSpec:
        """Put a collection's index off for a time, whatever becomes of this process: for loads from several places.

        Args:
            collection: an existing collection.
            for_s: for how long at most; longer while its documents are on their way. `finish_bulk` ends it before.

        Raises:
            InvalidInput: an argument is wrong.
            CollectionNotFound, StoreUnavailable, StoreRefused, BrokerUnavailable.
        """
        name, promise_s = identifier("collection", collection), number("for_s", for_s, 1)
        self._bulk.begin(self._collections.get(name), promise_s)
        return self._collections.get(name)

    def finish_bulk(
        self,
        collection: str,
        *,
        wait: bool = True,
        force: bool = False,
        timeout_s: float | None = None,
        progress: Callable[[IndexStatus], None] | None = None,
    ) -> IndexStatus:
        """Switch a collection's index on again after a bulk load; harmless where there was none.

        Args:
            collection: an existing collection.
            wait: until Qdrant has built it.
            force: although others, in other processes, are still loading.
            timeout_s: longest wait.
            progress: called with every status that is looked at.

        Returns:
            How far the index is.

        Raises:
            CollectionConflict: others are still loading; the message says who.
            WaitTimeout: the time is over; Qdrant goes on building.
            InvalidInput: an argument is wrong.
            CollectionNotFound, StoreUnavailable, StoreRefused, BrokerUnavailable.
        """
        return paused(self._finishing(collection, wait, force, timeout_s, progress))

    def _finishing(
        self,
        collection: str,
        wait: bool,
        force: bool,
        timeout_s: float | None,
        progress: Callable[[IndexStatus], None] | None,
    ) -> Generator[float, None, IndexStatus]:
        flag("wait", wait), flag("force", force)
        spec = self._collections.get(identifier("collection", collection))
        self._bulk.finish(spec, force=force)
        if not wait:
            return self._bulk.status(spec)[0]
        return (yield from self._bulk.looks(spec, timeout_s, progress))

    def _space(
        self, space: VectorSpace | None, model: str | None, dimensions: int | None, force: bool, wait_s: float
    ) -> tuple[VectorSpace, Distance]:
        """The space of a new collection, and how vectors of its model are compared."""
        if space is None:
            size = None if dimensions is None else integer("dimensions", dimensions, 1)
            info = self.models.served(model, wait_s)
            return info.space(size, force=flag("force_dimensions", force)), info.distance
        if not isinstance(space, VectorSpace):
            raise InvalidInput(f"space: expected a VectorSpace, got {type(space).__name__}", field="space")
        return space, Distance.COSINE

    def enqueue(
        self,
        collection: str,
        documents: Item | Iterable[Item],
        *,
        tenant: str | None = None,
        block: bool = True,
        timeout_s: float | None = None,
        progress: Callable[[int], None] | None = None,
        notify: str | None = None,
        priority: Priority | str = Priority.NORMAL,
    ) -> Job:
        """Hand documents over; they are embedded and stored by the workers.

        Args:
            collection: an existing collection.
            documents: one document or any iterable, consumed as the queue takes it: documents, mappings with the same
                fields, or rejections of a reader, which are passed on.
            tenant: whose they are: given to those that name none; those of another are refused.
            block: wait while the queue is above its high-water mark, or a tenant has as much waiting as it may
                (docs/explanation/fairness.md); otherwise raise QueueFull.
            timeout_s: longest wait at a full queue.
            progress: called with the number of documents accepted so far.
            notify: URL that a worker tells, by a signed webhook, that the job is done; docs/howto/webhooks.md.
            priority: `high`, `normal` or `low`, beside other jobs that wait for the same model: while all three wait, each
                four times what the next is given; docs/explanation/fairness.md.

        Returns:
            A handle: `job.wait()`, `job.report()`. What is no valid document costs its neighbours nothing: it is among
            `job.rejections`, counted in the report, and `job.wait().raise_for_failures()` makes an error of it. If the
            iterable itself raises, or on Ctrl-C, what was accepted stays accepted; the same call again skips what is
            unchanged.

        Raises:
            InvalidInput: an argument is wrong, or the collection was not made by Gristmill.
            CollectionNotFound, QueueFull, BrokerUnavailable, BrokerRefused, StoreUnavailable, StoreRefused, ServerTooOld.
        """
        many = one_or_many("documents", documents, (Document, Rejection, Mapping), _DOCUMENTS)
        how: dict[str, Any] = {"block": flag("block", block), "timeout_s": seconds("timeout_s", timeout_s)}
        how |= {"tenant": (owner := tenant_name(tenant)), "priority": one_of("priority", priority, Priority)}
        return self._take(collection, lambda _: parse(many, owner), progress, notify, **how)

    def estimate(
        self,
        collection: str,
        documents: Item | Iterable[Item],
        *,
        tenant: str | None = None,
        model: str | None = None,
        chunking: Chunking | Mapping[str, Any] | None = None,
        lenses: Lenses | None = None,
        keyword: bool | None = None,
        tokens_per_s: float | None = None,
        measure: bool | None = None,
        progress: Callable[[Estimate], None] | None = None,
    ) -> Estimate:
        """What `enqueue` would make of these documents: how many, tokens, chunks, seconds, bytes. Nothing is written.

        What is counted is what the job's report would say, by the workers' own code, which needs the extra `worker` on this
        machine and the model's tokenizer, none of its weights. Without, tokens are estimated, and `inexact` says why.

        Args:
            collection: an existing collection, or the name of one to be.
            documents: as for `enqueue`; consumed, never held whole.
            tenant: as for `enqueue`.
            model: of a collection that does not exist; else, if given, what it must be.
            chunking: likewise.
            lenses: likewise.
            keyword: likewise.
            tokens_per_s: of all workers together, instead of what living workers say or finished jobs have reached.
            measure: have a living worker encode a sample of the documents, for some seconds, and store nothing: nothing else
                knows how fast texts of this length are. None does where one is alive and no rate is given; True insists.
            progress: called with the estimate so far.

        Raises:
            NoWorker: the collection does not exist, and no worker has announced the model, nor is it on this machine; or
                `measure`, and nobody serves it.
            CollectionConflict: the collection exists, and otherwise than asked for.
            WaitTimeout: `measure`, and its workers do not answer in time.
            InvalidInput, StoreUnavailable, StoreRefused, BrokerUnavailable, BrokerRefused, ServerTooOld.
        """
        many, owner = (
            one_or_many("documents", documents, (Document, Rejection, Mapping), _DOCUMENTS),
            tenant_name(tenant),
        )
        if measure is not None and flag("measure", measure) and tokens_per_s is not None:
            raise InvalidInput("tokens_per_s: expected it or measure, got both", field="tokens_per_s")
        given = None if tokens_per_s is None else number("tokens_per_s", tokens_per_s, 1e-9)
        asked = asked_for(None, None, chunking, None, keyword, None, asked_lenses(lenses))
        estimator = self._estimates.open(identifier("collection", collection), model, asked, given, measure=measure)
        return estimator.run(
            parse(many, owner), callback("progress", progress), partial(self._parts.queries.encode, bulk=True)
        )

    def _take(
        self,
        collection: str,
        items: Callable[[CollectionSpec], Iterable[Any]],
        progress: Callable[[int], None] | None = None,
        notify: str | None = None,
        **how: Any,
    ) -> Job:
        name, told = identifier("collection", collection), callback("progress", progress)
        if (url := asked_url(notify)) is not None:
            require_sender(url, self._parts.ledger.workers().values())
        return self._intake.take(name, items, progress=told, notify=url, **how)

    def update_metadata(
        self,
        collection: str,
        ids: str | Iterable[str],
        changes: Mapping[str, Any],
        *,
        tenant: str | None = None,
        progress: Callable[[int], None] | None = None,
        notify: str | None = None,
    ) -> Job:
        """Change the metadata of stored documents. Texts and vectors stay; nothing is encoded.

        Optimistic: a document held at version v gets its new metadata at version v + 1. A newer text that is on its way
        wins, older work that is late loses, and of two changes at once the later is counted as `superseded`: look at the
        report, and change again. Where your documents carry consecutive versions of your own, enqueue them with their
        new metadata instead, since v + 1 would then be taken.

        Args:
            collection: an existing collection.
            ids: one id or many.
            changes: laid over the metadata at its top level; None removes a key.
            tenant: whose documents.
            progress: called with the number of documents accepted so far.
            notify: as in `enqueue`.

        Returns:
            A handle. Ids that Qdrant does not hold are among its rejections.

        Raises:
            InvalidInput: an argument is wrong, or `changes` touches the text.
            CollectionNotFound, BrokerUnavailable, BrokerRefused, StoreUnavailable, StoreRefused, ServerTooOld.
        """
        wanted, owner = one_or_many_ids("ids", ids), tenant_name(tenant)

        def documents(spec: CollectionSpec) -> Iterator[Document | Rejection]:
            require_tenant(spec, owner)
            return parse(changed(self._parts.store, spec, wanted, owner, check_changes(spec, changes)))

        return self._take(collection, documents, progress, notify, tenant=owner)

    def delete(
        self,
        collection: str,
        ids: str | Iterable[str],
        *,
        tenant: str | None = None,
        version: int | None = None,
        progress: Callable[[int], None] | None = None,
        notify: str | None = None,
    ) -> Job:
        """Delete documents by id, on the same path as writes: late older work will not revive them.

        Args:
            collection: an existing collection.
            ids: one id or many.
            tenant: whose documents.
            version: deletes everything up to and including it. None means now; pass it if your documents carry
                versions of their own, else later writes with lower numbers stay refused while the deletion is
                remembered.
            progress: called with the number of deletions accepted so far.
            notify: as in `enqueue`.

        Returns:
            A handle: `job.wait()`, `job.report()`.

        Raises:
            InvalidInput: an argument is wrong. Of many ids, those before a wrong one stay accepted.
            CollectionNotFound, BrokerUnavailable, BrokerRefused, StoreUnavailable, StoreRefused, ServerTooOld.
        """
        wanted, owner = one_or_many_ids("ids", ids), tenant_name(tenant)
        through = None if version is None else integer("version", version, 0, 2**53 - 1)

        def deletions(spec: CollectionSpec) -> Iterator[Deletion]:
            require_tenant(spec, owner)
            return (Deletion(id=each, tenant=owner, version=through) for each in wanted)

        return self._take(collection, deletions, progress, notify, tenant=owner)

    def delete_where(
        self,
        collection: str,
        where: Where | None = None,
        *,
        tenant: str | None = None,
        job: str | None = None,
        notify: str | None = None,
    ) -> Job:
        """Delete every document that matches now, at the version that matched: newer ones, on their way or not, stay.

        Args:
            collection: an existing collection.
            where: `{"lang": "zh", "year": {"gte": 2020}}`; all of it in `search`.
            tenant: only this tenant's documents.
            job: only documents that this job, by its id, was the last to write.
            notify: as in `enqueue`.

        Returns:
            A handle: `job.wait()`, `job.report()`.

        Raises:
            InvalidInput: an argument is wrong, or there is no condition: to delete everything, delete the collection.
            CollectionNotFound, BrokerUnavailable, BrokerRefused, StoreUnavailable, StoreRefused, ServerTooOld.
        """
        owner = tenant_name(tenant)
        conditions = compile_filter(where, owner)
        if job is not None:
            written = models.FieldCondition(key=JOB_PATH, match=models.MatchValue(value=identifier("job", job)))
            conditions = models.Filter(must=[written, conditions] if conditions else [written])
        if conditions is None:
            raise InvalidInput(
                "where: expected at least one condition, got none; to delete everything, delete the collection",
                field="where",
            )

        def deletions(spec: CollectionSpec) -> Iterator[Deletion]:
            require_tenant(spec, owner)
            return deleting(spec)

        def deleting(spec: CollectionSpec) -> Iterator[Deletion]:
            found = self._matching(spec, conditions)
            with self._unindexed.watch(spec.name, conditions):
                first = next(found, None)
            if first is None:
                return self._unmatched.tell(spec.name, where, owner)
            yield first
            yield from found

        return self._take(collection, deletions, notify=notify, tenant=owner)

    def _matching(self, spec: CollectionSpec, conditions: models.Filter) -> Iterator[Deletion]:
        # Each document once. Deleting behind the scroll does not disturb it: pages go by id.
        for page in scroll_points(self._parts.store, spec.name, first_chunks(conditions)):
            for seen in page:
                if seen.system is not None:
                    yield Deletion(id=seen.system.id, tenant=seen.system.tenant, version=seen.system.version)

    @overload
    def get(  # type: ignore[overload-overlap]  # a string is an iterable of strings, and meant as one id
        self, collection: str, ids: str, *, tenant: str | None = None
    ) -> StoredDocument | None: ...
    @overload
    def get(self, collection: str, ids: Iterable[str], *, tenant: str | None = None) -> list[StoredDocument]: ...
    def get(
        self, collection: str, ids: str | Iterable[str], *, tenant: str | None = None
    ) -> StoredDocument | list[StoredDocument] | None:
        """Documents as Qdrant holds them now, whole: put together from their chunks.

        Args:
            collection: an existing collection.
            ids: one id or many.
            tenant: whose documents.

        Returns:
            For one id its document, or None where Qdrant does not hold it. For many a list in their order, in which those
            that Qdrant does not hold are absent; an empty list for none. What is still on its way is not there yet.

        Raises:
            InvalidInput: an argument is wrong.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        wanted, owner = list(one_or_many_ids("ids", ids)), tenant_name(tenant)
        spec = self._collections.get(identifier("collection", collection))
        require_tenant(spec, owner)
        found = fetch(self._parts.store, spec, wanted, owner)
        if is_one_id(ids):
            return found.get(wanted[0])
        return [found[each] for each in dict.fromkeys(wanted) if each in found]

    def count(self, collection: str, where: Where | None = None, *, tenant: str | None = None) -> int:
        """Documents in a collection, counted exactly; `client.collections.count` counts points, one per chunk.

        Args:
            collection: an existing collection.
            where: `{"lang": "zh", "year": {"gte": 2020}}`; all of it in `search`. None counts all.
            tenant: only this tenant's documents.

        Raises:
            InvalidInput: an argument is wrong.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        owner = tenant_name(tenant)
        conditions = compile_filter(where, owner)
        name = identifier("collection", collection)
        require_tenant(self._searcher.description(name), owner)
        with self._unindexed.watch(name, conditions):
            found = count(self._parts.store, name, conditions)
        if not found:
            self._unmatched.tell(name, where, owner)
        return found

    def scroll(
        self,
        collection: str,
        where: Where | None = None,
        *,
        tenant: str | None = None,
        limit: int = 100,
        order_by: str | None = None,
        cursor: str | None = None,
    ) -> DocumentPage:
        """One page of a collection's documents, whole; with its cursor the next, in this process or any other.

        Args:
            collection: an existing collection.
            where: `{"lang": "zh", "year": {"gte": 2020}}`; all of it in `search`.
            tenant: only this tenant's documents.
            limit: most documents of the page.
            order_by: a field of the metadata with an index of type integer, float or datetime, lowest values first; with a
                minus before it (`-year`) the highest. Documents without such a value come last; of a list the value that
                comes first counts. None orders by Qdrant's ids: a fixed order without a meaning.
            cursor: where the page before ended, `page.cursor`. None begins.

        Returns:
            The page: `page.documents`, and `page.cursor`, None at the end. Whatever is written meanwhile, a document that
            stays as it is comes on exactly one page.

        Raises:
            InvalidInput: an argument is wrong, or the field has no index that has an order.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        return self._browser.scroll(collection, where, tenant, limit, order_by, cursor)

    def documents(
        self,
        collection: str,
        where: Where | None = None,
        *,
        tenant: str | None = None,
        order_by: str | None = None,
    ) -> Iterator[StoredDocument]:
        """All documents of a collection, whole, one after the other: `for document in client.documents("faq")`.

        A hundred are in memory at a time. Whatever is written meanwhile, a document that stays as it is comes exactly once.
        To go on in another process there is `scroll`, with its cursor.

        Args:
            collection: an existing collection.
            where: `{"lang": "zh", "year": {"gte": 2020}}`; all of it in `search`.
            tenant: only this tenant's documents.
            order_by: as in `scroll`.

        Raises:
            InvalidInput: an argument is wrong, or the field has no index that has an order.
            CollectionNotFound, StoreUnavailable, StoreRefused: also while it goes on.
        """
        return self._browser.documents(collection, where, tenant, order_by)

    def facets(
        self,
        collection: str,
        field: str,
        where: Where | None = None,
        *,
        tenant: str | None = None,
        limit: int = 10,
    ) -> list[Facet]:
        """Which values a field of the metadata has, and how many documents have each, counted exactly.

        Args:
            collection: an existing collection.
            field: one with an index of type keyword, integer, bool or uuid. Each item of a list is a value.
            where: only documents that match; all of it in `search`.
            tenant: only this tenant's documents.
            limit: most values.

        Returns:
            Values with their counts, the most frequent first.

        Raises:
            InvalidInput: an argument is wrong, or the field has no such index.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        return self._browser.facets(collection, field, where, tenant, limit)

    def cluster(
        self,
        collection: str,
        k: int | None = None,
        *,
        threshold: float | None = None,
        where: Where | None = None,
        tenant: str | None = None,
        lens: str | None = None,
        min_size: int | None = None,
        representatives: int = 3,
        apply: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Clustering:
        """Group documents by their stored vectors: tickets that say the same. Nothing is encoded.

        A document counts once, by the mean of its chunks' vectors. The same documents give the same groups. All vectors are
        held in memory: four bytes a number, 400 MB for 100,000 documents of 1,024 numbers.

        Args:
            collection: an existing collection.
            k: so many groups, by K-means (extra `eval`).
            threshold: or as many as there are whose documents have at least this cosine to the one that their group is made
                around; what is like no other is in none. The densest come first, and no chain of small steps joins two.
            where: `{"lang": "zh", "year": {"gte": 2020}}`; all of it in `search`.
            tenant: only this tenant's documents.
            lens: compare under this lens.
            min_size: smaller groups are left out; None is 1 with `k`, 2 with `threshold`.
            representatives: so many documents of each group come with the beginnings of their texts.
            apply: a metadata field that each document's group number is written to, as `update_metadata` writes; it is
                taken away from documents in no group, and what is there already is not written again.
            dry_run: with `apply`: only count the documents that would change.
            progress: called with what is being done (`reading`, `comparing`, `writing`) and the number of documents so far.

        Returns:
            The groups, largest first, each with its documents, nearest to its centre first. `changes` and `job_id` say what
            `apply` has handed over: `client.jobs.get(found.job_id).wait()`.

        Raises:
            InvalidInput: an argument is wrong, there is nothing to group, or less than `k`.
            NotInstalled: scikit-learn is missing, for `k`.
            CollectionNotFound, StoreUnavailable, StoreRefused.
            BrokerUnavailable, BrokerRefused, ServerTooOld: with `apply`.
        """
        asked = asked_groups(k, threshold, min_size, representatives, apply, dry_run)
        return self._clusterer.cluster(collection, asked, where, tenant, lens, progress)

    @takes(SearchOptions, DEFAULTS)
    def search(self, collection: str, query: str, **options: Unpack[SearchOptions]) -> Hits:
        """Search a collection.

        Args:
            collection: its name.
            query: what is looked for; `search_many` takes a list.
            instruction: what the search is for: a sentence, the name of a registered one (`faq`, `faq@2`), or a preset
                (`preset:web`).
                Goes through the model's own template. None takes the model's default.
            lens: compare with the vectors of this lens, one of the collection's (`create_collection(…, lenses=…)`), under
                its queries' instruction, where it has one and none is given; in a hybrid search beside words. None are the
                vectors without a lens.
            where: what metadata must be like: `{"lang": "zh", "tag": ["a", "b"], "year": {"gte": 2020}}`, or Qdrant's own
                models. Per key a value, a list of which any may match, None where nothing shall be there, or operators:
                `gt gte lt lte` of numbers or dates, `not any all`, `nested` of objects in a list, `missing null empty`,
                `count`, `text text_any phrase`, `radius box polygon`. `any`, `all` and `not` as keys join whole filters.
                `docs/reference/filters.md` has the table.
            tenant: only this tenant's documents.
            limit: most hits.
            offset: hits to pass over first.
            score_threshold: hits that are worse are left out: with lower scores, and by the distance `euclid` with higher
                ones. Not in a hybrid search, whose scores are made of ranks, unless it is reranked: then it is about
                the reranker's score.
            group_by_document: at most one hit per document, its best chunk.
            chunks_per_document: with `group_by_document`, so many of each document's best chunks (`hit.best_chunks`).
            context_chunks: so many neighbouring chunks on either side come with each hit, joined (`hit.passage`).
            fields: metadata that come with hits, `["title", "author.name"]`; None brings all, an empty list none.
            text: whether texts come with hits.
            boost: what else counts for the rank: `Recency(field="published", half_life=timedelta(days=30), weight=0.2)`,
                `Boost(field="views", weight=0.1, log=True)`, `Boost(where={"lang": "zh"}, how="multiply")`, mappings with
                their fields, or several; docs/reference/search.md says more.
            diversity: from 0 to 1, hits that are less like one another, by MMR; only with mode `dense`.
            exact: look at everything instead of by the graph: slow, and right to the last hit.
            ef: how many nodes of the graph are looked at; more is slower and more precise. None is the collection's own.
            explain: say what was applied and what it took (`hits.explanation`).
            mode: what decides the rank: `dense`, the vector; `keyword`, the words, by BM25, for codes, names and numbers
                (it needs no model, and an instruction has nothing to do with it); `hybrid`, both lists, fused.
            fusion: of a hybrid search: by ranks (`rrf`, the default), of which vectors' count twice, or by scores
                (`dbsf`).
            candidates: best points of each list that are fused, of a hybrid search; or of which `boost` or `diversity`
                choose. By default 200, for `limit + offset` above 50 800, above 200 3,200 and so on: pages join up where all
                are made of the same.
            rerank: let a cross-encoder on a worker read query and candidates together, which ranks better and costs a pass
                over each: True for the one that there is (or GRISTMILL_RERANKER), or its name. The instruction goes to it,
                too. A hit's `score` is the reranker's then, from 0 to 1, and `retrieval_score` what it was found by.
            rerank_top: candidates that are reranked, of which hits come; at least `limit + offset`, by default 50 or that.

        Returns:
            Hits, best first; an empty list where nothing matches. Where a filter found nothing, the log says once why: a key
            that no document has, with the nearest that there is, or a value of another type.

        Raises:
            InvalidInput: an argument is wrong; the message names it. A single word as instruction is taken for a name.
            CollectionNotFound, NoWorker, WaitTimeout, EncodingFailed, StoreUnavailable, StoreRefused, BrokerUnavailable.
        """
        return self._searcher.search(collection, query, **options)

    @takes(SearchOptions, DEFAULTS)
    def search_many(self, collection: str, queries: Iterable[str], **options: Unpack[SearchOptions]) -> list[Hits]:
        """Search a collection for several queries at once: one trip to the model and one to Qdrant per 256 of them.

        Args:
            collection: its name.
            queries: what is looked for.
            options: as in `search`, the same for all; what counts hits counts them per query. Grouped by document, Qdrant is
                asked once per query.

        Returns:
            One list of hits per query, in their order; an empty list for no queries.

        Raises:
            InvalidInput: an argument is wrong; the message names it.
            CollectionNotFound, NoWorker, WaitTimeout, EncodingFailed, StoreUnavailable, StoreRefused, BrokerUnavailable.
        """
        return self._searcher.search_many(collection, queries, **options)

    @takes(SimilarOptions, DEFAULTS)
    def search_by_vector(
        self, collection: str, vector: Sequence[float] | npt.NDArray[Any], **options: Unpack[SimilarOptions]
    ) -> Hits:
        """Search a collection by a query's vector that is at hand already. No model is asked.

        Args:
            collection: its name.
            vector: (dimensions,), made as a search of this collection makes it: `client.embed(query, collection=…)`. Nobody
                can tell by its numbers that another model made it; another size is refused.
            options: as in `search`, but for what is about the query's words; `lens` says whose vectors are compared.

        Returns:
            Hits, best first; they name no instruction, since none is known.

        Raises:
            InvalidInput: an argument is wrong; `SpaceMismatch` for a vector of another size.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        return self._searcher.search_by_vector(collection, vector, **options)

    @takes(SimilarOptions, DEFAULTS)
    def similar(self, collection: str, document_id: str, **options: Unpack[SimilarOptions]) -> Hits:
        """Documents like a stored one, which itself is left out. No model is asked.

        Args:
            collection: its name.
            document_id: what they shall be like: of a document in several chunks the mean of their vectors.
            options: as in `search`, but for what is about its query; `tenant` is also the tenant whose document it is.

        Returns:
            Hits, most alike first.

        Raises:
            InvalidInput: an argument is wrong, or the collection does not hold this document.
            CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        return self._searcher.similar(collection, document_id, **options)

    @takes(RecommendOptions, DEFAULTS)
    def recommend(
        self,
        collection: str,
        positive: Examples,
        negative: Examples = (),
        *,
        strategy: Strategy | str = Strategy.AVERAGE_VECTOR,
        **options: Unpack[RecommendOptions],
    ) -> Hits:
        """Documents like some examples and unlike others, all of which are left out.

        Args:
            collection: its name.
            positive: what hits shall be like: ids of stored documents, `{"text": "…"}`, or a list of both. A text is encoded
                as a query is.
            negative: what they shall not be like, given likewise.
            strategy: how examples are weighed: `average_vector` makes one vector of all, as quick as a search; `best_score`
                ranks by the example that is nearest, `sum_scores` by all of them, and both do with negative ones alone.
            options: as in `search`, but for modes and diversity; `tenant` is also the tenant whose documents the examples
                are, `instruction` is for texts among them.

        Returns:
            Hits, best first.

        Raises:
            InvalidInput: an argument is wrong, or the collection does not hold an example; the message names it.
            CollectionNotFound, NoWorker, WaitTimeout, EncodingFailed, StoreUnavailable, StoreRefused, BrokerUnavailable.
        """
        return self._searcher.recommend(collection, positive, negative, strategy, **options)

    def rerank(
        self,
        query: str,
        documents: Iterable[str | Mapping[str, Any]],
        *,
        instruction: str | None = None,
        model: str | None = None,
        top: int | None = None,
    ) -> list[RerankResult]:
        """Put texts, from wherever they are, in the order of how well they answer a query.

        Args:
            query: what is looked for.
            documents: texts, or mappings with one under `text`, whose other fields come back as `metadata`.
            instruction: what the search is for: a sentence, or a preset (`preset:web`). None takes the reranker's own.
            model: the reranker: what a worker was started with. None takes GRISTMILL_RERANKER, or where that is not set, the
                one that is being served.
            top: most results.

        Returns:
            The best first, equal ones in their order: `index` is the place among the documents, `score` from 0 to 1. No
            documents give an empty list. `truncated` says that a text's end was cut off at the reranker's window, as a
            query's never is.

        Raises:
            InvalidInput: an argument is wrong; the message names it.
            NoWorker: nobody serves a reranker, or this one.
            WaitTimeout, EncodingFailed, BrokerUnavailable.
        """
        return self._reranking.texts(query, documents, instruction=instruction, model=model, top=top)

    def embed(
        self,
        texts: str | Iterable[str],
        *,
        collection: str | None = None,
        model: str | None = None,
        kind: Kind = "query",
        instruction: str | None = None,
        lens: str | None = None,
    ) -> npt.NDArray[np.float32]:
        """Vectors of texts, made by a worker exactly as a search or an ingest would make them.

        Args:
            texts: one text or many; many are cut into requests that a worker answers in time. A text beyond the model's
                window is refused, as a query is.
            collection: take its model, dimensions and registered instructions.
            model: or this model, at its full size; with neither, as in `create_collection`.
            kind: what the texts are: queries, or documents to be found.
            instruction: what the texts are embedded for: a sentence, or a name that is registered with the collection.
            lens: as its documents, or its queries; of `collection`.

        Returns:
            float32 (n, dimensions), one row per text in their order; for one text (dimensions,), as
            sentence-transformers does; (0, dimensions) for none. Normalised where the collection's space is.

        Raises:
            InvalidInput: an argument is wrong; the message names it.
            CollectionNotFound, NoWorker, WaitTimeout, EncodingFailed, StoreUnavailable, BrokerUnavailable.
        """
        return self._embedder.embed(
            texts, collection=collection, model=model, kind=kind, instruction=instruction, lens=lens
        )

    def query_cache_info(self) -> QueryCacheInfo:
        """How often a search had no need of a worker, since this client had had its query before.

        Remembered are the vectors of queries, by vector space, instruction and text to the letter;
        GRISTMILL_QUERY_CACHE_BYTES says how many. Embedded mode, where the model is at hand, remembers none.
        """
        return self._parts.queries.info()

    def receipt(self, collection: str, document_id: str, *, tenant: str | None = None) -> Receipt:
        """What became of one document: its state, version, tokens, chunks, attempts, times and point ids.

        Args:
            collection: an existing collection.
            document_id: as it was enqueued.
            tenant: whose document.

        Raises:
            InvalidInput: an argument is wrong.
            CollectionNotFound, StoreUnavailable, StoreRefused, BrokerUnavailable, BrokerRefused.
        """
        document, owner = identifier("document_id", document_id), tenant_name(tenant)
        spec = self._collections.get(identifier("collection", collection))
        require_tenant(spec, owner)
        return find_receipt(self._parts.store, self._parts.ledger, self._parts.evidence, spec, document, owner)

    def audit(
        self,
        collection: str,
        expected: Item | Iterable[Item] | None = None,
        *,
        tenant: str | None = None,
        repair: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> AuditReport:
        """Compare what was accepted with what Qdrant holds, document by document, in bounded memory.

        Args:
            collection: an existing collection.
            expected: documents that should be there, one or many. Without them the ledger's roster says which should be;
                that names what is missing but has no texts to restore it from.
            tenant: only this tenant's documents; None looks at all of them, also where tenants are kept apart.
            repair: enqueue exactly what is missing, stale or damaged and whose text is at hand, and delete leftover
                chunks; put on the roster what Qdrant holds and it does not know. The documents are on their way when
                this returns: `client.jobs.get(report.job_id).wait()`.
            progress: called with the number of documents looked at so far.

        Returns:
            Counters, and the first 1,000 gaps one by one. `report.left` is what no repair was found for.

        Raises:
            InvalidInput: an argument is wrong.
            CollectionNotFound, StoreUnavailable, StoreRefused, BrokerUnavailable, BrokerRefused.
        """
        kinds = (Document, Rejection, Mapping)
        many = () if expected is None else one_or_many("expected", expected, kinds, _DOCUMENTS)
        flag("repair", repair)
        callback("progress", progress)
        owner = tenant_name(tenant)
        parts, spec = self._parts, self._collections.get(identifier("collection", collection))
        auditor = Auditor(
            parts.store, parts.ledger, parts.evidence, spec, tenant=owner, repair=repair, progress=progress
        )
        documents = auditor.run(many)
        # A job only if there is something to enqueue.
        first = next(documents, None)
        job = None if first is None else self._intake.take(spec.name, chain([first], documents), tenant=owner)
        report = auditor.report(job.id if job else None)
        left_off = owner is None and spec.bulk_since is not None  # by nobody's documents, so no tenant looks after it
        return report.model_copy(update={"index_restored": left_off and self._bulk.settle(spec)})


@answers_habits
class TenantClient(Confined[Client]):
    """`Client` for one tenant: `client.tenant("acme")`. The same calls, with `tenant=` fixed; naming another is an error.

    What is not one tenant's is not there: collections and their indexes, models, refused messages, webhooks, bulk
    loads, and whatever a client gets that is not written down here.

    Attributes:
        jobs: whose documents are all this tenant's: `list`, `get`.
        dead: letters of this tenant's documents: `summary`, `list`, `scroll`, `get`, `replay`, `drop`.
        instructions: of the collections, to be read: `list`, `show`, `get`, `presets`.
    """

    def __init__(self, client: Client, name: str) -> None:
        super().__init__(client, name)
        self.jobs = TenantJobs(client.jobs, name)
        self.dead = TenantDeadLetters(client.dead, name)
        self.instructions = TenantInstructions(client.instructions, name)

    def __repr__(self) -> str:
        return f"<TenantClient {self._tenant!r} of {self._wrapped!r}>"

    @property
    def name(self) -> str:
        """Whose client it is."""
        return self._tenant

    audit = confined(Client.audit)
    cluster = confined(Client.cluster)
    count = confined(Client.count)
    delete = confined_job(Client.delete)
    delete_where = confined_job(Client.delete_where)
    documents = confined(Client.documents)
    embed = passed(Client.embed)
    rerank = passed(Client.rerank)
    enqueue = confined_job(Client.enqueue)
    estimate = confined(Client.estimate)
    facets = confined(Client.facets)
    queue = confined(Client.queue)
    receipt = confined(Client.receipt)
    recommend = confined(Client.recommend)
    scroll = confined(Client.scroll)
    search = confined(Client.search)
    search_by_vector = confined(Client.search_by_vector)
    search_many = confined(Client.search_many)
    similar = confined(Client.similar)
    update_metadata = confined_job(Client.update_metadata)

    @overload
    def get(  # type: ignore[overload-overlap]  # as in `Client.get`
        self, collection: str, ids: str, *, tenant: str | None = None
    ) -> StoredDocument | None: ...
    @overload
    def get(self, collection: str, ids: Iterable[str], *, tenant: str | None = None) -> list[StoredDocument]: ...
    def get(
        self, collection: str, ids: str | Iterable[str], *, tenant: str | None = None
    ) -> StoredDocument | list[StoredDocument] | None:
        """See `Client.get`."""
        return self._confine(Client.get, collection, ids, tenant=tenant)
