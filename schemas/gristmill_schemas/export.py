"""JSON Schema of the contract, for producers in other languages."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from gristmill_schemas.audit import AuditReport, Erasure, RefusedMessage
from gristmill_schemas.collection import CollectionSpec, Instruction, Lens
from gristmill_schemas.document import Deletion, Document
from gristmill_schemas.job import DeadLetter, DeadSummary, JobFinished, JobReport, Receipt, Rejection, Webhook
from gristmill_schemas.outlook import Estimate
from gristmill_schemas.parcel import Parcel
from gristmill_schemas.point import PointSystem
from gristmill_schemas.query import QueryRequest, RerankRequest
from gristmill_schemas.search import DocumentPage, Explanation, Facet, RerankResult, SearchHit, StoredDocument
from gristmill_schemas.space import EncoderInfo, VectorSpace
from gristmill_schemas.validation import Record

EXPORTED: tuple[type[Record], ...] = (
    AuditReport,
    CollectionSpec,
    DeadLetter,
    DeadSummary,
    Deletion,
    Document,
    DocumentPage,
    EncoderInfo,
    Erasure,
    Estimate,
    Explanation,
    Facet,
    Instruction,
    JobFinished,
    JobReport,
    Lens,
    Parcel,
    PointSystem,
    QueryRequest,
    Receipt,
    RefusedMessage,
    Rejection,
    RerankRequest,
    RerankResult,
    SearchHit,
    StoredDocument,
    VectorSpace,
    Webhook,
)


def json_schema() -> dict[str, Any]:
    """One JSON Schema document with every record under `$defs`."""
    _, schema = models_json_schema([(record, "validation") for record in EXPORTED], title="Gristmill")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
