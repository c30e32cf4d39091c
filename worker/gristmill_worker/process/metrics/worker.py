"""Sections about a worker process: its health, its start, what it waits for, what it serves, its ledger's server."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Final

from gristmill import __version__
from gristmill.maintenance.troubles.judging import HUNG_S
from gristmill.probes.health import judge
from gristmill_schemas.errors import BrokerRefused, BrokerUnavailable, GristmillError
from gristmill_worker.metering.instruments import REQUEST_SECONDS, Counts, histograms
from gristmill_worker.metering.sections import Sheet
from gristmill_worker.phases import Phase
from gristmill_worker.process.host import Host
from gristmill_worker.process.metrics.models import show_busy, show_engine, show_info, show_model, show_queries
from gristmill_worker.process.pulse import Heart
from gristmill_worker.vital_threads import Exit
from gristmill_worker.waiting.notices import Waits

#: First words of the phases of a start.
PHASES: Final = ("importing", "fetching", "looking", "reading", "loading", "checking", "measuring", "warming")
#: Calls of the ledger that a parcel makes, and the worker's own sign of life; the others count together.
_CALLS: Final = ("claim", "begin", "intend", "finish", "release", "renew", "heartbeat", "other")
#: What a supervisor counts when it starts a process again.
RESTARTS: Final = (*(each.name.lower() for each in Exit), "killed", "error")


class LedgerWatch:
    """How the ledger's server does, as this process sees it; see `gristmill.ledger.watch.Watch`."""

    def __init__(self) -> None:
        self._seconds = histograms(*_CALLS, bounds=REQUEST_SECONDS)
        self._errors = Counts("BrokerUnavailable", "BrokerRefused")

    def took(self, operation: str, seconds: float) -> None:
        """See `Watch`."""
        self._seconds[operation if operation in self._seconds else "other"].observe(seconds)

    def failed(self, error: GristmillError) -> None:
        """See `Watch`; what is wrong with a call, and not with the server, is none of it."""
        if isinstance(error, BrokerUnavailable | BrokerRefused):
            self._errors.add(type(error).__name__)

    def __call__(self, sheet: Sheet) -> None:
        """The section."""
        for call, seconds in self._seconds.items():
            sheet.histogram("gristmill_broker_seconds", seconds, call)
        sheet.counts("gristmill_broker_errors_total", self._errors)


class Start:
    """What the start of a process is at; a listener of `phases`."""

    def __init__(self, restarts: Mapping[str, int]) -> None:
        """`restarts`: how often it was started again, by cause."""
        self._restarts = restarts
        self._now: dict[int, str] = {}
        self._seconds = Counts(*PHASES)

    def hear(self, phase: Phase) -> None:
        """See `phases.Listener`."""
        word = phase.name.split(maxsplit=1)[0]
        if phase.over:
            self._now.pop(id(phase), None)
            self._seconds.add(word, phase.seconds)
        else:
            self._now[id(phase)] = word

    def __call__(self, sheet: Sheet) -> None:
        """The section."""
        now = set(self._now.values())
        for word in PHASES:
            sheet.put("gristmill_phase", word in now, word)
        sheet.counts("gristmill_phase_seconds_total", self._seconds)
        for cause in RESTARTS:
            sheet.put("gristmill_restarts_total", self._restarts.get(cause, 0), cause)
        sheet.put("gristmill_build_info", 1, *_versions())


@cache
def _versions() -> tuple[str, ...]:
    return __version__, platform.python_version(), *map(_version, ("torch", "transformers", "celery"))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def show_health(sheet: Sheet, heart: Heart) -> None:
    """Of this process alone; see `Heart.health` for all of its supervisor's."""
    health = judge([heart.pulse])
    sheet.put("gristmill_live", health.live)
    sheet.put("gristmill_ready", health.ready)
    sheet.put("gristmill_draining", heart.pulse.state == "draining")


def show_host(sheet: Sheet, host: Host, heart: Heart, timeout_s: float) -> None:
    """What a process serves and waits for; it ends where a batch takes longer than `timeout_s`."""
    sheet.put("gristmill_encode_timeout_seconds", timeout_s)
    waits = (
        host.notices.waits() | ({Waits.BROKER} if heart.unread else set()) | ({Waits.DEVICE} if _hangs(host) else set())
    )
    for cause in Waits:
        if cause is not Waits.BROKER_FULL:  # what the duty that reads the ledger knows
            sheet.put("gristmill_waiting", cause in waits, cause)
    sheet.put("gristmill_parcels_held", host.leases.held)
    sheet.put("gristmill_webhooks_delivered_total", sum(host.webhooks.delivered.all().values()))
    sheet.counts("gristmill_webhooks_retried_total", host.webhooks.retried)
    sheet.counts("gristmill_webhooks_given_up_total", host.webhooks.given_up)
    for engine in list(host.engines.values()):
        show_model(sheet, engine)
        show_engine(sheet, engine)
        show_queries(sheet, engine.info.model, host.queries[engine.digest])
    for reranker in list(host.rerankers.values()):
        show_info(sheet, reranker.info, reranker.device, str(reranker.status()["dtype"]))
        show_busy(sheet, reranker.info.model, reranker.busy_since)
        show_queries(sheet, reranker.info.model, host.queries[reranker.info.digest])


def _hangs(host: Host) -> bool:
    """Whether a batch has been on its device for longer than any that ends."""
    since = [
        *(engine.batcher.busy_since for engine in list(host.engines.values())),
        *(reranker.busy_since for reranker in list(host.rerankers.values())),
    ]
    return any(time.monotonic() - began > HUNG_S for began in since if began is not None)
