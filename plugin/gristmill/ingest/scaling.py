"""What autoscalers are told: how many seconds of work wait for each model, as one worker would need them.

Not as all that live would: their number must not be part of what decides about it, or the more there are the fewer are asked
for. An autoscaler divides the seconds by those that work may wait, and has as many workers as that gives
(`docs/howto/scale.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from typing import Any

from gristmill.ingest.queue import queue_report
from gristmill.ledger import Ledger, RedisLedger
from gristmill.ledger.capacity import seconds_key
from gristmill.ledger.connection import connect
from gristmill.models import digest_of
from gristmill.settings import ClientSettings
from gristmill_schemas import ModelQueue
from gristmill_schemas.errors import GristmillError, NoWorker


def scaling_signal(ledger: Ledger, key_prefix: str, model: str | None = None) -> dict[str, Any]:
    """The signal of one model, or of all of them, and the sum.

    Args:
        ledger: what waits.
        key_prefix: of the installation.
        model: name or digest.

    Raises:
        NoWorker: no worker has ever announced this model.
        BrokerUnavailable, BrokerRefused.
    """
    queues = {each.model_digest: each for each in queue_report(ledger).models}
    if model is None:
        every = [_signal(ledger, key_prefix, each) for each in queues.values()]
        return {"seconds": sum(each["seconds"] for each in every), "models": every}
    digest = digest_of(ledger, model)
    if digest is None:
        known = ", ".join(info.model for info in ledger.models()) or "none"
        raise NoWorker(
            f"model: no worker has announced {model!r} (announced: {known}); start one once: `gristmill worker "
            f"--model {model}`",
            field="model",
            model=model,
        )
    nothing = ModelQueue(model=model, model_digest=digest, parcels=0, documents=0, tokens=0, held_parcels=0)
    return _signal(ledger, key_prefix, queues.get(digest, nothing))


def _signal(ledger: Ledger, key_prefix: str, queue: ModelQueue) -> dict[str, Any]:
    kept = ("model", "model_digest", "documents", "tokens", "workers", "loading")
    return {
        "seconds": ledger.work_seconds(queue.model_digest),
        "list": seconds_key(key_prefix, queue.model_digest),
        **{name: getattr(queue, name) for name in kept},
    }


def looked_up(settings: ClientSettings, model: str | None) -> tuple[HTTPStatus, Mapping[str, Any]]:
    """See `answer_scale`, on a connection of its own: for who is asked a few times a minute."""
    with closing(connect(settings)) as client:
        return answer_scale(RedisLedger(settings, client), settings.key_prefix, model)


def answer_scale(ledger: Ledger, key_prefix: str, model: str | None) -> tuple[HTTPStatus, Mapping[str, Any]]:
    """What a server answers to `GET /scale?model=…`: status and JSON object; without a model, all of them."""
    try:
        return HTTPStatus.OK, scaling_signal(ledger, key_prefix, model)
    except NoWorker as error:
        return HTTPStatus.NOT_FOUND, {"error": str(error)}
    except GristmillError as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)}
