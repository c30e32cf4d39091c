"""The worker process: Celery on one side, the host with its engines on the other.

Start: load and warm the models, then announce them, then open the consumer: no message is taken that could not be served.
Stop (SIGTERM): take no more, finish what runs, hand back the rest, exit 0; see `drain`.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import celery.apps.worker
from celery import signals
from celery.exceptions import CPendingDeprecationWarning, Reject, SecurityWarning
from celery.worker.request import Request
from qdrant_client import QdrantClient
from redis import Redis

from gristmill.extras import brought_by
from gristmill.ingest.broker import WORK_TASK, CeleryDispatcher, create_celery, queue_name
from gristmill.ingest.scaling import looked_up
from gristmill.ingest.transport import redis_transport
from gristmill.ledger import RedisLedger
from gristmill.ledger.connection import connect
from gristmill.ledger.reading import RedisEvidence
from gristmill.maintenance.bulk_loads import BulkLoads
from gristmill.probes.pulse import PULSE_S
from gristmill.startup import await_servers
from gristmill.store.collections import Collections
from gristmill.store.connection import describe_transport, open_store, require_server
from gristmill_schemas.redaction import redact
from gristmill_worker.encoder import Encoder
from gristmill_worker.metering.sections import Section
from gristmill_worker.phases import told_to
from gristmill_worker.pipeline.bulk_loads import BULK_PERIOD_S, BulkLoadsOver
from gristmill_worker.pipeline.engine import Engine, load_encoder
from gristmill_worker.pipeline.handler import Handled
from gristmill_worker.pipeline.late_writes import PERIOD_S, LateWrites
from gristmill_worker.process.absent import LOOK_S, AbsentModels, load_present
from gristmill_worker.process.broker_queue import BrokerQueue
from gristmill_worker.process.drain import Drain
from gristmill_worker.process.duties import Duties
from gristmill_worker.process.guard import Guard, Parking, guarded_transport
from gristmill_worker.process.host import Host
from gristmill_worker.process.metrics.ledger import LEDGER_S, LedgerFigures
from gristmill_worker.process.metrics.worker import LedgerWatch, Start, show_health, show_host
from gristmill_worker.process.pulse import Heart
from gristmill_worker.process.queries.lane import QueryLane, Served
from gristmill_worker.process.reconciler import Reconciler
from gristmill_worker.process.watches import StallWatch, hung_watch, orphan_watch, progress_log, sick_watch
from gristmill_worker.reranker.loading import Scoring, load_reranker, of_reranker
from gristmill_worker.settings import WorkerSettings, of_each_model
from gristmill_worker.vital_threads import Exit

if TYPE_CHECKING:
    from celery import Celery, Task

log = logging.getLogger(__name__)

#: How often refused messages are put into their list.
_PARKING_S = 0.5
#: Objects made since, after which the garbage collector looks at them.
_YOUNG_OBJECTS = 20_000


def run_worker(
    settings: WorkerSettings,
    models: Sequence[str] = (),
    *,
    ready: Callable[[Host], None] | None = None,
    beside: Callable[[Host], AbstractContextManager[object]] | None = None,
    encoders: Sequence[Encoder] = (),
    supervisor: int | None = None,
    restarts: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: of this process; one process per accelerator.
        models: which models; none means the settings' one.
        ready: called when all models are warm and the consumer is about to start.
        beside: what uses the host's engines as well, from then until they are closed.
        encoders: loaded encoders of your own, instead of models.
        supervisor: process id of the parent, with which this process is to end; as it was known before this one began.
        restarts: how often that has started this process again, by cause.

    Raises:
        ModelUnavailable, InvalidInput: the settings cannot work; nothing was taken.
        BrokerUnavailable, StoreUnavailable: not there in time; found out before a model is loaded.
        ServerTooOld: so is this.
    """
    again = threading.Event()
    drain = Drain(settings.drain_timeout_s, lambda: Exit.AGAIN if again.is_set() else 0)
    with ExitStack() as closing:
        closing.enter_context(drain.heard())
        # From here on: loading a model, or waiting for its server, takes minutes.
        heart = Heart(supervisor)
        closing.callback(heart.close)
        orphaned = Duties("orphan-watch", {"orphan watch": (1.0, orphan_watch(supervisor)), "pulse": (PULSE_S, heart)})
        closing.callback(orphaned.close)
        orphaned.start()
        start = Start(restarts)
        figures: list[Section] = [start, partial(show_health, heart=heart)]
        closing.enter_context(_metrics(settings, figures, heart))
        client = connect(settings)
        closing.callback(client.close)
        ledger = RedisLedger(settings, client)
        ledger.watch = watch = LedgerWatch()
        figures.append(watch)
        store = open_store(settings)
        closing.callback(store.close)
        # Before a model is loaded: a wrong address should not cost its time.
        await_servers(_looks(settings, ledger, store), settings.start_wait_s, log.warning)
        log.info(
            "Qdrant %s at %s, %s",
            require_server(store),
            redact(settings.qdrant_url),
            describe_transport(settings),
        )
        dispatcher = CeleryDispatcher(settings)
        closing.callback(dispatcher.close)
        host = Host(settings, ledger, store, Collections(store), dispatcher.publish)
        closing.callback(host.close)
        host.load(
            [encoder.info.model for encoder in encoders] or [each.model for each in of_each_model(settings, models)]
        )
        host.figures = figures
        figures.append(partial(show_host, host=host, heart=heart, timeout_s=settings.encode_timeout_s))
        closing.enter_context(told_to(start.hear))
        present, absent = (
            (list(encoders), []) if encoders else load_present(of_each_model(settings, models), load_encoder)
        )
        for encoder in present:
            host.add(encoder)
        rerankers, no_reranker = load_present(of_reranker(settings), load_reranker, some=False)
        for reranker in rerankers:
            host.add_reranker(reranker)
        lanes = _lanes(settings, client, host)
        queues = {digest: BrokerQueue(settings, client, digest) for digest in host.engines}
        chores: dict[str, tuple[float, Callable[[], None]]] = {
            f"reconciler of {engine.encoder.info.model}": (
                settings.reconcile_every_s,
                Reconciler(
                    ledger,
                    dispatcher,
                    queues[digest],
                    digest,
                    holder=host.worker_id,
                    period_s=settings.reconcile_every_s,
                ),
            )
            for digest, engine in host.engines.items()
        }
        if settings.metrics_port is not None or beside is not None:
            looked = LedgerFigures(settings, ledger, client)
            figures.append(looked)
            chores["metrics of the ledger"] = (LEDGER_S, looked.read)
        evidence = RedisEvidence(ledger)
        parking = Parking(evidence, host.clock)
        guard = Guard(host.engines, host.accepts, parking)
        stalled = StallWatch(lambda: _takable(guard, queues), lambda: host.leases.held, lambda: guard.taken)
        if absent:
            absent_models = AbsentModels(absent, load_encoder, host.notices, lambda: _start_again(again))
            chores["absent models"] = (LOOK_S, absent_models)
        if no_reranker:
            absent_reranker = AbsentModels(no_reranker, load_reranker, host.notices, lambda: _start_again(again))
            chores["absent reranker"] = (LOOK_S, absent_reranker)
        late = LateWrites(ledger, store, Collections(store), holder=host.worker_id)
        loads = BulkLoadsOver(
            ledger, host.collections, BulkLoads(store, ledger, evidence), host.notices, holder=host.worker_id
        )
        chores |= {"stall watch": (5.0, stalled), "late writes": (PERIOD_S, late), "bulk loads": (BULK_PERIOD_S, loads)}
        host.start(_watches(settings, host), chores)
        for lane in lanes:
            lane.start()
            closing.callback(lane.close)
        closing.enter_context(_rarely_collected())
        heart.attend(host, lambda: guard.looked_at)
        if ready is not None:
            ready(host)
        if beside is not None:
            closing.enter_context(beside(host))
        clerk = Duties("parking", {"refused messages": (_PARKING_S, parking.flush)})
        closing.callback(clerk.close)
        clerk.start()
        drain.takes(host)
        _consume(settings, host, drain, guarded_transport(guard, redis_transport(settings)))
        if again.is_set():
            raise SystemExit(Exit.AGAIN)


