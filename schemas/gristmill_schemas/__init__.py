"""The contract between applications and workers: records, limits and errors. Depends on pydantic alone."""

from gristmill_schemas.audit import AuditReport, Finding, Gap, RefusedMessage
from gristmill_schemas.collection import Chunking, CollectionSpec, Distance, Instruction, LongTexts
from gristmill_schemas.document import Deletion, Document
from gristmill_schemas.job import (
    DeadGroup,
    DeadLetter,
    DeadSummary,
    JobReport,
    JobState,
    Outcome,
    Receipt,
    ReceiptState,
    Rejection,
)
from gristmill_schemas.parcel import Intent, Parcel, Target
from gristmill_schemas.point import PointSystem, point_id
from gristmill_schemas.query import QueryRequest
from gristmill_schemas.search import SearchHit, StoredDocument
from gristmill_schemas.space import EncoderInfo, Pooling, Templates, VectorSpace

__all__ = [
    "AuditReport",
    "Chunking",
    "CollectionSpec",
    "DeadGroup",
    "DeadLetter",
    "DeadSummary",
    "Deletion",
    "Distance",
    "Document",
    "EncoderInfo",
    "Finding",
    "Gap",
    "Instruction",
    "Intent",
    "JobReport",
    "JobState",
    "LongTexts",
    "Outcome",
    "Parcel",
    "PointSystem",
    "Pooling",
    "QueryRequest",
    "Receipt",
    "ReceiptState",
    "RefusedMessage",
    "Rejection",
    "SearchHit",
    "StoredDocument",
    "Target",
    "Templates",
    "VectorSpace",
    "point_id",
]
