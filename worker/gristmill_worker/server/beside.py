"""`gristmill worker --serve`: a server in a worker's process, on the engines that work on its parcels.

Parcels and requests share one batcher: requests as short as a query go before parcels, longer ones in turns with them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from gristmill_worker.process.host import Host
from gristmill_worker.server.running import HttpServer
from gristmill_worker.server.service import Phase, ServedEncoder, ServedReranker, Service, names_of
from gristmill_worker.settings import ServerSettings
from gristmill_worker.vital_threads import end_process, vital_thread

log = logging.getLogger(__name__)

#: The time in which a server has a worker's engines.
Beside = AbstractContextManager[None]


@contextmanager
def serving_beside(settings: ServerSettings, *, share: bool = False) -> Iterator[Callable[[Host], Beside]]:
    """A server in a worker's process, on a thread of its own: it answers probes at once, and requests once it has a host.

    Args:
        settings: of the worker.
        share: see `HttpServer`.

    Yields:
        A call that gives the server the host's engines, to be made when they are warm. What it returns ends the server
        when it is left, which is to be before the engines are closed.
    """
    server = HttpServer(Service(settings), share=share, mill=True)
    thread = vital_thread("gristmill-http", server.run, end_process)
    thread.start()

    def end() -> None:
        server.stop()
        thread.join()

    with ExitStack() as closing:
        closing.callback(end)
        yield partial(_beside, server, end)


@contextmanager
def _beside(server: HttpServer, end: Callable[[], None], host: Host) -> Iterator[None]:
    service = server.service
    engines = list(host.engines.values())
    for name, engine in zip(names_of([each.info.model for each in engines]), engines, strict=True):
        service.serve(ServedEncoder(name, engine.encoder, engine.batcher, engine.meter))
    for reranker in host.rerankers.values():
        service.serve(ServedReranker(names_of([reranker.info.model])[0], reranker))
    server.show(host.figures)
    server.stop_with(host.draining)
    service.phase = Phase.READY
    keys = "with API keys" if service.keys else "without API keys"
    log.info("ready: HTTP at %s, %s%s", server.address, keys, f", live page at {server.live}" if server.live else "")
    try:
        yield
    finally:
        end()