def _metrics(settings: WorkerSettings, figures: list[Section], heart: Heart) -> AbstractContextManager[object]:
    """The port, where one is wanted; only then its packages are loaded."""
    if settings.metrics_port is None:
        return nullcontext()
    with brought_by("worker", "GRISTMILL_METRICS_PORT"):
        from gristmill_worker.process.metrics.port import metrics_port
    return metrics_port(
        settings.metrics_host, settings.metrics_port, figures, heart.health, partial(looked_up, settings)
    )


def _lanes(settings: WorkerSettings, connection: Redis, host: Host) -> list[QueryLane]:
    """One for each model and each reranker."""
    scoring = [Scoring(each, host.clock) for each in host.rerankers.values()]
    served: list[Served] = [*host.engines.values(), *scoring]
    return [
        QueryLane(settings, connection, each, host.queries[each.info.digest], host.clock, host.notices, host.draining)
        for each in served
    ]


def _looks(settings: WorkerSettings, ledger: RedisLedger, store: QdrantClient) -> dict[str, Callable[[], object]]:
    redis, qdrant = redact(settings.redis_url), redact(settings.qdrant_url)
    return {f"Redis at {redis}": ledger.now, f"Qdrant at {qdrant}": lambda: require_server(store)}


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Let the garbage collector leave alone what stays for good, and look at the rest less often.

    Libraries and models are hundreds of thousands of objects. Records come and go by the thousand without ever forming a
    circle: at Python's own thresholds a tenth of a worker's time goes into looking for some.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _start_again(again: threading.Event) -> None:
    again.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _takable(guard: Guard, queues: Mapping[str, BrokerQueue]) -> int:
    """Messages that this worker would take now. One that rests on purpose has not stalled."""
    return sum(queue.length() for digest, queue in queues.items() if guard.willing(queue_name(digest)))


