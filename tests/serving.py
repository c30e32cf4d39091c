"""A server of `gristmill serve` in a thread of the test, on a free port of this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from gristmill_worker.batching.canary import CANARY_TEXTS
from gristmill_worker.encoder import Encoder, TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.reranker.base import Reranker
from gristmill_worker.server.running import HttpServer, warmed
from gristmill_worker.server.service import Phase, ServedEncoder, ServedReranker, Service
from gristmill_worker.settings import ServerSettings


@dataclass(frozen=True)
class Serving:
    """A running server."""

    server: HttpServer
    http: httpx.Client
    thread: threading.Thread

    @property
    def service(self) -> Service:
        return self.server.service

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.thread.is_alive()

    @property
    def base_url(self) -> str:
        """What OpenAI's client takes."""
        return f"{self.server.address}/v1"

    def embed(self, **body: Any) -> httpx.Response:
        """POST /v1/embeddings."""
        return self.http.post("/v1/embeddings", json=body)


class Held(HashEncoder):
    """`hash:8` behind a door, at which what is launched waits until a test opens it; a text with `poison` has no vector."""

    def __init__(self, *, closed: bool = True) -> None:
        super().__init__(8)
        #: Texts of each launch, the canary's left out.
        self.batches: list[list[str]] = []
        self.door = threading.Event()
        if not closed:
            self.door.set()
        self.at_door = threading.Event()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        texts = [each.text for each in batch]
        if tuple(texts) != CANARY_TEXTS:
            self.at_door.set()
            assert self.door.wait(60)
            self.batches.append(texts)
        if "poison" in texts:
            raise RuntimeError("a kernel failed")
        return super().launch(batch)


@contextmanager
def served(
    encoders: Sequence[Encoder],
    rerankers: Sequence[Reranker] = (),
    *,
    phase: Phase = Phase.READY,
    port: int = 0,
    share: bool = False,
    **settings: Any,
) -> Iterator[Serving]:
    """Serve until the block ends; the encoders are closed with it."""
    service = Service(ServerSettings(serve_port=port, **settings))
    for encoder in encoders:
        service.serve(warmed(encoder.info.model, encoder))
    for reranker in rerankers:
        service.serve(ServedReranker(reranker.info.model, reranker))
    service.phase = phase
    server = HttpServer(service, share=share)
    thread = threading.Thread(target=server.run, name="test-server", daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=server.address, timeout=60) as http:
            yield Serving(server, http, thread)
    finally:
        server.stop()
        thread.join(60)
        for each in service.all:
            (each.batcher if isinstance(each, ServedEncoder) else each.reranker).close()
        assert not thread.is_alive()
