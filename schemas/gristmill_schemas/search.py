"""What reading a collection gives back: hits of a search, and documents by their ids."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from gristmill_schemas.validation import Record


class SearchMode(StrEnum):
    """What decides a hit's rank."""

    DENSE = "dense"  #: the vector: what a text means
    KEYWORD = "keyword"  #: its words, by BM25: codes, names, numbers
    HYBRID = "hybrid"  #: both lists, fused


class Fusion(StrEnum):
    """How the two lists of a hybrid search become one."""

    RRF = "rrf"  #: reciprocal rank fusion: by ranks alone
    DBSF = "dbsf"  #: distribution-based score fusion: by scores, each list's brought to one scale


class Strategy(StrEnum):
    """How examples are weighed: those that hits shall be like, and those that they shall not."""

    AVERAGE_VECTOR = "average_vector"  #: by one vector: the mean of the wanted, away from that of the unwanted
    BEST_SCORE = "best_score"  #: by the example that is nearest, wanted or not
    SUM_SCORES = "sum_scores"  #: by all of them: similarities to the wanted less those to the unwanted


class FoundChunk(Record):
    """One of the best chunks of a document that was found."""

    #: Its number in the document.
    chunk: int
    score: float
    #: Empty where texts were left out.
    text: str
    span: tuple[int, int]
    #: See `SearchHit.passage`.
    passage: str | None = None
    passage_span: tuple[int, int] | None = None


class SearchHit(Record):
    """One hit: a document, or one chunk of it."""

    #: The document's id, as it was enqueued.
    id: str
    #: Comparable within one search only; what it is, `score_kind` says.
    score: float
    #: What decided its rank.
    mode: SearchMode = SearchMode.DENSE
    #: What the score is: similarity by the collection's distance (cosine, dot; euclid is a distance: smaller is nearer),
    #: bm25, what ranks were fused by (rrf, dbsf), how examples were weighed (best_score, sum_scores), or boosted: any of
    #: these with its boosts. Of a reranked search: relevance, from 0 to 1, by the reranker.
    score_kind: str = "cosine"
    #: Of a reranked search: the score that it was found by, and what that is.
    retrieval_score: float | None = None
    retrieval_score_kind: str | None = None
    #: Which reranker decided the rank; None where none did.
    reranker: str | None = None
    #: Whether that reranker read only the beginning of the text, since query and text are longer than its window.
    rerank_truncated: bool = False
    #: Empty where texts were left out (`text=False`).
    text: str
    #: Those that were asked for (`fields=`), or all.
    metadata: dict[str, Any]
    tenant: str | None = None
    version: int
    #: Number of this chunk and of all chunks of the document; `0` of `1` where it was not cut.
    chunk: int = 0
    chunks: int = 1
    #: Characters of the document's text that this chunk covers: [start, end). (0, 0) where it was not cut
    #: and texts were left out.
    span: tuple[int, int]
    #: What stood above the chunk where the model read it: its document's title, or the headings it stands under.
    context: str = ""
    #: With `chunks_per_document=`: the best chunks of this document, best first, this one among them.
    best_chunks: tuple[FoundChunk, ...] = ()
    #: With `context_chunks=`: this chunk and its neighbours, joined as they stand in the document; which characters
    #: these are.
    passage: str | None = None
    passage_span: tuple[int, int] | None = None
    #: The lens whose vectors were compared; None are those without a lens, or words.
    lens: str | None = None
    #: The instruction the query was encoded with: its text, or `name@version` of a registered one or a preset. A search
    #: for words encodes nothing.
    instruction: str | None = None
    #: Its text; None where there was none.
    instruction_text: str | None = None
    #: The model's template that joined it with the query: `{instruction}` and `{text}` stand for the two.
    template: str | None = None
    #: Qdrant's point id.
    point_id: str