def _watches(settings: WorkerSettings, host: Host) -> dict[str, tuple[float, Callable[[], None]]]:
    watches: dict[str, tuple[float, Callable[[], None]]] = {}
    for engine in host.engines.values():
        name, batcher = engine.encoder.info.model, engine.batcher
        watches |= {
            f"hung watch of {name}": (
                5.0,
                hung_watch(partial(getattr, batcher, "busy_since"), settings.encode_timeout_s),
            ),
            f"sick watch of {name}": (0.2, sick_watch(partial(getattr, batcher, "sick"), host.leases.settle)),
            f"progress of {name}": (10.0, progress_log(engine.status)),
        }
    for reranker in host.rerankers.values():
        name = reranker.info.model
        hung = hung_watch(partial(getattr, reranker, "busy_since"), settings.encode_timeout_s)
        sick = sick_watch(partial(getattr, reranker, "sick"), host.leases.settle)
        watches |= {f"hung watch of {name}": (5.0, hung), f"sick watch of {name}": (0.2, sick)}
    return watches


def _consume(settings: WorkerSettings, host: Host, drain: Drain, transport: type) -> None:
    app = create_celery(settings)
    app.conf.broker_transport = transport
    register_task(app, host.engines)

    def on_shutdown(**_: Any) -> None:
        drain.begin()

    def on_ready(**_: Any) -> None:
        if drain.asked:  # before Celery listened, and what our handler raised was lost
            os.kill(os.getpid(), signal.SIGTERM)

    signals.worker_ready.connect(on_ready, weak=False)
    signals.worker_shutting_down.connect(on_shutdown, weak=False)
    signals.setup_logging.connect(_keep_our_logging, weak=False)
    # JSON only, so nothing in the queue can run code: that Celery dislikes root (containers!) is not worth a warning.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # Celery writes about its shutdown past the log; `drain` says it there.
    celery.apps.worker.safe_say = _say_nothing
    worker = app.Worker(
        pool="threads",
        concurrency=settings.threads * len(host.engines),
        queues=[queue_name(digest) for digest in host.engines],
        hostname=f"gristmill-{host.worker_id}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    # Work is claimed from the ledger: a message that comes again after a lost connection does not bring it twice. Only now,
    # since a worker that is made turns this warning on.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    try:
        worker.start()
    finally:
        signals.worker_ready.disconnect(on_ready)
        signals.worker_shutting_down.disconnect(on_shutdown)
    if worker.exitcode:
        raise SystemExit(worker.exitcode)


def register_task(app: Celery, engines: dict[str, Engine]) -> None:
    """Bind Gristmill's one task to the engines; a message says which of them has work waiting."""
    again: set[str] = set()

    # Not shared: each app's messages are its own.
    @app.task(  # type: ignore[untyped-decorator]  # celery has no types
        name=WORK_TASK, bind=True, shared=False, acks_late=True, ignore_result=True, Request=_put_back(again)
    )
    def work(self: Task, model_digest: str) -> None:
        engine = engines[model_digest]  # the guard lets no message through that is meant for another queue
        try:
            handled = engine.process()
        except BaseException as error:
            # Celery would keep the message, and this thread's place with it, for ever. The parcel's lease runs out.
            log.critical("a task thread was torn out of its work", exc_info=True)
            raise Reject(f"{type(error).__name__}: {error}", requeue=True) from error
        if handled is Handled.LATER:
            again.add(self.request.id)


def _put_back(again: set[str]) -> type[Request]:
    """Messages whose ids are in a set go back into the queue where others are acknowledged.

    Celery's own way, to raise `Reject`, costs a millisecond of Python, in which nobody else computes any: it copies the
    traceback with every position in its code. A worker whose model is slow has one for about every parcel.
    """

    class PutBack(Request):  # type: ignore[misc]  # celery has no types
        def acknowledge(self) -> None:
            if self.id in again:
                again.remove(self.id)
                self.reject(requeue=True)
            else:
                super().acknowledge()

    return PutBack


def _say_nothing(*_: object) -> None:
    return


def _keep_our_logging(**_: Any) -> None:
    return
