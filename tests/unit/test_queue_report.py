"""What waits, for whom, how long it will take and whether anyone serves it."""

from __future__ import annotations

from typing import Any

import pytest

from gristmill import Ahead, Job, ModelQueue, QueueReport
from gristmill.cli.queue.commands import unserved
from gristmill.ingest.queue import queue_report
from gristmill.ledger import HighWater, Ledger, MemoryLedger
from gristmill_schemas import Document, EncoderInfo, ModelTask, Parcel, Pooling

ROOMY = HighWater(documents=100_000, bytes=100_000_000)
LONG_S = 3600.0


@pytest.fixture
def ledger() -> MemoryLedger:
    made = MemoryLedger()
    for name in ("small", "large"):
        made.announce(announced(name))
    return made


def announced(name: str, task: ModelTask = ModelTask.EMBEDDING) -> EncoderInfo:
    return EncoderInfo(
        model=name, digest=f"d-{name}", pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=9, task=task
    )


def enqueue(ledger: Ledger, model: str, documents: int, collection: str = "c", tenant: str | None = None) -> str:
    """So many documents of a hundred tokens each, as one job; returns its id."""
    ticket = ledger.open_job(collection, tenant=tenant)
    parcel = Parcel(
        id=f"{ticket.job_id}.0",
        job_id=ticket.job_id,
        collection=collection,
        model_digest=f"d-{model}",
        documents=tuple(Document(id=str(n), text="x" * 400, tenant=tenant) for n in range(documents)),
        version=ticket.version,
        enqueued_at=ticket.opened_at,
    )
    ledger.accept(parcel, 0, ROOMY)
    return ticket.job_id


def live(ledger: Ledger, worker: str, model: str = "small", rate: float | None = None, state: str = "ready") -> None:
    engine = {"model": model, "model_digest": f"d-{model}", "tokens_per_s": rate}
    ledger.heartbeat(worker, {"state": state, "engines": [engine]}, LONG_S)


def load(ledger: Ledger, worker: str, model: str = "small", digest: str | None = None) -> None:
    status: dict[str, Any] = {"state": "loading", "engines": [], "loading": [{"model": model, "model_digest": digest}]}
    ledger.heartbeat(worker, status, LONG_S)


def of(report: QueueReport, model: str) -> ModelQueue:
    queue: ModelQueue
    (queue,) = (each for each in report.models if each.model == model)
    return queue


def test_nothing_waits_in_an_empty_mill(ledger: MemoryLedger) -> None:
    assert queue_report(ledger) == QueueReport()


def test_what_waits_is_told_by_model_and_job_and_the_most_first(ledger: MemoryLedger) -> None:
    few, many = enqueue(ledger, "small", 2), enqueue(ledger, "large", 60, "d", tenant="acme")
    report = queue_report(ledger)
    assert [(each.model, each.parcels, each.documents, each.tokens) for each in report.models] == [
        ("large", 1, 60, 6000),
        ("small", 1, 2, 200),
    ]
    (job,) = of(report, "large").jobs
    assert (job.job_id, job.collection, job.tenant, job.documents, job.tokens) == (many, "d", "acme", 60, 6000)
    assert [job.job_id for job in of(report, "small").jobs] == [few]
    assert (of(report, "small").oldest_waiting_s or 0) > 0


def test_seconds_are_by_what_all_workers_together_have_measured(ledger: MemoryLedger) -> None:
    enqueue(ledger, "small", 60)
    assert (of(queue_report(ledger), "small").tokens_per_s, of(queue_report(ledger), "small").seconds) == (None, None)
    live(ledger, "a", rate=100.0)
    live(ledger, "b", rate=200.0)
    queue = of(queue_report(ledger), "small")
    assert (queue.workers, queue.tokens_per_s, queue.seconds) == (2, 300.0, 20.0)


def test_who_has_not_measured_and_who_loads_counts_as_one_like_the_others(ledger: MemoryLedger) -> None:
    enqueue(ledger, "small", 60)
    live(ledger, "a", rate=100.0)
    live(ledger, "fresh")
    load(ledger, "b", digest="d-small")
    load(ledger, "whose model is known by its name alone", "small")
    queue = of(queue_report(ledger), "small")
    assert (queue.workers, queue.loading, queue.tokens_per_s, queue.seconds) == (2, 2, 400.0, 15.0)


