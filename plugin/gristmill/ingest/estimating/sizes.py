"""Bytes that documents would take: in Redis while they wait, in Qdrant once they are stored.

Qdrant's are a formula, whose constants were measured on Qdrant 1.16.3 with 16,000 points of English and of Chinese: what
lies on the disk, without the write-ahead log. There it is right within 5 %;
`docs/howto/estimates.md` says what it leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qdrant_client import QdrantClient

from gristmill.ingest.broker import messages_for
from gristmill.ingest.estimating.forecast import Forecast
from gristmill.ingest.producer import Producer
from gristmill.ledger import Ticket, new_job_id
from gristmill.ledger.costs import JOB, Costs
from gristmill.store.connection import store_errors
from gristmill_schemas import CollectionSpec, Document
from gristmill_schemas.document import canonical_json
from gristmill_schemas.outlook import StoreBytes
from gristmill_schemas.parcel import pack

#: Of a number of a vector, unless the collection keeps smaller ones.
_FLOAT_BYTES = 4
#: Links of a node of the graph, in Qdrant's default, and bytes of a link: a node has twice `m` of them in the lowest layer.
_LINKS, _LINK_BYTES = 16, 4
#: Our own part of a payload, and what Qdrant adds to a point: its id, versions, unfilled blocks.
_POINT_BYTES = 480
#: A word in the index of words and beside it. Of English so many bytes make one that the text has not had yet; of Chinese,
#: which is cut into words by the server, so many characters.
_WORD_BYTES, _BYTES_PER_WORD, _CHARS_PER_WORD = 13, 9.0, 1.5
#: Numbers of a vector that a byte of its quantized form stands for.
_QUANTIZED: Mapping[str, float] = {"scalar": 1.0, "binary": 1 / 8, "product": 1 / 4}


@dataclass(frozen=True, slots=True)
class Kept:
    """How Qdrant keeps a collection, as far as sizes depend on it."""

    links: int = _LINKS
    number_bytes: float = _FLOAT_BYTES


def how_kept(store: QdrantClient, spec: CollectionSpec) -> Kept:
    """Of a collection that is there."""
    with store_errors(spec.name):
        config = store.get_collection(spec.physical).config
    graph, quantized = config.hnsw_config, config.quantization_config
    kind = next((name for name in _QUANTIZED if getattr(quantized, name, None) is not None), None)
    links = max(graph.m, graph.payload_m or 0)
    return Kept(links, _FLOAT_BYTES + (_QUANTIZED[kind] if kind else 0.0))


class StoreSize:
    """Adds up what Qdrant would keep."""

    def __init__(self, spec: CollectionSpec, kept: Kept) -> None:
        self._spec, self._kept = spec, kept
        self._points = self._payloads = 0
        self._words = 0.0

    def add(self, forecast: Forecast) -> None:
        """One more document, all of whose points would be written."""
        text = forecast.document.text
        size = len(text) if text.isascii() else len(text.encode())
        # What neighbouring chunks share is stored with each of them.
        again = forecast.stored_chars / max(1, len(text))
        around = len(canonical_json(forecast.document.metadata)) + _POINT_BYTES
        wide = (size - len(text)) // 2
        self._points += forecast.chunks
        self._payloads += round(size * again) + around * forecast.chunks
        self._words += ((len(text) - wide) / _BYTES_PER_WORD + wide / _CHARS_PER_WORD) * again

    def total(self) -> StoreBytes:
        """All documents so far."""
        spec, kept = self._spec, self._kept
        vectors = self._points * len(spec.vectors) * spec.replicas
        return StoreBytes(
            vectors=round(vectors * spec.space.dimensions * kept.number_bytes),
            graphs=vectors * 2 * kept.links * _LINK_BYTES,
            payloads=self._payloads * spec.replicas,
            keywords=round(self._words * _WORD_BYTES) * spec.replicas if spec.keyword else 0,
        )


class QueueSize:
    """Adds up what the ledger would take of Redis's memory: parcels as they would be packed, by the ledger's own costs."""

    def __init__(self, spec: CollectionSpec, now: float, *, roster: bool) -> None:
        self._spec = spec
        self._ticket = Ticket(new_job_id(), int(now * 1_000_000), now)
        self._costs = Costs(roster)
        self._parcels = 0
        #: Of everything so far.
        self.total = JOB

    def add(self, batch: tuple[Document, ...]) -> None:
        """One more parcel."""
        parcel = Producer.parcel(self._spec, self._ticket, self._parcels, batch)
        messages = messages_for(self._parcels + 1) - messages_for(self._parcels)
        self._parcels += 1
        self.total += self._costs.parcel(len(pack(parcel)), parcel, messages)
