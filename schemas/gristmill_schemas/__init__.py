"""The contract between applications and workers: records, limits and errors. Depends on pydantic alone."""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from gristmill_schemas.audit import AuditReport, Erased, Erasure, Finding, Gap, RefusedMessage
    from gristmill_schemas.collection import (
        BulkHolder,
        BulkLoad,
        ChunkBy,
        ChunkContext,
        Chunking,
        CollectionSpec,
        FieldIndex,
        IndexState,
        IndexStatus,
        Instruction,
        Lens,
        LongTexts,
    )
    from gristmill_schemas.document import Deletion, Document
    from gristmill_schemas.job import (
        DeadGroup,
        DeadLetter,
        DeadSummary,
        JobFinished,
        JobReport,
        JobState,
        Outcome,
        Receipt,
        ReceiptState,
        Rejection,
        Webhook,
        WebhookState,
    )
    from gristmill_schemas.outlook import Estimate, RateSource, StoreBytes
    from gristmill_schemas.parcel import Intent, Parcel, Retraction
    from gristmill_schemas.point import PointSystem, point_id
    from gristmill_schemas.query import QueryRequest, RerankRequest
    from gristmill_schemas.queue import Ahead, ModelQueue, Priority, QueuedJob, QueueReport, TenantWork
    from gristmill_schemas.search import (
        Cluster,
        Clustering,
        ClusterMember,
        DocumentPage,
        Explanation,
        Facet,
        FoundChunk,
        Fusion,
        Hits,
        RerankResult,
        SearchHit,
        SearchMode,
        StoredDocument,
        Strategy,
    )
    from gristmill_schemas.space import Distance, EncoderInfo, ModelTask, Pooling, Templates, VectorSpace

__all__ = [
    "Ahead",
    "AuditReport",
    "BulkHolder",
    "BulkLoad",
    "ChunkBy",
    "ChunkContext",
    "Chunking",
    "Cluster",
    "ClusterMember",
    "Clustering",
    "CollectionSpec",
    "DeadGroup",
    "DeadLetter",
    "DeadSummary",
    "Deletion",
    "Distance",
    "Document",
    "DocumentPage",
    "EncoderInfo",
    "Erased",
    "Erasure",
    "Estimate",
    "Explanation",
    "Facet",
    "FieldIndex",
    "Finding",
    "FoundChunk",
    "Fusion",
    "Gap",
    "Hits",
    "IndexState",
    "IndexStatus",
    "Instruction",
    "Intent",
    "JobFinished",
    "JobReport",
    "JobState",
    "Lens",
    "LongTexts",
    "ModelQueue",
    "ModelTask",
    "Outcome",
    "Parcel",
    "PointSystem",
    "Pooling",
    "Priority",
    "QueryRequest",
    "QueueReport",
    "QueuedJob",
    "RateSource",
    "Receipt",
    "ReceiptState",
    "RefusedMessage",
    "Rejection",
    "RerankRequest",
    "RerankResult",
    "Retraction",
    "SearchHit",
    "SearchMode",
    "StoreBytes",
    "StoredDocument",
    "Strategy",
    "Templates",
    "TenantWork",
    "VectorSpace",
    "Webhook",
    "WebhookState",
    "point_id",
]

#: Where the names above are at home.
_HOMES = (
    "gristmill_schemas.audit",
    "gristmill_schemas.collection",
    "gristmill_schemas.document",
    "gristmill_schemas.job",
    "gristmill_schemas.outlook",
    "gristmill_schemas.parcel",
    "gristmill_schemas.point",
    "gristmill_schemas.query",
    "gristmill_schemas.queue",
    "gristmill_schemas.search",
    "gristmill_schemas.space",
)


def __getattr__(name: str) -> typing.Any:
    """Import a public name when it is first used, so that the errors alone come without pydantic."""
    if name in __all__:
        for home in map(importlib.import_module, _HOMES):
            if hasattr(home, name):
                return globals().setdefault(name, getattr(home, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
