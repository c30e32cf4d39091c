"""A server's life: it listens, loads, serves, and stops in its time.

start     it listens at once, so that probes are answered while models load
SIGTERM   new requests get 503, what runs is finished, for at most GRISTMILL_DRAIN_TIMEOUT_S; then the process ends.
          Once more: what runs gets 503 as well, and it ends at once
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import uvicorn

from gristmill_schemas.errors import InvalidInput
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.encoder import Encoder
from gristmill_worker.metering.meter import ModelMeter
from gristmill_worker.metering.sections import Section
from gristmill_worker.phases import phase
from gristmill_worker.pipeline.engine import load_encoder
from gristmill_worker.process.duties import Duties
from gristmill_worker.process.watches import hung_watch, sick_watch
from gristmill_worker.reranker.loading import load_reranker, of_reranker
from gristmill_worker.server.app import create_app
from gristmill_worker.server.encoding import Embedding
from gristmill_worker.server.live.live import Live
from gristmill_worker.server.metrics import Metrics
from gristmill_worker.server.protocol import HEAD_S, BoundedProtocol
from gristmill_worker.server.service import Phase, ServedEncoder, ServedReranker, Service, names_of
from gristmill_worker.settings import ServerSettings, of_each_model
from gristmill_worker.vital_threads import ends_within

log = logging.getLogger(__name__)

#: How often is looked whether a stop is over, seconds.
_LOOK_S = 0.05
#: How often is looked whether models are well, and how long a process lives on after one is sick, for the answers that
#: say so, seconds.
_WATCH_S, _LAST_ANSWERS_S = 1.0, 0.5
#: How long the last batch may take when nobody waits for it any more, seconds: a device or a model's server may hang.
_LAST_BATCH_S = 2.0
#: Connections that wait to be taken.
_BACKLOG = 2048


class HttpServer:
    """One service on one address. `run` it on a thread that may have an event loop of its own."""

    def __init__(self, service: Service, *, share: bool = False, mill: bool = False) -> None:
        """Listen; nothing is answered yet.

        Args:
            service: what is served.
            mill: this process works for Redis and Qdrant, so that there is something to see on a live page.
            share: let other processes that share it listen on the same port; the kernel gives each connection to one.

        Raises:
            InvalidInput: somebody else listens there, or the address is none of this machine's.
        """
        self.service = service
        self._drain_s = service.settings.drain_timeout_s
        self._embedding = Embedding(Metrics(service))
        self._live = Live(service) if Live.is_wanted(service.settings, mill=mill) else None
        application = create_app(service, self._embedding, self._live)
        self._socket = _listen(service.settings.serve_host, service.settings.serve_port, share=share)
        config = uvicorn.Config(
            application,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=int(HEAD_S),
            http=BoundedProtocol,
            ws="none",
        )
        self._server = _Uvicorn(config)
        self._stops = [threading.Event()]
        self._hurry = threading.Event()

    def show(self, sections: list[Section]) -> None:
        """Show a worker's metrics beside its own, here and there."""
        self._embedding.metrics.join(sections)

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def live(self) -> str:
        """Where the live page is; empty where there is none."""
        return f"{self.address}/live/" if self._live is not None else ""

    def run(self) -> None:
        """Answer until it is stopped."""
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        stop = asyncio.ensure_future(self._stop())
        if self._live is not None:
            self._live.start()
        try:
            await self._server.serve([self._socket])
        finally:
            stop.cancel()
            self._embedding.close()
            if self._live is not None:
                self._live.close()

    def stop(self) -> None:
        """Finish what runs and end; harmless when repeated, and in a signal handler."""
        self._stops[0].set()

    def hurry(self) -> None:
        """Wait for nothing that still runs, whoever asks for it gets 503; as harmless."""
        self._hurry.set()

    def stop_with(self, event: threading.Event) -> None:
        """Stop also when this is set."""
        self._stops.append(event)

    async def _stop(self) -> None:
        while not any(each.is_set() for each in self._stops):
            await asyncio.sleep(_LOOK_S)
        self.service.phase = Phase.STOPPING
        log.info("stopping: %d requests have %.0f s to end, once more ends them", self.service.requests, self._drain_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                while self.service.requests and not self._hurry.is_set():
                    await asyncio.sleep(_LOOK_S)
        self.service.over.set()
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    """Leaves signals to whoever owns the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def run_server(
    settings: ServerSettings, models: Sequence[str] = (), *, ready: Callable[[HttpServer], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: of this process.
        models: which models; none means the settings' one.
        ready: called when all models are loaded.

    Raises:
        ModelUnavailable, InvalidInput, Unavailable: the settings cannot work.
    """
    each = of_each_model(settings, models)
    names_of([one.model for one in each])  # before anything is loaded
    service = Service(settings)
    server = HttpServer(service)
    loading = _Loading(server, ready, lambda: _load(settings, each, service))
    watches = Duties("watches", {"models": (_WATCH_S, partial(_watch, service, settings.encode_timeout_s))})
    with _stopped_by_signals(server):
        loading.start()
        watches.start()
        server.run()
    watches.close()
    with ends_within(_LAST_BATCH_S, "a batch on the model"):
        for served in service.all:
            (served.batcher if isinstance(served, ServedEncoder) else served.reranker).close()
    loading.raise_failure()


def _watch(service: Service, hung_s: float) -> None:
    """End the process where a device is sick or hangs: in a new one it may be well, and whoever started this sees why."""
    for served in service.all:
        model = served.batcher if isinstance(served, ServedEncoder) else served.reranker
        hung_watch(partial(getattr, model, "busy_since"), hung_s)()
        sick_watch(partial(getattr, served, "sick"), partial(time.sleep, _LAST_ANSWERS_S))()


class _Loading(threading.Thread):
    """Loads models while the server answers probes."""

    def __init__(
        self, server: HttpServer, ready: Callable[[HttpServer], None] | None, load: Callable[[], None]
    ) -> None:
        super().__init__(name="gristmill-load", daemon=True)
        self._server, self._ready, self._load = server, ready, load
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Load, and end the server if that fails."""
        try:
            self._load()
        except BaseException as error:  # noqa: BLE001  # raised again by whoever started this
            self._failure = error
            self._server.stop()
            return
        service = self._server.service
        if service.phase is Phase.LOADING:
            service.phase = Phase.READY
            if self._ready is not None:
                self._ready(self._server)

    def raise_failure(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._failure is not None:
            raise self._failure


def _load(settings: ServerSettings, each: Sequence[ServerSettings], service: Service) -> None:
    for one, name in zip(each, names_of([one.model for one in each]), strict=True):
        service.serve(warmed(name, load_encoder(one)))
    for reranking in of_reranker(settings):
        service.serve(ServedReranker(names_of([reranking.model])[0], load_reranker(reranking)))


def warmed(name: str, encoder: Encoder) -> ServedEncoder:
    """A model with a batcher of its own, whose first texts are encoded."""
    with phase(f"warming up {encoder.info.model} on {encoder.device}"):
        meter = ModelMeter()
        return ServedEncoder(name, encoder, Batcher(encoder, meter=meter), meter)


@contextmanager
def _stopped_by_signals(server: HttpServer) -> Iterator[None]:
    asked = iter([server.stop])

    def handle(*_: object) -> None:
        next(asked, server.hurry)()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int, *, share: bool) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=share)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidInput(
            f"port: expected an address that is free on this machine, got {host}:{port} ({why}); give another with --host "
            "and --port, or 0 as the port for any",
            field="port",
        ) from None
