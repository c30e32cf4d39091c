"""`gristmill bench fairness`: how long a small job takes behind a large one, and what it takes from it.

Windows go by turns: in one the backlog has the workers for itself, in the next small jobs come, of each priority by turns.
Of each small job is told how long it took and how many parcels of the backlog ended meanwhile; of the backlog, its rate in
the windows with small jobs over that in those without, the small jobs' own documents counted in, and its counters.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

from gristmill import Client, Document, Job
from gristmill.cli.layout import fields
from gristmill_schemas import Priority
from gristmill_schemas.errors import GristmillError
from gristmill_worker.bench.pipeline.records import Plan
from gristmill_worker.bench.pipeline.run import left_by_signals
from gristmill_worker.bench.pipeline.site import Note, Site

#: About a hundred tokens of English.
_TEXT = "what a mill grinds is neither lost nor ground a second time " * 7
#: Documents that go all the way before anything is measured.
_WARM_UP = 4096
#: The backlog is to wait as a whole.
_NO_MARK = 2**40


@dataclass(frozen=True)
class FairnessPlan:
    """What is measured."""

    encoder: str = "hash:64"
    backlog: int = 200_000
    small: int = 64
    workers: int = 1
    window_s: float = 4.0


@dataclass(frozen=True)
class SmallJob:
    """What became of one."""

    priority: Priority
    seconds: float
    #: Of the backlog, while it waited.
    documents_before_it: int


def measure(plan: FairnessPlan, note: Note) -> dict[str, Any]:
    """Measure on running servers; leaves nothing behind.

    Raises:
        GristmillError: the backlog was done before every priority had its turn: it takes a larger one.
    """
    with left_by_signals() as left, ExitStack() as stack:
        note = left.noted(note)
        site = Site(Plan(plan.encoder, plan.backlog, workers=plan.workers), note, stack)
        client = stack.enter_context(Client(site.settings, queue_max_documents=_NO_MARK, queue_max_bytes=_NO_MARK))
        name = stack.enter_context(site.collection())
        client.enqueue(name, _documents("warm", _WARM_UP)).wait()
        note(f"handing over {plan.backlog:,} documents")
        with site.halted():
            backlog = client.enqueue(name, _documents("backlog", plan.backlog))
        alone, beside, jobs = _windows(plan, client, name, backlog, note)
        note("waiting for the end of the backlog")
        report = backlog.wait()
    return {
        "backlog": plan.backlog,
        "small": plan.small,
        "workers": plan.workers,
        "alone_documents_per_s": round(median(alone), 1),
        "beside_documents_per_s": round(median(beside), 1),
        "rate_ratio": round(median(beside) / median(alone), 4),
        "backlog_stored": report.stored,
        "backlog_dead": report.dead,
        **{str(each): _figures(jobs, each) for each in Priority},
    }


def _windows(
    plan: FairnessPlan, client: Client, name: str, backlog: Job, note: Note
) -> tuple[list[float], list[float], list[SmallJob]]:
    """Until a tenth of the backlog is left: rates alone and beside small jobs, and these."""
    alone: list[float] = []
    beside: list[float] = []
    jobs: list[SmallJob] = []
    while True:
        for rates, with_jobs in ((alone, False), (beside, True)):
            began, before, came = time.perf_counter(), backlog.report().finished, 0
            while time.perf_counter() - began < plan.window_s:
                if with_jobs:
                    jobs.append(_small(plan, client, name, backlog, list(Priority)[len(jobs) % len(Priority)]))
                    came += plan.small
                else:
                    time.sleep(0.1)
            now = backlog.report()
            if now.pending < plan.backlog / 10:
                if len(alone) < 2 or len(jobs) < len(Priority):
                    raise GristmillError("expected a backlog that outlasts the small jobs; give more --documents")
                return alone, beside, jobs
            rates.append((now.finished - before + came) / (time.perf_counter() - began))
        note(f"{alone[-1]:,.0f} documents/s alone, {beside[-1]:,.0f} beside small jobs; {now.pending:,} left")


def _small(plan: FairnessPlan, client: Client, name: str, backlog: Job, priority: Priority) -> SmallJob:
    before, began = backlog.report().finished, time.perf_counter()
    client.enqueue(name, _documents(f"small {began}", plan.small), priority=priority).wait().raise_for_failures()
    seconds = time.perf_counter() - began
    return SmallJob(priority, seconds, backlog.report().finished - before)


def _figures(jobs: Sequence[SmallJob], priority: Priority) -> dict[str, float]:
    of = [each for each in jobs if each.priority == priority]
    return {
        "jobs": len(of),
        "seconds": round(median(each.seconds for each in of), 3),
        "slowest_s": round(max(each.seconds for each in of), 3),
        "documents_before_it": round(median(each.documents_before_it for each in of)),
    }


def _documents(kind: str, count: int) -> Iterator[Document]:
    return (Document(id=f"{kind} {n}", text=f"{_TEXT} {n}") for n in range(count))


def show(figures: dict[str, Any]) -> None:
    """The figures for people."""
    rows = [(name.replace("_", " "), value) for name, value in figures.items() if not isinstance(value, dict)]
    jobs = [
        (f"a small job, {each}", ", ".join(f"{value:,} {name}" for name, value in figures[each].items()))
        for each in Priority
    ]
    fields([*rows, *jobs])
