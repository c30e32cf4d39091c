"""The rounds of the benchmark.

In each round every query is asked in every way, one way after the other: through a worker, with a remembered vector, raw by
qdrant-client, and its vector alone of a worker and of the same encoder in this process. Then threads, then bulk load. The
client that goes through the worker remembers nothing, or it would measure its own memory.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec

from gristmill import Client
from gristmill.models import engines
from gristmill.settings import load_settings
from gristmill.store.connection import store_errors
from gristmill_schemas.errors import GristmillError
from gristmill_worker.bench.pipeline.documents import make_documents, write_documents
from gristmill_worker.bench.pipeline.records import Plan
from gristmill_worker.bench.pipeline.run import left_by_signals, require_encoder
from gristmill_worker.bench.pipeline.site import Note, Site
from gristmill_worker.bench.search.records import Measured, SearchPlan, Spent
from gristmill_worker.encoder.base import Encoder
from gristmill_worker.pipeline.engine import load_encoder
from gristmill_worker.reranker import Reranker
from gristmill_worker.reranker.loading import load_reranker, of_reranker
from gristmill_worker.settings import WorkerSettings

P = ParamSpec("P")

#: Threads that search at once.
_THREADS = (1, 16)
#: Enough searches under load for a 99th of a hundred.
_UNDER_LOAD = 300
#: Candidates of a search that is reranked, and such searches per round.
_CANDIDATES, _RERANKED = 50, 50
#: Documents at once where a worker encodes thousands in a second.
_CHEAP_LOAD = 20_000
#: Between two looks at what a worker says of itself, which it does every three seconds; and the longest wait for it.
_LOOK_S, _SAID_S = 0.05, 60.0


def measure(plan: SearchPlan, note: Note) -> Measured:
    """Measure on running servers; whatever ends it, no process and no collection of it is left.

    Raises:
        InvalidInput, ModelUnavailable, GristmillError: what was asked for cannot be had.
    """
    require_encoder(plan.encoder)
    with left_by_signals(), ExitStack() as closing:
        folder = Path(closing.enter_context(TemporaryDirectory(prefix="gristmill-bench-")))
        return _Bench(plan, note, folder, closing).run()


class _Bench:
    def __init__(self, plan: SearchPlan, note: Note, folder: Path, closing: ExitStack) -> None:
        self._plan, self._note, self._closing = plan, note, closing
        self._documents = documents = make_documents(plan.encoder, max(plan.documents, _load_of(plan)))
        write_documents(folder / "searched.jsonl", documents[: plan.documents])
        write_documents(folder / "load.jsonl", documents[: _load_of(plan)])
        # The beginnings of texts that are there: about as long as questions are.
        self._queries = [f"{documents[at % len(documents)].text[:60]} {at}" for at in range(plan.queries)]
        pipeline = Plan(plan.encoder, plan.documents, torch_threads=plan.torch_threads, reranker=plan.reranker)
        self._site = Site(pipeline, note, closing)
        self._producer, self._loader = self._site.sides(
            "producer", [{"documents": str(folder / f"{name}.jsonl")} for name in ("searched", "load")]
        )
        self._space = self._site.encoder.space()
        self._forgetful, self._remembering = (
            closing.enter_context(Client(self._site.settings, query_cache_bytes=size)) for size in (0, 1 << 28)
        )
        self._job: str | None = None
        self._measured = Measured(dimensions=self._space.dimensions, cores=_cores())

    def run(self) -> Measured:
        """Everything, one after the other."""
        with self._site.collection() as name:
            self._site.finish(self._producer.ask(collection=name).said["job"])
            self._note("building the index")
            self._site.index(name)
            self._one_by_one(name)
            self._on_threads(name)
            if self._plan.reranker is not None:
                self._reranked(name)
            self._under_bulk(name)
        return self._measured

    def _search(self, client: Client, name: str, query: str) -> None:
        client.search(name, query, limit=self._plan.limit)

    def _one_by_one(self, name: str) -> None:
        encoder = load_encoder(load_settings(WorkerSettings, model=self._plan.encoder))
        self._closing.callback(encoder.close)
        for query in self._queries:
            self._search(self._remembering, name, query)
        for number in range(1, self._plan.rounds + 1):
            self._note(f"round {number} of {self._plan.rounds}: one query at a time")
            for query in self._queries:
                self._one(name, query, encoder)

    def _one(self, name: str, query: str, encoder: Encoder) -> None:
        text, into = self._space.templates.for_query(query), self._measured
        queries = self._forgetful._parts.queries
        vector = queries.encode(self._space, [text])[0].tolist()
        into.search.append(_timed(self._search, self._forgetful, name, query))
        into.ready.append(_timed(self._search, self._remembering, name, query))
        with store_errors(name):
            into.raw.append(_timed(self._raw, name, vector))
        into.vector.append(_timed(queries.encode, self._space, [text]))
        into.encode.append(_timed(lambda: encoder.encode(encoder.tokenize([text]))))

    def _raw(self, name: str, vector: list[float]) -> object:
        return self._site.store.query_points(name, query=vector, limit=self._plan.limit, with_payload=True)

    def _reranked(self, name: str) -> None:
        """Searches that are reranked; and the reranker beside the encoder, over texts of the same length."""
        models = load_settings(WorkerSettings, model=self._plan.encoder, reranker=self._plan.reranker)
        encoder, (reranker,) = load_encoder(models), map(load_reranker, of_reranker(models))
        self._closing.callback(encoder.close)
        self._closing.callback(reranker.close)
        texts = [document.text for document in self._documents[:_CANDIDATES]]
        for number in range(1, self._plan.rounds + 1):
            self._note(f"round {number} of {self._plan.rounds}: reranked")
            for query in self._queries[:_RERANKED]:
                self._measured.reranked.append(_timed(self._rerank, name, query))
            self._pairs(encoder, reranker, self._queries[0], texts)

    def _rerank(self, name: str, query: str) -> None:
        self._forgetful.search(name, query, limit=self._plan.limit, rerank=True, rerank_top=_CANDIDATES)

    def _pairs(self, encoder: Encoder, reranker: Reranker, query: str, texts: list[str]) -> None:
        """One query with all of the texts, and the encoder with the same words."""
        before = reranker.status().get("tokens")
        seconds = _timed(reranker.score, query, texts)
        self._measured.pairs.append(len(texts) / seconds)
        if before is None:
            return  # a stand-in, which counts none
        self._measured.read.append((reranker.status()["tokens"] - before) / seconds)
        tokenized = encoder.tokenize([f"{query}\n{text}" for text in texts])
        taken = _timed(encoder.encode, tokenized)
        self._measured.encoded.append(sum(each.n_tokens for each in tokenized) / taken)

    def _on_threads(self, name: str) -> None:
        ways = ((self._forgetful, self._measured.through_worker), (self._remembering, self._measured.remembered))
        for number in range(1, self._plan.rounds + 1):
            self._note(f"round {number} of {self._plan.rounds}: on threads")
            for client, into in ways:
                for threads in _THREADS:
                    before, own_s = self._site.cpu_s(), time.process_time()
                    seconds = _timed(self._all, client, name, threads)
                    into.setdefault(threads, []).append(len(self._queries) / seconds)
                    if client is self._forgetful:
                        spent = {"client": time.process_time() - own_s, **self._site.cpu_s(before)}
                        self._measured.spent.setdefault(threads, Spent()).add(len(self._queries), spent)

    def _all(self, client: Client, name: str, threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda query: self._search(client, name, query), self._queries))

    def _under_bulk(self, name: str) -> None:
        self._note("under bulk load")
        load = self._measured.load
        with ExitStack() as loading:
            load.batch_s = self._batch_s(loading)
            for query in itertools.islice(itertools.cycle(self._queries), _UNDER_LOAD):
                self._keep_busy(loading)
                load.searches.append(_timed(self._search, self._forgetful, name, query))
            for query in itertools.islice(itertools.cycle(self._queries), _RERANKED if self._plan.reranker else 0):
                self._keep_busy(loading)
                load.reranked.append(_timed(self._rerank, name, query))

    def _keep_busy(self, loading: ExitStack) -> None:
        """See to it that the worker has documents to encode, for a collection that ends with them."""
        if self._job is None or self._forgetful.jobs.get(self._job).report().finished:
            loading.pop_all().close()
            answer = self._loader.ask(collection=loading.enter_context(self._site.collection()))
            self._job = answer.said["job"]

    def _said(self) -> dict[str, Any]:
        for engine in (
            each for each in engines(self._site.ledger) if "idle" in each
        ):  # a reranker says nothing of that
            return {**engine, "busy_s": engine["idle"]["busy"]}
        raise GristmillError("the worker is not heard of any more")

    def _batch_s(self, loading: ExitStack) -> float:
        """Seconds per bulk batch between two heartbeats of a busy worker."""
        first = self._next_said(self._said(), loading)
        second = self._next_said(first, loading)
        busy_s: float = second["busy_s"] - first["busy_s"]
        batches: int = second["batches"] - first["batches"]
        return busy_s / max(1, batches)

    def _next_said(self, before: dict[str, Any], loading: ExitStack) -> dict[str, Any]:
        until = time.monotonic() + _SAID_S
        while (now := self._said())["batches"] == before["batches"]:
            self._keep_busy(loading)
            if time.monotonic() > until:
                raise GristmillError(f"the worker said nothing new for {_SAID_S:.0f} s")
            time.sleep(_LOOK_S)
        return now


def _load_of(plan: SearchPlan) -> int:
    """Documents that keep a worker busy for some seconds."""
    return min(_CHEAP_LOAD, 20 * plan.documents) if plan.encoder.startswith("hash:") else plan.documents


def _cores() -> int:
    """That this process, and what it starts, may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _timed(work: Callable[P, object], *args: P.args, **named: P.kwargs) -> float:
    started = time.perf_counter()
    work(*args, **named)
    return time.perf_counter() - started
