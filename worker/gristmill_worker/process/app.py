"""The worker process: Celery on one side, the engine on the other.

Start: load and warm the model, then announce it, then open the consumer: no message is taken that could not be encoded.
Stop (SIGTERM): take no more, finish what runs, hand back what waits for a server that is away, exit 0.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.exceptions import Reject, SecurityWarning

from gristmill.ingest.broker import WORK_TASK, CeleryDispatcher, create_celery, queue_name
from gristmill.ledger import RedisLedger
from gristmill.ledger.reading import Evidence, RedisEvidence
from gristmill.store.collections import Collections
from gristmill.store.connection import open_store, require_server
from gristmill_worker.encoder import Encoder
from gristmill_worker.pipeline.engine import Engine, load_encoder
from gristmill_worker.pipeline.leases import EXIT_HUNG
from gristmill_worker.pipeline.pipeline import Handled, Pipeline
from gristmill_worker.process.broker_queue import BrokerQueue
from gristmill_worker.process.guard import guarded_transport, park_in
from gristmill_worker.process.query_lane import QueryLane
from gristmill_worker.process.reconciler import Reconciler
from gristmill_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

#: With work waiting and nothing in hand for this long, the consumer has silently stopped (celery#10302).
_STALLED_S = 60.0


def run_worker(
    settings: WorkerSettings, ready: Callable[[Engine], None] | None = None, encoder: Encoder | None = None
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: of this process; one process per accelerator.
        ready: called when the model is warm and the consumer is about to start.
        encoder: a loaded encoder of your own, instead of the settings' model.

    Raises:
        ModelUnavailable, InvalidInput: the settings cannot work; nothing was taken.
        BrokerUnavailable, StoreUnavailable, ServerTooOld: found out before the model is loaded.
    """
    with ExitStack() as closing:
        ledger = RedisLedger(settings)
        closing.callback(ledger.close)
        ledger.now()  # a wrong address should not cost a model's loading time
        store = open_store(settings)
        closing.callback(store.close)
        require_server(store)
        dispatcher = CeleryDispatcher(settings)
        closing.callback(dispatcher.close)
        encoder = encoder or load_encoder(settings)
        queue = BrokerQueue(settings, encoder.info.digest)
        closing.callback(queue.close)
        reconciler = Reconciler(
            ledger,
            dispatcher,
            queue,
            encoder.info.digest,
            f"{os.getpid()}-{time.time_ns()}",
            settings.reconcile_every_s,
        )
        engine = Engine(
            settings,
            encoder,
            ledger,
            store,
            Collections(store),
            publish=dispatcher.publish,
            duties={
                "reconciler": (settings.reconcile_every_s, reconciler),
                "stall watch": (5.0, StallWatch(queue, lambda: engine.keeper.held)),
                "orphan watch": (1.0, orphan_watch()),
                "progress": (10.0, progress_log(lambda: engine.status())),
            },
        )
        closing.callback(engine.close)
        lane = QueryLane(settings, engine)
        engine.start()
        lane.start()
        closing.callback(lane.close)
        if ready is not None:
            ready(engine)
        evidence = RedisEvidence(settings)
        closing.callback(evidence.close)
        _consume(settings, engine, evidence)


def _consume(settings: WorkerSettings, engine: Engine, evidence: Evidence) -> None:
    app = create_celery(settings)
    app.conf.broker_transport = guarded_transport(park_in(evidence))
    register_task(app, engine.pipeline)

    def on_shutdown(**_: Any) -> None:
        engine.drain()
        # What has not finished by then goes back to the ledger.
        timer = threading.Timer(settings.drain_timeout_s, engine.batcher.close)
        timer.daemon = True
        timer.start()

    signals.worker_shutting_down.connect(on_shutdown, weak=False)
    signals.setup_logging.connect(_keep_our_logging, weak=False)
    # JSON only, so nothing in the queue can run code: that Celery dislikes root (containers!) is not worth a warning.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = app.Worker(
        pool="threads",
        concurrency=settings.threads,
        queues=[queue_name(engine.encoder.info.digest)],
        hostname=f"gristmill-{engine.worker_id}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    try:
        worker.start()
    finally:
        signals.worker_shutting_down.disconnect(on_shutdown)
    if worker.exitcode:
        raise SystemExit(worker.exitcode)


def register_task(app: Celery, pipeline: Pipeline) -> None:
    """Bind Gristmill's one task to a pipeline."""

    @app.task(name=WORK_TASK, acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]  # celery has no types
    def work(model_digest: str) -> None:
        if pipeline.process() is Handled.LATER:
            raise Reject("not decided yet", requeue=True)


def _keep_our_logging(**_: Any) -> None:
    return


class StallWatch:
    """A duty that ends the process when work waits in the queue and this worker pulls none of it."""

    def __init__(self, queue: BrokerQueue, held: Callable[[], int]) -> None:
        self._queue = queue
        self._held = held
        self._since: float | None = None

    def __call__(self) -> None:
        """One look."""
        if self._held() or not self._queue.length():
            self._since = None
            return
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since > _STALLED_S:
            log.critical("work has waited for %.0f s and nothing pulls it: giving this process up", _STALLED_S)
            logging.shutdown()
            os._exit(EXIT_HUNG)


def progress_log(status: Callable[[], dict[str, Any]]) -> Callable[[], None]:
    """A duty that logs what was done since its last look, where anything was."""
    before: dict[str, Any] = {"texts": 0, "tokens": 0, "idle": {}}
    at = time.monotonic()

    def look() -> None:
        nonlocal before, at
        now, seconds = status(), time.monotonic() - at
        texts, tokens = now["texts"] - before["texts"], now["tokens"] - before["tokens"]
        if texts:
            idle = {cause: now["idle"][cause] - before["idle"].get(cause, 0.0) for cause in now["idle"]}
            shares = ", ".join(f"{cause} {value / seconds:.0%}" for cause, value in idle.items())
            log.info("%.0f texts/s, %.0f tokens/s; model: %s", texts / seconds, tokens / seconds, shares)
        before, at = now, time.monotonic()

    return look


def orphan_watch() -> Callable[[], None]:
    """A duty that drains this process when its supervisor is gone."""
    parent = os.getppid()

    def watch() -> None:
        if os.getppid() != parent:
            log.warning("the supervisor is gone: draining")
            os.kill(os.getpid(), signal.SIGTERM)

    return watch
