"""What the ledger and its server hold: read now and then by a duty, so that no scrape waits for Redis."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

import redis

from gristmill.ingest.queue import queue_report
from gristmill.ledger import Ledger, Load
from gristmill.ledger.connection import broker_errors
from gristmill.maintenance.troubles.observed import FULL_SHARE, Memory
from gristmill.search.query_channel import waiting_queries
from gristmill.settings import ClientSettings
from gristmill_schemas import ModelQueue
from gristmill_worker.metering.meter import Source
from gristmill_worker.metering.sections import Sheet
from gristmill_worker.waiting.notices import Waits

#: How often it is read.
LEDGER_S: Final = 5.0


class LedgerFigures:
    """A duty, and a section of what it has read."""

    def __init__(self, settings: ClientSettings, ledger: Ledger, client: redis.Redis) -> None:
        self._settings = settings
        self._ledger = ledger
        self._redis = client
        self._may_ask = True
        self._load: Load | None = None
        self._webhooks = 0
        #: Tenants with work, and those of them that are held up.
        self._tenants = self._limited = 0
        self._queues: tuple[ModelQueue, ...] = ()
        #: Queries that wait, and for how long the one that is taken next, by model.
        self._queries: dict[str, tuple[int, float]] = {}
        self._letters: Counter[str] = Counter()
        self._memory: Memory | None = None
        self._read_at = 0.0

    def read(self) -> None:
        """Read; what cannot be read stays as it was."""
        self._load = self._ledger.load()
        self._queues = queue_report(self._ledger, jobs=0).models
        self._webhooks = self._ledger.webhooks.count()
        self._tenants, self._limited = self._ledger.tenants.count(), len(self._ledger.tenants.limited())
        now = self._ledger.now()
        with broker_errors(self._settings.redis_url):
            self._queries = {
                each: self._waiting_queries(each, now) for each in {it.model_digest for it in self._queues}
            }
        letters: Counter[str] = Counter()
        for (error, _), count in self._ledger.dead_summary().items():
            letters[error] += count
        self._letters = letters + Counter(dict.fromkeys(self._letters, 0))
        self._memory = self._look_at_memory() if self._may_ask else None
        self._read_at = time.monotonic()

    def _waiting_queries(self, digest: str, now: float) -> tuple[int, float]:
        count, asked_at = waiting_queries(self._redis, self._settings.key_prefix, digest)
        return count, 0.0 if asked_at is None else max(0.0, now - asked_at)

    def _look_at_memory(self) -> Memory | None:
        with broker_errors(self._settings.redis_url):
            try:
                found = self._redis.info("memory")
            except redis.exceptions.NoPermissionError:
                self._may_ask = False
                return None
        return Memory(int(found.get("used_memory", 0)), int(found.get("maxmemory", 0)))

    def __call__(self, sheet: Sheet) -> None:
        """The section."""
        if self._load is None:
            return
        for queue in self._queues:
            self._show_queue(sheet, queue)
        for name, value in (
            ("parcels", self._load.parcels),
            ("documents", self._load.documents),
            ("bytes", self._load.bytes),
        ):
            sheet.put(f"gristmill_ledger_{name}", value)
        sheet.put("gristmill_webhooks_undelivered", self._webhooks)
        sheet.put("gristmill_tenants_waiting", self._tenants)
        sheet.put("gristmill_tenants_limited", self._limited)
        sheet.put("gristmill_ledger_limit_bytes", self._settings.queue_max_bytes)
        for reason, count in self._letters.items():
            sheet.put("gristmill_dead_letters_kept", count, reason)
        sheet.put("gristmill_dead_letter_bytes", self._load.dead_bytes)
        sheet.put("gristmill_dead_letter_limit_bytes", self._settings.dead_max_bytes)
        if self._memory is not None:
            sheet.put("gristmill_broker_memory_bytes", self._memory.used)
            if self._memory.limit:
                sheet.put("gristmill_broker_memory_limit_bytes", self._memory.limit)
            sheet.put("gristmill_waiting", self._memory.share >= FULL_SHARE, Waits.BROKER_FULL)
        sheet.put("gristmill_ledger_read_age_seconds", time.monotonic() - self._read_at)

    def _show_queue(self, sheet: Sheet, queue: ModelQueue) -> None:
        of = queue.model, queue.model_digest[:12]
        sheet.put("gristmill_queue_depth", queue.parcels - queue.held_parcels, *of, Source.BULK)
        queries, query_age_s = self._queries.get(queue.model_digest, (0, 0.0))
        sheet.put("gristmill_queue_depth", queries, *of, Source.INTERACTIVE)
        sheet.put("gristmill_queue_oldest_seconds", queue.oldest_waiting_s or 0.0, *of, Source.BULK)
        sheet.put("gristmill_queue_oldest_seconds", query_age_s, *of, Source.INTERACTIVE)
        sheet.put("gristmill_queue_parcels", queue.parcels, *of)
        sheet.put("gristmill_queue_held_parcels", queue.held_parcels, *of)
        sheet.put("gristmill_queue_documents", queue.documents, *of)
        sheet.put("gristmill_queue_tokens", queue.tokens, *of)
        sheet.put("gristmill_queue_workers", queue.workers, *of, "serving")
        sheet.put("gristmill_queue_workers", queue.loading, *of, "loading")
        if queue.seconds is not None:
            sheet.put("gristmill_queue_work_seconds", queue.seconds, *of)
