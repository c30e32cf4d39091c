"""Notices: what this worker waits for or holds back, and what to check. A worker that waits in silence looks dead."""

from __future__ import annotations

import logging
import math
import threading
import time
from enum import StrEnum

from gristmill_schemas.errors import BrokerRefused, BrokerUnavailable, StoreRefused, StoreUnavailable, StoreUnfit
from gristmill_schemas.redaction import redact

log = logging.getLogger(__name__)


class Waits(StrEnum):
    """What a worker waits for, or holds back: one of few, for figures."""

    BROKER = "broker"  #: Redis is away, full, or denies something
    BROKER_FULL = "broker_full"  #: Redis has no memory left for producers
    STORE = "store"  #: Qdrant is away, limits us, or refuses whatever is written to a collection
    MODEL_SERVER = "model_server"
    DEVICE = "device"  #: a batch does not end
    COLLECTION = "collection"  #: one that is not there
    ALIKE = "alike"  #: documents fail in a row and alike, so none of them is given up
    DEAD_LETTERS = "dead_letters"  #: they have reached their mark
    MODEL = "model"  #: one of those that this worker was started with is not served
    QUERIES = "queries"  #: they come too late, or go back
    BULK_LOAD = "bulk_load"  #: one cannot be ended
    VERSION = "version"  #: a newer Gristmill wrote work that only a newer worker reads
    WEBHOOKS = "webhooks"  #: they wait for a worker that can send them

    @classmethod
    def of(cls, error: BaseException | None) -> Waits:
        """Whom an error speaks of."""
        if isinstance(error, StoreUnavailable | StoreRefused | StoreUnfit):
            return cls.STORE
        return cls.BROKER if isinstance(error, BrokerUnavailable | BrokerRefused) else cls.MODEL_SERVER


class Notices:
    """One text per cause. Shared by all threads; shown by heartbeats and `gristmill doctor`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[object, tuple[Waits, str, float]] = {}

    def put(self, cause: object, waits: Waits, text: str, for_s: float = math.inf) -> None:
        """Say it, until it is dropped, but no longer than `for_s`; logged where neither cause nor text is known."""
        text = redact(text)
        with self._lock:
            new = cause not in self._texts and all(text != known for _, known, _ in self._texts.values())
            self._texts[cause] = waits, text, time.monotonic() + for_s
        if new:
            log.warning("waiting: %s", text)

    def drop(self, cause: object) -> None:
        """The cause is gone; nothing happens where there was none."""
        with self._lock:
            self._texts.pop(cause, None)

    def all(self) -> list[str]:
        """What is being waited for, the longest first; each text once."""
        return list(dict.fromkeys(text for _, text, _ in self._now()))

    def waits(self) -> set[Waits]:
        """What it is that is being waited for."""
        return {waits for waits, _, _ in self._now()}

    def _now(self) -> list[tuple[Waits, str, float]]:
        now = time.monotonic()
        with self._lock:
            self._texts = {cause: said for cause, said in self._texts.items() if said[2] > now}
            return list(self._texts.values())
