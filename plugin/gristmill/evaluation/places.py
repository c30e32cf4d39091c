"""Where a configuration is searched: a live collection, or documents encoded for this alone and forgotten afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from gristmill.client import Client
from gristmill.evaluation.configurations import Configuration
from gristmill.evaluation.questions import documents_beside
from gristmill.ingest.jobs import Job
from gristmill.readers import Item, read
from gristmill.settings import ClientSettings
from gristmill_schemas.errors import InvalidInput

#: Told of each job of documents: it waits until they are stored.
Watch = Callable[[Job], object]


class Places:
    """Clients and collections, opened when they are first needed, each once; all end with the block.

    Documents are kept in memory; or, with `on_server` (quantization needs one), in collections of their own on the server
    of GRISTMILL_QDRANT_URL, which are deleted at the end.
    """

    def __init__(self, open_client: Callable[[], Client], watch: Watch, *, on_server: bool = False) -> None:
        self._open = open_client
        self._watch = watch
        self._on_server = on_server
        self._ends = ExitStack()
        self._live: Client | None = None
        self._held: dict[tuple[str | None, ...], tuple[Client, str]] = {}

    def __enter__(self) -> Places:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def of(self, configuration: Configuration) -> tuple[Client, str]:
        """The client and the name of the collection.

        Raises:
            InvalidInput: it names no documents, or a collection and what only documents can have.
            ModelUnavailable, CollectionNotFound, StoreUnavailable, StoreRefused.
        """
        if configuration.collection is None:
            return self._documents(configuration)
        for name in ("documents", "model", "quantization"):
            if getattr(configuration, name) is not None:
                raise InvalidInput(
                    f"{name}: expected none beside a collection, which has its own: compare two collections "
                    "(--against collection=OTHER), or give --documents FILE",
                    field=name,
                )
        if self._live is None:
            self._live = self._ends.enter_context(self._open())
        return self._live, configuration.collection

    def _documents(self, configuration: Configuration) -> tuple[Client, str]:
        if configuration.documents is None:
            raise InvalidInput(
                "collection: expected --collection NAME, or --documents FILE --model M: these questions come without "
                "documents",
                field="collection",
            )
        reranker = configuration.rerank if isinstance(configuration.rerank, str) else None
        key = (configuration.documents, configuration.model, configuration.quantization, reranker)
        if key not in self._held:
            self._held[key] = self._store(configuration, reranker)
        return self._held[key]

    def _store(self, configuration: Configuration, reranker: str | None) -> tuple[Client, str]:
        if configuration.quantization and not self._on_server:
            raise InvalidInput(
                "quantization: expected none for documents in memory, since Qdrant's local mode has none, got "
                f"{configuration.quantization!r}: --on-server keeps them on the server of GRISTMILL_QDRANT_URL meanwhile",
                field="quantization",
            )
        documents = documents_of(str(configuration.documents))
        client = self._ends.enter_context(self._embedded(configuration.model, reranker))
        name = f"gristmill-eval-{uuid.uuid4().hex[:12]}"
        client.create_collection(name, quantization=configuration.quantization)
        self._ends.callback(client.collections.delete, name)
        self._watch(client.enqueue(name, documents))
        return client, name

    def _embedded(self, model: str | None, reranker: str | None) -> Client:
        options: dict[str, Any] = {"model": model, "reranker": reranker}
        path = ClientSettings().qdrant_url if self._on_server else ":memory:"
        return Client.embedded(path, **{name: value for name, value in options.items() if value is not None})


def documents_of(source: str) -> Iterable[Item]:
    """Documents of a set that ships, a BEIR folder, or any file that `gristmill ingest` reads."""
    try:
        beside = documents_beside(source)
    except InvalidInput:  # no set, and no file: what reads files says which it misses
        beside = None
    return read(source) if beside is None else beside()
