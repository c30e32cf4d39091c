"""Do workers hear? One message to each served model's queue, and a look whether it is taken.

A worker may live, and beat, and yet hear nothing: its broker is another one, or its consumer has silently stopped. A
message more than there is work for is harmless: whoever takes it finds nothing to claim.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import redis

from gristmill.ingest.broker import CeleryDispatcher, queue_name
from gristmill.ledger.connection import broker_errors
from gristmill.settings import ClientSettings
from gristmill_schemas.errors import GristmillError

#: Longest wait for a worker that has nothing else to do; it polls without a pause.
TAKEN_WITHIN_S = 5.0
_LOOK_S = 0.02

Status = Mapping[str, Any]


def deaf_models(
    settings: ClientSettings, client: redis.Redis, workers: Callable[[], Mapping[str, Status]]
) -> list[str]:
    """Models whose workers, though idle and willing, take no message of ours.

    Args:
        settings: of both.
        client: of the ledger's Redis, which is the broker too.
        workers: what they say of themselves now.

    Raises:
        BrokerUnavailable, BrokerRefused: nothing could be sent or looked at.
    """
    dispatcher = CeleryDispatcher(settings)
    try:
        return [
            model
            for digest, model in _served(workers()).items()
            if not _heard(dispatcher, settings, client, digest, lambda: _occupied(workers()))
        ]
    finally:
        dispatcher.close()


def _heard(
    dispatcher: CeleryDispatcher,
    settings: ClientSettings,
    client: redis.Redis,
    digest: str,
    occupied: Callable[[], set[str]],
) -> bool:
    key = f"{settings.key_prefix}:{queue_name(digest)}"
    with broker_errors(settings.redis_url):
        before = int(client.llen(key))
        dispatcher.publish(digest)
        until = time.monotonic() + TAKEN_WITHIN_S
        while int(client.llen(key)) > before:
            if time.monotonic() > until:
                return digest in occupied()
            time.sleep(_LOOK_S)
    return True


def _served(workers: Mapping[str, Status]) -> dict[str, str]:
    """Digests and names of all models that running workers serve."""
    return {engine["model_digest"]: str(engine["model"]) for _, engine in _engines(workers)}


def _occupied(workers: Mapping[str, Status]) -> set[str]:
    """Digests of the models whose workers have something to do, or a reason to rest."""
    return {
        engine["model_digest"]
        for status, engine in _engines(workers)
        if status.get("parcels") or status.get("notices") or status.get("draining")
    }


def _engines(workers: Mapping[str, Status]) -> Iterator[tuple[Status, Status]]:
    for status in workers.values():
        yield from ((status, engine) for engine in status.get("engines", []) if "model_digest" in engine)


def require_hearing(settings: ClientSettings, client: redis.Redis, workers: Callable[[], Mapping[str, Status]]) -> str:
    """That all hear, in words.

    Raises:
        GristmillError: some do not.
    """
    if deaf := deaf_models(settings, client, workers):
        raise GristmillError(
            f"the workers of {', '.join(deaf)} are alive but took no message within {TAKEN_WITHIN_S:.0f} s: compare their "
            "GRISTMILL_REDIS_URL and GRISTMILL_KEY_PREFIX with those below, look into their logs, or start them again"
        )
    return "workers take the messages that are sent from here"
