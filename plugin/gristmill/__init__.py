"""Gristmill for applications: hand documents over, search them with an instruction. Loads no model and no Celery."""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from gristmill.async_client import AsyncClient, AsyncTenantClient
    from gristmill.client import Client, TenantClient
    from gristmill.ingest.jobs import Job, TenantJob
    from gristmill.search.filters import Conditions, Operators, Where
    from gristmill.search.instructions.presets import Preset
    from gristmill.search.refining.boosts import Boost, Recency
    from gristmill.search.remembered_vectors import QueryCacheInfo
    from gristmill.settings import ClientSettings
    from gristmill_schemas import (
        AuditReport,
        BulkHolder,
        BulkLoad,
        ChunkBy,
        ChunkContext,
        Chunking,
        CollectionSpec,
        DeadGroup,
        DeadLetter,
        DeadSummary,
        Deletion,
        Distance,
        Document,
        DocumentPage,
        EncoderInfo,
        Erased,
        Erasure,
        Explanation,
        Facet,
        FieldIndex,
        Finding,
        FoundChunk,
        Fusion,
        Gap,
        Hits,
        IndexState,
        IndexStatus,
        Instruction,
        JobReport,
        JobState,
        Lens,
        LongTexts,
        ModelTask,
        Receipt,
        ReceiptState,
        RefusedMessage,
        Rejection,
        RerankResult,
        SearchHit,
        SearchMode,
        StoredDocument,
        Strategy,
        VectorSpace,
    )
    from gristmill_schemas.errors import (
        AcceleratorOutOfMemory,
        BrokerRefused,
        BrokerUnavailable,
        CollectionConflict,
        CollectionNotFound,
        DimensionsNotSupported,
        DocumentsFailed,
        EncodingFailed,
        GristmillError,
        InvalidInput,
        ModelUnavailable,
        NewerFormat,
        NotInstalled,
        NoWorker,
        QueueFull,
        ServerTooOld,
        SpaceMismatch,
        StoreRefused,
        StoreUnavailable,
        Unavailable,
        WaitTimeout,
    )

__version__ = "0.1.0"

__all__ = [
    "AcceleratorOutOfMemory",
    "AsyncClient",
    "AsyncTenantClient",
    "AuditReport",
    "Boost",
    "BrokerRefused",
    "BrokerUnavailable",
    "BulkHolder",
    "BulkLoad",
    "ChunkBy",
    "ChunkContext",
    "Chunking",
    "Client",
    "ClientSettings",
    "CollectionConflict",
    "CollectionNotFound",
    "CollectionSpec",
    "Conditions",
    "DeadGroup",
    "DeadLetter",
    "DeadSummary",
    "Deletion",
    "DimensionsNotSupported",
    "Distance",
    "Document",
    "DocumentPage",
    "DocumentsFailed",
    "EncoderInfo",
    "EncodingFailed",
    "Erased",
    "Erasure",
    "Explanation",
    "Facet",
    "FieldIndex",
    "Finding",
    "FoundChunk",
    "Fusion",
    "Gap",
    "GristmillError",
    "Hits",
    "IndexState",
    "IndexStatus",
    "Instruction",
    "InvalidInput",
    "Job",
    "JobReport",
    "JobState",
    "Lens",
    "LongTexts",
    "ModelTask",
    "ModelUnavailable",
    "NewerFormat",
    "NoWorker",
    "NotInstalled",
    "Operators",
    "Preset",
    "QueryCacheInfo",
    "QueueFull",
    "Receipt",
    "ReceiptState",
    "Recency",
    "RefusedMessage",
    "Rejection",
    "RerankResult",
    "SearchHit",
    "SearchMode",
    "ServerTooOld",
    "SpaceMismatch",
    "StoreRefused",
    "StoreUnavailable",
    "StoredDocument",
    "Strategy",
    "TenantClient",
    "TenantJob",
    "Unavailable",
    "VectorSpace",
    "WaitTimeout",
    "Where",
    "__version__",
]

#: Where the names above are at home, the lightest module first.
_HOMES = (
    "gristmill_schemas",
    "gristmill_schemas.errors",
    "gristmill.settings",
    "gristmill.ingest.jobs",
    "gristmill.search.filters",
    "gristmill.search.instructions.presets",
    "gristmill.search.refining.boosts",
    "gristmill.search.remembered_vectors",
    "gristmill.client",
    "gristmill.async_client",
)


def __getattr__(name: str) -> typing.Any:
    """Import a public name when it is first used: what stands behind `Client` takes about a second."""
    if name in __all__:
        for home in map(importlib.import_module, _HOMES):
            if hasattr(home, name):
                return globals().setdefault(name, getattr(home, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
