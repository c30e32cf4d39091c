"""New metadata for documents that are there: the same text again, under changed metadata, one version higher.

Optimistic: what Qdrant holds at version v is handed over at v + 1. A newer text on its way (version > v + 1) wins, as
always; late older work loses, as always; of two changes that started from the same v the first to arrive stays, and the
other is counted as superseded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, cast

from pydantic import ValidationError
from qdrant_client import QdrantClient

from gristmill.arguments import refuse
from gristmill.store.documents import fetch, fetch_by_point
from gristmill_schemas import CollectionSpec, Document, Rejection, StoredDocument, point_id
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.plain import plain
from gristmill_schemas.validation import SYSTEM_KEY, explain

#: Documents read at once.
_PAGE = 64


def check_changes(spec: CollectionSpec, changes: object) -> Mapping[str, Any]:
    """The changes as plain JSON; raises InvalidInput unless they can be laid over metadata in this collection."""
    if not isinstance(changes, Mapping) or not changes:
        raise refuse("changes", "a mapping with at least one key", changes)
    for key in (SYSTEM_KEY, spec.text_key):
        if key in changes:
            told = (
                "the document's text; to change it, enqueue the document" if key == spec.text_key else "Gristmill's own"
            )
            raise InvalidInput(f"changes.{key}: this key is {told}", field=f"changes.{key}", collection=spec.name)
    try:
        return cast("dict[str, Any]", plain(changes, "changes"))
    except ValueError as error:
        raise InvalidInput(str(error), field="changes") from None


def changed(
    store: QdrantClient, spec: CollectionSpec, ids: Iterable[str], tenant: str | None, changes: Mapping[str, Any]
) -> Iterator[Document | Rejection]:
    """The documents of these ids with changed metadata; a rejection for those that are not there, or not whole."""
    iterator = enumerate(ids)
    while page := list(islice(iterator, _PAGE)):
        held = fetch(store, spec, [each for _, each in page], tenant)
        for position, each in page:
            yield _change(held.get(each), position, each, changes)


def rewritten(
    store: QdrantClient, spec: CollectionSpec, changes: Iterable[tuple[str, str | None, Mapping[str, Any]]]
) -> Iterator[Document | Rejection]:
    """Documents with metadata of their own changed, by id and tenant; those that have it already are left out.

    Documents that are gone by now are left out, too: nobody named them.
    """
    iterator = enumerate(changes)
    while page := list(islice(iterator, _PAGE)):
        held = fetch_by_point(store, spec, [point_id(id, tenant) for _, (id, tenant, _) in page])
        for position, (id, tenant, asked) in page:
            document = held.get(point_id(id, tenant))
            if document is not None and merged(document.metadata, asked) != document.metadata:
                yield _change(document, position, id, asked)


def _change(held: StoredDocument | None, position: int, id: str, changes: Mapping[str, Any]) -> Document | Rejection:
    if held is None:
        reason = "id: no such document is stored; if it is on its way, wait for its job first"
        return Rejection(position=position, id=id, reason=reason)
    if not held.whole:
        reason = "text: some of its chunks are missing, so it cannot be put together; `gristmill audit` says more"
        return Rejection(position=position, id=id, reason=reason)
    metadata = merged(held.metadata, changes)
    fields = {"id": held.id, "text": held.text, "tenant": held.tenant, "version": held.version + 1}
    try:
        return Document.model_validate({**fields, "metadata": metadata})
    except ValidationError as error:
        return Rejection(position=position, id=id, reason=explain(error))


def merged(metadata: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with changes on its top level; None removes a key."""
    kept = {key: value for key, value in metadata.items() if key not in changes}
    return kept | {key: value for key, value in changes.items() if value is not None}