class Explanation(Record):
    """What was applied to a search, and what it took."""

    collection: str
    mode: SearchMode
    score_kind: str
    #: As hits say them; None where nothing was encoded.
    instruction: str | None = None
    instruction_text: str | None = None
    template: str | None = None
    lens: str | None = None
    #: `where`, tenant and examples as they were sent to Qdrant, in its REST format.
    filter: dict[str, Any] | None = None
    #: The query as it was sent, with its prefetches; long vectors by their lengths.
    query: dict[str, Any] = Field(default_factory=dict)
    #: Best points of each list, of which fusion, boosts or diversity choose; None where nothing does.
    candidates: int | None = None
    #: What put the candidates in order in the end; None where nothing did.
    reranker: str | None = None
    #: Milliseconds by stage: `encode`, `qdrant` (asking it, the way there included), `rerank`, `passages`, `total`.
    took_ms: dict[str, float] = Field(default_factory=dict)
    #: What Qdrant says it took itself, milliseconds; None in local mode and where documents are grouped.
    server_ms: float | None = None


class Hits(list[SearchHit]):
    """Hits, best first: a list, which knows with `explain=True` how it came about."""

    #: None where nobody asked.
    explanation: Explanation | None = None


class RerankResult(Record):
    """One of the texts that `Client.rerank` was given, and its score."""

    #: Its place among those that were given, from 0.
    index: int
    #: 0 to 1, how well it answers the query; comparable within one reranker.
    score: float
    text: str
    #: What was given besides the text, where that was a mapping.
    metadata: dict[str, Any] = Field(default_factory=dict)
    #: Whether its end was cut off, since query and text together are longer than the reranker's window.
    truncated: bool = False


class StoredDocument(Record):
    """One document as Qdrant holds it, put together from its chunks."""

    #: Its id and tenant, as it was enqueued.
    id: str
    #: The whole text.
    text: str
    metadata: dict[str, Any]
    tenant: str | None = None
    version: int
    #: Points that it was cut into.
    chunks: int = 1
    #: False where chunks are missing or of another version, and the text is what is left: see `gristmill audit --repair`.
    whole: bool = True


class DocumentPage(Record):
    """Some documents of a collection, and where the next ones begin."""

    documents: tuple[StoredDocument, ...] = ()
    #: What `scroll` takes to go on, in this process or another; None at the end.
    cursor: str | None = None


class Facet(Record):
    """One value of a field."""

    value: bool | int | str
    #: Documents that have it.
    count: int


class ClusterMember(Record):
    """One document of a group."""

    id: str
    tenant: str | None = None
    #: Cosine of its vector and the group's centre.
    similarity: float
    #: The beginning of its text, of a representative; None elsewhere.
    text: str | None = None


class Cluster(Record):
    """Documents of a collection that are alike."""

    #: From 0, the largest group first.
    number: int
    size: int
    #: Mean cosine of its documents and its centre: 1 where all are the same.
    cohesion: float
    #: Those nearest to the centre, nearest first, with the beginnings of their texts.
    representatives: tuple[ClusterMember, ...] = ()
    #: All of them, nearest to the centre first.
    members: tuple[ClusterMember, ...] = ()


class Clustering(Record):
    """What `Client.cluster` found, and has written or would write."""

    collection: str
    #: What was asked for: so many groups, or how much alike their documents are.
    k: int | None = None
    threshold: float | None = None
    #: The lens whose vectors were compared; None are those without a lens.
    lens: str | None = None
    #: Documents that were looked at.
    documents: int
    #: Documents that match and have no such vector, so that nothing can be said of them.
    vectorless: int = 0
    #: The largest first.
    clusters: tuple[Cluster, ...] = ()
    #: Documents that are in no group, since too few others are like them.
    ungrouped: int = 0
    #: The metadata field that groups were, or would be, written to.
    field: str | None = None
    #: Documents in which that field changes; the others have its value already.
    changes: int | None = None
    #: The job that writes it: `client.jobs.get(job_id).wait()`. None where nothing changes.
    job_id: str | None = None
