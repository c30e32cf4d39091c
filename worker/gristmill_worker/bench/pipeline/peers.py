"""Peers: what else brings documents into Qdrant, each in the form of its documentation that is fastest.

All get the vectors that the workers made, for nothing, and write over gRPC into a collection without payload indexes. Texts
are not split, since each is one point already.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from qdrant_client import QdrantClient

from gristmill import ClientSettings
from gristmill.extras import brought_by
from gristmill.settings import load_settings
from gristmill.store.connection import open_store
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.bench.pipeline.documents import PointsFile
from gristmill_worker.bench.pipeline.processes import Handler

#: Documents per call where a peer takes a list of any length, and holds all of it.
_SLICE = 1_000


class _Documents:
    """What is loaded: ids that are UUIDs, texts, metadata, and a vector of D floats for each."""

    def __init__(self, points: str) -> None:
        self.folder = Path(points)
        self.ids, payloads, self._vectors = PointsFile(self.folder).read()
        self.texts = [str(payload["text"]) for payload in payloads]
        self.metadata = [{"number": payload["number"], "lang": payload["lang"]} for payload in payloads]
        self._rows = {text: row for row, text in enumerate(self.texts)}

    def vector(self, text: str) -> list[float]:
        """As both peers want it: a list."""
        row: list[float] = self._vectors[self._rows[text]].tolist()
        return row


#: Loads all documents into one collection; called a second time, it is the same peer that remembers.
_Load = Callable[[], object]
_Open = Callable[[QdrantClient, str, _Documents], _Load]


def _langchain(store: QdrantClient, collection: str, documents: _Documents) -> _Load:
    """`index()` with a record manager that outlives the process, in SQLite."""
    from langchain_classic.indexes import SQLRecordManager

    manager = SQLRecordManager(collection, db_url=f"sqlite:///{documents.folder / collection}.sqlite")
    return _langchain_index(store, collection, documents, manager)


def _langchain_in_memory(store: QdrantClient, collection: str, documents: _Documents) -> _Load:
    """The same with one that forgets everything with the process."""
    from langchain_core.indexing import InMemoryRecordManager

    return _langchain_index(store, collection, documents, InMemoryRecordManager(collection))


def _langchain_index(store: QdrantClient, collection: str, documents: _Documents, manager: Any) -> _Load:
    from langchain_core.documents import Document
    from langchain_core.indexing import index

    warnings.filterwarnings("ignore", "Using SHA-1", UserWarning)  # other hashes make ids that Qdrant does not take
    manager.create_schema()
    target = _langchain_store(store, collection, documents)
    items = [
        Document(page_content=text, metadata=metadata)
        for text, metadata in zip(documents.texts, documents.metadata, strict=True)
    ]
    return lambda: index(items, manager, target, cleanup=None, key_encoder="sha1")


def _langchain_texts(store: QdrantClient, collection: str, documents: _Documents) -> _Load:
    """`add_texts()`, which gives every text a new id."""
    target = _langchain_store(store, collection, documents)
    return lambda: target.add_texts(documents.texts, documents.metadata)


def _langchain_store(store: QdrantClient, collection: str, documents: _Documents) -> Any:
    from langchain_core.embeddings import Embeddings
    from langchain_qdrant import QdrantVectorStore

    class Known(Embeddings):  # type: ignore[misc]  # which is Any where it is not installed
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [documents.vector(text) for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return documents.vector(text)

    return QdrantVectorStore(store, collection, Known(), validate_collection_config=False)


def _llamaindex(store: QdrantClient, collection: str, documents: _Documents) -> _Load:
    """`IngestionPipeline` without a docstore: writes everything, every time."""
    return _llamaindex_pipeline(store, collection, documents)


def _llamaindex_docstore(store: QdrantClient, collection: str, documents: _Documents) -> _Load:
    """`IngestionPipeline` with a docstore in memory: passes over what it has seen."""
    from llama_index.core.ingestion import DocstoreStrategy
    from llama_index.core.storage.docstore import SimpleDocumentStore

    remembering = {"docstore": SimpleDocumentStore(), "docstore_strategy": DocstoreStrategy.UPSERTS}
    return _llamaindex_pipeline(store, collection, documents, **remembering)


def _llamaindex_pipeline(store: QdrantClient, collection: str, documents: _Documents, **options: Any) -> _Load:
    from llama_index.core import Document
    from llama_index.core.ingestion import IngestionPipeline
    from llama_index.core.schema import TransformComponent
    from llama_index.vector_stores.qdrant import QdrantVectorStore

    class Known(TransformComponent):  # type: ignore[misc]  # which is Any where it is not installed
        def __call__(self, nodes: Sequence[Any], **_: Any) -> Sequence[Any]:
            for node in nodes:
                node.embedding = documents.vector(node.text)
            return nodes

    target = QdrantVectorStore(collection, client=store)
    pipeline = IngestionPipeline(transformations=[Known()], vector_store=target, disable_cache=True, **options)
    items = [
        Document(id_=each, text=text, metadata=metadata)
        for each, text, metadata in zip(documents.ids, documents.texts, documents.metadata, strict=True)
    ]

    def load() -> None:
        for start in range(0, len(items), _SLICE):
            pipeline.run(documents=items[start : start + _SLICE])
            for item in items[start : start + _SLICE]:
                item.embedding = None  # lists of floats take eight times the room of arrays

    return load


PEERS: Final[Mapping[str, _Open]] = {
    "langchain": _langchain,
    "langchain-in-memory": _langchain_in_memory,
    "langchain-add-texts": _langchain_texts,
    "llamaindex": _llamaindex,
    "llamaindex-docstore": _llamaindex_docstore,
}

_MODULES: Final = {
    "langchain": ("langchain_classic", "langchain_qdrant"),
    "llamaindex": ("llama_index.core", "llama_index.vector_stores.qdrant"),
}


def require(names: Sequence[str], encoder: str) -> None:
    """See to it that peers can be measured; imports none of them.

    Raises:
        InvalidInput: there is no such peer, or the encoder costs something.
        NotInstalled: its packages are missing.
    """
    if names and not encoder.startswith("hash:"):
        raise InvalidInput(
            f"peers: they get their vectors for nothing, so expected an encoder that costs nothing, hash:DIM, got "
            f"{encoder!r}",
            field="peers",
        )
    for name in names:
        if name not in PEERS:
            raise InvalidInput(f"peers: expected some of {', '.join(PEERS)}, got {name!r}", field="peers")
        with brought_by("bench", f"measuring {name}"):
            for module in _modules(name):
                if importlib.util.find_spec(module) is None:
                    raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def _modules(name: str) -> tuple[str, ...]:
    return _MODULES[name.partition("-")[0]]


def peer(name: str, points: str) -> Handler:
    """One of `PEERS` as a side: opened for a collection, which is not measured, then loading into it once and again."""
    with brought_by("bench", f"measuring {name}"):
        for module in _modules(name):
            importlib.import_module(module)
    documents = _Documents(points)
    store = open_store(load_settings(ClientSettings))
    loads: dict[str, _Load] = {}

    def ask(collection: str, *, load: bool) -> dict[str, Any]:
        if load:
            loads[collection]()
        else:
            loads.clear()
            loads[collection] = PEERS[name](store, collection, documents)
        return {}

    return ask
