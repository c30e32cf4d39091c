"""The broker: how workers hear that there is work for their model. Celery's settings for both ends, in one place.

Every choice here answers something measured; see `docs/explanation/celery.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from gristmill.ledger.connection import broker_errors
from gristmill.settings import ClientSettings

if TYPE_CHECKING:
    from celery import Celery

#: Name of the one Celery task: work on whatever the ledger gives for the model whose digest is its argument.
WORK_TASK = "gristmill.work"
#: Most connections that one dispatcher opens; threads beyond it wait for each other.
_CONNECTIONS = 10


#: A task handles up to so many parcels, one after the other, while there are any: Celery and kombu spend 1 to 4 ms of CPU
#: on a message, as much as the ledger spends on several parcels.
PARCELS_PER_MESSAGE = 16
#: For so long at most: then its message goes back into the queue, and with it the other workers get their share.
MESSAGE_S = 5.0
#: The first parcels get a message each, so that a short job has as many threads as it has parcels.
_EAGER = 16


def messages_for(parcels: int) -> int:
    """Messages that so many waiting parcels want; a stream sends them, and those of `announcing` beside them."""
    return min(parcels, _EAGER) + -(-max(0, parcels - _EAGER) // PARCELS_PER_MESSAGE)


class Dispatcher(Protocol):
    """Tells workers that there is work for a model. Telling twice is harmless, and what gets lost is told again."""

    def publish(self, model_digest: str, count: int = 1) -> None:
        """Send `count` messages to the queue of that model; `messages_for` says how many.

        Raises:
            BrokerUnavailable: not all of them were sent; the reconciler will send the rest.
        """

    def close(self) -> None:
        """Give connections back."""


def queue_name(model_digest: str) -> str:
    """One queue per model: a worker hears only of work that its model can do."""
    return f"bulk.{model_digest[:16]}"


def celery_config(settings: ClientSettings) -> dict[str, Any]:
    """Celery's settings, the same for producers and workers."""
    return {
        # For its messages: connections are made by `transport.py`.
        "broker_url": settings.redis_address.label,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            # Every key of kombu's too, so that installations can share one Redis.
            "global_keyprefix": f"{settings.key_prefix}:",
            "health_check_interval": 25,
        },
        # JSON and nothing else: a forged message must not be able to run code.
        "task_serializer": "json",
        "accept_content": ["json"],
        # Progress is counted in the ledger; results would cost Redis a key per task.
        "task_ignore_result": True,
        "result_backend": None,
        # One for all threads: Celery would make one in each, and look through every installed package to do so.
        "result_backend_thread_safe": True,
        # The message is acknowledged when the ledger says done.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "task_create_missing_queues": True,
        "task_publish_retry_policy": {
            "max_retries": 3,
            "interval_start": 0.1,
            "interval_step": 0.3,
            "interval_max": 1.0,
        },
    }


def create_celery(settings: ClientSettings) -> Celery:
    """A Celery app of its own: told by these settings alone, and never the process's default app."""
    from gristmill.ingest.celery_app import OwnCelery  # late: an application that only searches needs no Celery

    return OwnCelery("gristmill", celery_config(settings))


class CeleryDispatcher:
    """`Dispatcher` over Celery on Redis."""

    def __init__(self, settings: ClientSettings) -> None:
        from kombu.pools import ProducerPool  # with Celery

        from gristmill.ingest.transport import redis_transport

        self._app = create_celery(settings)
        self._app.conf.broker_transport = redis_transport(settings)
        self._url = settings.redis_url
        # Of its own: Celery's pools are one per process and URL, and whoever closes them closes them for all.
        self._connections = self._app.connection_for_write().Pool(_CONNECTIONS)
        self._producers: Any = ProducerPool(self._connections, limit=_CONNECTIONS)  # type: ignore[no-untyped-call]  # kombu's

    def publish(self, model_digest: str, count: int = 1) -> None:
        """See `Dispatcher.publish`."""
        from kombu.exceptions import OperationalError

        from gristmill_schemas.errors import BrokerUnavailable

        with broker_errors(self._url):
            try:
                with self._producers.acquire(block=True) as producer:
                    for _ in range(count):
                        self._send(model_digest, producer)
            except OperationalError as error:  # what redis-py said, wrapped by kombu
                raise error.__cause__ or BrokerUnavailable(f"the message could not be queued: {error}") from error

    def _send(self, model_digest: str, producer: Any) -> None:
        self._app.send_task(
            WORK_TASK,
            args=(model_digest,),
            queue=queue_name(model_digest),
            producer=producer,
            argsrepr=repr((model_digest,)),
            kwargsrepr="{}",
            ignore_result=True,
        )

    def close(self) -> None:
        """Give connections back."""
        self._connections.force_close_all()
        self._app.close()