def test_once_nobody_lives_the_last_rate_is_that_of_one(ledger: MemoryLedger) -> None:
    live(ledger, "a", rate=100.0)
    ledger.heartbeat("a", {}, 0.0)
    enqueue(ledger, "small", 60)
    queue = of(queue_report(ledger), "small")
    assert (queue.workers, queue.tokens_per_s, queue.seconds) == (0, 100.0, 60.0)


def test_a_worker_that_drains_is_no_capacity(ledger: MemoryLedger) -> None:
    enqueue(ledger, "small", 60)
    live(ledger, "leaves", rate=100.0, state="draining")
    assert of(queue_report(ledger), "small").workers == 0
    live(ledger, "waits for Qdrant", rate=50.0, state="waiting")
    queue = of(queue_report(ledger), "small")
    assert (queue.workers, queue.tokens_per_s) == (1, 50.0)


def test_a_model_that_is_served_is_told_without_work_and_a_reranker_is_no_queue(ledger: MemoryLedger) -> None:
    ledger.announce(announced("scores", ModelTask.RERANKING))
    live(ledger, "a", rate=100.0)
    live(ledger, "b", "scores")
    (queue,) = queue_report(ledger).models
    assert (queue.model, queue.documents, queue.seconds, queue.jobs) == ("small", 0, 0.0, ())


def test_a_tenant_sees_its_own_jobs_and_nothing_of_others(ledger: MemoryLedger) -> None:
    mine = enqueue(ledger, "small", 3, tenant="acme")
    for tenant in ("evil", None):
        enqueue(ledger, "small", 50, tenant=tenant)
        enqueue(ledger, "large", 50, tenant=tenant)
    (queue,) = queue_report(ledger, tenant="acme").models
    assert [job.job_id for job in queue.jobs] == [mine]
    assert (queue.documents, queue.tokens, queue.parcels, queue.held_parcels) == (3, 300, 0, 0)
    assert queue.oldest_waiting_s is None


def test_work_that_nobody_serves_says_what_to_start(ledger: MemoryLedger) -> None:
    enqueue(ledger, "small", 1)
    assert unserved(of(queue_report(ledger), "small")) == "nobody serves small: start `gristmill worker --model small`"
    load(ledger, "b", "small")
    assert unserved(of(queue_report(ledger), "small")) is None
    live(ledger, "b")
    assert unserved(of(queue_report(ledger), "small")) is None
    enqueue(ledger, "never announced", 1, "orders")
    (unknown,) = (each for each in queue_report(ledger).models if not each.model)
    assert "d-never announced" in (unserved(unknown) or "")
    assert "the model of orders" in (unserved(unknown) or "")


def test_a_job_is_told_what_is_served_before_it_and_the_seconds_by_what_all_workers_have_measured(
    ledger: MemoryLedger,
) -> None:
    other = enqueue(ledger, "small", 60, tenant="acme")
    job = Job(ledger, lambda model, count: None, enqueue(ledger, "small", 20, tenant="bolt"))
    unknown = job.ahead()
    assert (unknown.tokens, unknown.share, unknown.starts_in_s, unknown.ends_in_s) == (2_000, 0.5, None, None)
    assert (unknown.before_start, unknown.before_end) == (0, 2_000), "its turn of what acme has"
    live(ledger, "a", rate=300.0)
    live(ledger, "b", rate=100.0)
    assert job.ahead().ends_in_s == (2_000 + 2_000) / 400
    ledger.claim("d-small", LONG_S)
    in_hand = job.ahead()
    assert (in_hand.before_start, in_hand.starts_in_s) == (6_000, 15.0)
    ledger.pause(job.id)
    assert (job.ahead().share, job.ahead().ends_in_s) == (0.0, None)
    ledger.cancel(job.id)
    assert job.ahead() == Ahead()
    assert other != job.id
