"""Collections: each carries its own description, so vectors of two models can never meet by accident.

The `CollectionSpec` lies in the collection's metadata in Qdrant: it is created with the collection in one atomic step
and goes where the collection goes, snapshots included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError
from qdrant_client import QdrantClient, models

from gristmill.store.connection import store_errors
from gristmill_schemas import CollectionSpec, Distance, VectorSpace
from gristmill_schemas.errors import CollectionNotFound, InvalidInput, SpaceMismatch, StoreRefused
from gristmill_schemas.point import CHUNK_PATH, ETAG_PATH, ID_PATH, JOB_PATH, TENANT_PATH, VERSION_PATH
from gristmill_schemas.validation import explain

#: Key of our record among the collection's metadata.
METADATA_KEY = "gristmill"

_DISTANCES = {
    Distance.COSINE: models.Distance.COSINE,
    Distance.DOT: models.Distance.DOT,
    Distance.EUCLID: models.Distance.EUCLID,
}

_KEYWORD = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
#: Everything that the fence, deletes and tenants filter by. Without an index some of these would read the whole
#: collection, and a server in strict mode (the default of hosted ones) refuses filters on what is not indexed.
_INDEXES: dict[str, models.KeywordIndexParams | models.IntegerIndexParams] = {
    ID_PATH: _KEYWORD,
    TENANT_PATH: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
    JOB_PATH: _KEYWORD,
    ETAG_PATH: _KEYWORD,
    VERSION_PATH: models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=False, range=True),
    CHUNK_PATH: models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=False),
}


class Collections:
    """Create, find, list and delete collections."""

    def __init__(
        self, store: QdrantClient, *, local: bool = False, deleted: Callable[[str], None] | None = None
    ) -> None:
        """`deleted` is told the name of every collection that is deleted here."""
        self._store = store
        self._local = local
        self._deleted = deleted

    def create(self, spec: CollectionSpec) -> CollectionSpec:
        """Create a collection, or return the existing one if it has the same space.

        Safe when many start at once: Qdrant lets one create it, the others find it. Never recreates, never changes.

        Raises:
            SpaceMismatch: it exists with another space.
            InvalidInput: it exists, but was not made by Gristmill.
        """
        try:
            with store_errors(spec.name):
                self._store.create_collection(
                    spec.name,
                    vectors_config=models.VectorParams(size=spec.space.dimensions, distance=_DISTANCES[spec.distance]),
                    metadata={METADATA_KEY: spec.model_dump(mode="json")},
                )
        except (StoreRefused, ValueError) as refused:  # ValueError is local mode's "already exists"
            try:
                existing = self.get(spec.name)
            except CollectionNotFound:
                raise refused from None
            check_space(existing, spec.space)
            spec = existing
        self._ensure_indexes(spec.name)
        return spec

    def _ensure_indexes(self, name: str) -> None:
        if self._local:  # local mode has no payload indexes and warns about each
            return
        for path, params in _INDEXES.items():
            with store_errors(name):
                self._store.create_payload_index(name, field_name=path, field_schema=params, wait=True)

    def get(self, name: str) -> CollectionSpec:
        """The collection's description, straight from Qdrant.

        Raises:
            CollectionNotFound: there is none of this name.
            InvalidInput: it was not made by Gristmill.
        """
        try:
            with store_errors(name):
                info = self._store.get_collection(name)
        except ValueError as error:  # local mode's "not found"
            raise _unknown(name) from error
        record = (info.config.metadata or {}).get(METADATA_KEY)
        if record is None:
            raise InvalidInput(
                f"collection {name!r} exists in Qdrant but was not made by Gristmill, so nothing is known about its "
                "vectors; choose another name"
            )
        return _parse(name, record)

    def names(self) -> list[str]:
        """All of Qdrant's collections, Gristmill's or not, by name."""
        with store_errors():
            return sorted(item.name for item in self._store.get_collections().collections)

    def specs(self) -> Iterator[CollectionSpec]:
        """Every Gristmill collection, by name; others are passed over."""
        for name in self.names():
            try:
                yield self.get(name)
            except (InvalidInput, CollectionNotFound):
                continue

    def count(self, name: str) -> int:
        """Points in the collection, counted exactly."""
        with store_errors(name):
            return self._store.count(name, exact=True).count

    def delete(self, name: str) -> None:
        """Delete a Gristmill collection with all its points. Raises CollectionNotFound where there is none."""
        self.get(name)
        with store_errors(name):
            self._store.delete_collection(name)
        if self._deleted is not None:
            self._deleted(name)


def _parse(name: str, record: Any) -> CollectionSpec:
    try:
        return CollectionSpec.model_validate(record)
    except ValidationError as error:
        raise InvalidInput(
            f"collection {name!r}: its description cannot be read ({explain(error)}); "
            "it may come from a newer Gristmill: upgrade this one"
        ) from error


def _unknown(name: str) -> CollectionNotFound:
    return CollectionNotFound(
        f"collection {name!r} does not exist. `gristmill collections list` shows those that do; "
        "`client.create_collection(...)` makes one."
    )


def check_space(spec: CollectionSpec, space: VectorSpace) -> None:
    """Raise SpaceMismatch unless the collection's vectors and this space's may be compared."""
    if spec.space.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"collection {spec.name!r} holds vectors of {spec.space.describe()}, but these would be of "
            f"{space.describe()}; they cannot be compared. Use the collection's own model, or a new collection."
        )
