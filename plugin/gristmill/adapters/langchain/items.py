"""LangChain's documents as ours, and ours as LangChain's."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from langchain_core.documents import Document

from gristmill.arguments import refuse
from gristmill_schemas import Distance, SearchHit, StoredDocument
from gristmill_schemas.document import canonical_json
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.plain import plain

_NAMESPACE: Final = uuid.UUID("7a0f4d2e-6a3f-5b0e-9d39-4b1f7d1d7c55")


def documents_of(
    texts: Iterable[str], metadatas: Sequence[Mapping[str, Any]] | None, ids: Sequence[str | None] | None
) -> tuple[list[str], list[dict[str, Any]]]:
    """Ids, one per text, and the documents to hand over.

    A text without an id gets one of its content, text and metadata, so that adding it again adds nothing.

    Raises:
        InvalidInput: there are not as many metadatas or ids as texts.
    """
    if isinstance(texts, str):
        raise refuse("texts", "an iterable of texts", texts)
    many = list(texts)
    known = _as_many("metadatas", metadatas, many, {})
    named = _as_many("ids", ids, many, None)
    given = [each if each is not None else _id_of(*item) for each, *item in zip(named, many, known, strict=True)]
    documents: list[dict[str, Any]] = []
    made: set[str] = set()
    for id, own, text, metadata in zip(given, named, many, known, strict=True):
        if own is None and id in made:
            continue
        made.add(id)
        documents.append({"id": id, "text": text, "metadata": metadata})
    return given, documents


def _as_many(field: str, given: Sequence[Any] | None, texts: Sequence[str], empty: Any) -> list[Any]:
    found = [empty] * len(texts) if not given else [empty if each is None else each for each in given]
    if len(found) != len(texts):
        raise InvalidInput(f"{field}: expected one per text, {len(texts)}, got {len(found)}", field=field)
    return found


def _id_of(text: object, metadata: object) -> str:
    try:
        content = canonical_json({"text": plain(text, "text"), "metadata": plain(metadata, "metadata")})
    except ValueError:
        return str(uuid.uuid4())  # no document, as it will be told when it is handed over
    return str(uuid.uuid5(_NAMESPACE, content.decode()))


def document_of(found: SearchHit | StoredDocument) -> Document:
    """What was found as LangChain has it: with `context_chunks`, the passage is its content."""
    passage = found.passage if isinstance(found, SearchHit) else None
    return Document(id=found.id, page_content=found.text if passage is None else passage, metadata=found.metadata)


def relevance_of(hit: SearchHit) -> float:
    """A hit's score from 0, unlike, to 1.

    Raises:
        InvalidInput: its score has no such scale: sums of BM25, fused ranks, boosted scores, products of any length.
    """
    if hit.score_kind == Distance.COSINE:
        relevance = (1 + hit.score) / 2
    elif hit.score_kind == Distance.EUCLID:
        relevance = 1 / (1 + hit.score)
    elif hit.score_kind == "relevance":
        relevance = hit.score
    else:
        raise InvalidInput(
            "mode: expected a search whose scores have a scale from 0 to 1: mode='dense' by cosine or euclid, or any with "
            f"rerank=True; got one with scores of kind {hit.score_kind!r}: similarity_search_with_score gives those",
            field="mode",
        )
    return min(1.0, max(0.0, relevance))
