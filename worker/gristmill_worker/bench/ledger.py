"""`gristmill bench ledger`: what an idle worker, a parcel and a query cost Redis, by Redis's own counters.

In each round: a pause, then documents through a worker that encodes for nothing, then searches. Redis is asked before and
after for its commands, scripts, bytes and CPU seconds; what idle workers cost in the same time is taken off. Commands,
scripts and bytes are exact on a busy machine, too; of CPU seconds, which are not, the median round is told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import astuple, dataclass
from statistics import median
from typing import Any

import redis

from gristmill import Client, ClientSettings, Document
from gristmill.cli.layout import fields
from gristmill.ingest.packing import FIRST_GROUPS
from gristmill.ledger.connection import broker_errors, connect
from gristmill.settings import load_settings
from gristmill_schemas.limits import FIRST_PARCEL_DOCUMENTS
from gristmill_worker.bench.pipeline.records import Plan
from gristmill_worker.bench.pipeline.run import left_by_signals
from gristmill_worker.bench.pipeline.site import Note, Site

#: A document of English prose of about a hundred tokens.
_TEXT = "what a mill grinds is neither lost nor ground a second time " * 7


@dataclass(frozen=True)
class LedgerPlan:
    """What is measured."""

    parcels: int = 200
    queries: int = 500
    workers: int = 1
    idle_s: float = 10.0
    rounds: int = 5


@dataclass(frozen=True)
class Spent:
    """By Redis, since its start or between two looks."""

    #: All, those inside of scripts included.
    commands: float
    scripts: float
    received_bytes: float
    sent_bytes: float
    cpu_s: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def times(self, factor: float) -> Spent:
        """So many times of it."""
        return Spent(*(each * factor for each in astuple(self)))


class _Meter:
    """Reads one Redis."""

    def __init__(self, client: redis.Redis, url: str) -> None:
        self._client, self._url = client, url

    def look(self) -> Spent:
        with broker_errors(self._url):
            info: dict[str, Any] = self._client.info("everything")
        scripts = sum(info.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))
        return Spent(
            info["total_commands_processed"],
            scripts,
            info["total_net_input_bytes"],
            info["total_net_output_bytes"],
            info["used_cpu_user"] + info["used_cpu_sys"],
        )

    @contextmanager
    def measured(self, into: list[tuple[Spent, float]]) -> Iterator[None]:
        """What was spent while the block ran, and its seconds."""
        before, began = self.look(), time.perf_counter()
        yield
        into.append((self.look() - before, time.perf_counter() - began))


def measure(plan: LedgerPlan, note: Note) -> dict[str, Any]:
    """Measure on running servers that nobody else uses; leaves nothing behind.

    Returns:
        Figures per second of an idle worker, per parcel of 64 documents, per query.

    Raises:
        GristmillError: Redis or Qdrant is away, or Redis does not let its counters be read.
    """
    idle: list[tuple[Spent, float]] = []
    work: list[tuple[Spent, float]] = []
    searched: list[tuple[Spent, float]] = []
    with left_by_signals() as left, ExitStack() as stack:
        note = left.noted(note)
        bare = _bare(plan.idle_s, note)
        site = Site(Plan("hash:1024", plan.parcels * FIRST_PARCEL_DOCUMENTS, workers=plan.workers), note, stack)
        connection = stack.enter_context(closing(connect(site.settings)))
        meter = _Meter(connection, site.settings.redis_url)
        client = stack.enter_context(Client(site.settings, query_cache_bytes=0))
        for number in range(1, plan.rounds + 1):
            note(f"round {number} of {plan.rounds}")
            with site.collection() as name:
                _enqueue(client, name, 1)
                client.search(name, "a first search")
                with meter.measured(idle):
                    time.sleep(plan.idle_s)
                with meter.measured(work):
                    _enqueue(client, name, plan.parcels)
                with meter.measured(searched):
                    for query in range(plan.queries):
                        client.search(name, f"query {query} of round {number}")
    rest = [spent.times(1 / seconds) for spent, seconds in idle]
    return {
        "idle_worker_second": _figures([(each - bare).times(1 / plan.workers) for each in rest]),
        "parcel": _figures(_each(work, rest, plan.parcels)),
        "query": _figures(_each(searched, rest, plan.queries)),
        "documents_per_parcel": FIRST_PARCEL_DOCUMENTS,
        "bytes_per_document": len(_TEXT),
    }


def _bare(seconds: float, note: Note) -> Spent:
    """What Redis spends in a second on nobody."""
    note("measuring Redis without a worker")
    settings, alone = load_settings(ClientSettings), []  # type: tuple[ClientSettings, list[tuple[Spent, float]]]
    with closing(connect(settings)) as client, _Meter(client, settings.redis_url).measured(alone):
        time.sleep(seconds)
    return alone[0][0].times(1 / alone[0][1])


def _enqueue(client: Client, collection: str, parcels: int) -> None:
    """In jobs of so few parcels that all of them are of one size."""
    count = parcels * FIRST_PARCEL_DOCUMENTS
    documents = [Document(id=f"{n} of {count}", text=f"{_TEXT} {n}") for n in range(count)]
    step = FIRST_GROUPS * FIRST_PARCEL_DOCUMENTS
    for job in [client.enqueue(collection, documents[start : start + step]) for start in range(0, count, step)]:
        job.wait()


def _each(spent: Sequence[tuple[Spent, float]], rest: Sequence[Spent], count: int) -> list[Spent]:
    """Per thing, without what rest costs in the same time."""
    return [(whole - idle.times(seconds)).times(1 / count) for (whole, seconds), idle in zip(spent, rest, strict=True)]


def _figures(rounds: Sequence[Spent]) -> dict[str, float]:
    """The median of each figure; CPU in microseconds."""
    names = ("commands", "scripts", "received_bytes", "sent_bytes")
    middle = {name: round(median(getattr(each, name) for each in rounds), 1) for name in names}
    return middle | {"cpu_us": round(median(each.cpu_s for each in rounds) * 1e6, 1)}


def show(figures: dict[str, Any]) -> None:
    """The figures for people."""
    for of in ("idle_worker_second", "parcel", "query"):
        told = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in figures[of].items())
        fields({of.replace("_", " "): told})
