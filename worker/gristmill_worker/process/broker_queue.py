"""A look into the broker: what waits in a model's queue, without taking any of it."""

from __future__ import annotations

import redis

from gristmill.ingest.broker import queue_name
from gristmill.ledger.connection import broker_errors
from gristmill.settings import ClientSettings


class BrokerQueue:
    """The Redis list behind one model's Celery queue (kombu pushes left and pops right)."""

    def __init__(self, settings: ClientSettings, client: redis.Redis, model_digest: str) -> None:
        self._redis = client
        self._url = settings.redis_url
        self._key = f"{settings.key_prefix}:{queue_name(model_digest)}"

    def length(self) -> int:
        """Messages that wait."""
        with broker_errors(self._url):
            return int(self._redis.llen(self._key))
