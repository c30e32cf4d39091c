"""Collections: each carries its own description, so vectors of two models can never meet by accident.

The `CollectionSpec` lies in the collection's metadata in Qdrant: it is created with the collection in one atomic step
and goes where the collection goes, snapshots included; but for its name, which is the one that was asked for
(`docs/explanation/names.md`).
"""

from __future__ import annotations

import builtins
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from qdrant_client import QdrantClient, models

from gristmill.arguments import identifier, refuse
from gristmill.store import keywords
from gristmill.store.bulk import since_of
from gristmill.store.connection import store_errors
from gristmill.store.instructions import dated, read_instructions, register, retire, stored
from gristmill.store.layout import Layout, creating, require_layout
from gristmill.store.tenancy import graph_per_tenant
from gristmill_schemas import CollectionSpec, Distance, Instruction, VectorSpace
from gristmill_schemas.errors import CollectionNotFound, InvalidInput, NewerFormat, SpaceMismatch, StoreRefused
from gristmill_schemas.point import CHUNK_PATH, ETAG_PATH, ID_PATH, JOB_PATH, TENANT_PATH, VERSION_PATH

log = logging.getLogger(__name__)

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
        self,
        store: QdrantClient,
        *,
        local: bool = False,
        made: Callable[[CollectionSpec], None] = lambda spec: None,
        created: Callable[[CollectionSpec], None] = lambda spec: None,
        deleted: Callable[[CollectionSpec], None] = lambda spec: None,
    ) -> None:
        """Look after the collections of a store.

        Args:
            store: where they are.
            local: it is Qdrant's local mode.
            made: told of every collection that is made here: one that had its name before is gone, whoever deleted it.
            created: told of every collection that is made or found here by `create`.
            deleted: told of every collection that is about to be deleted here.
        """
        self._store = store
        self._local = local
        self._made = made
        self._created = created
        self._deleted = deleted

    def create(self, spec: CollectionSpec, layout: Layout = MappingProxyType({})) -> CollectionSpec:
        """Create a collection, or return the existing one if it has the same space.

        Safe when many start at once: Qdrant lets one create it, the others find it. Never recreates, never changes.

        Raises:
            SpaceMismatch: it exists with another space.
            CollectionConflict: it exists with another layout.
            InvalidInput: it exists, but was not made by Gristmill.
        """
        if self._local and layout:
            log.warning("Qdrant's local mode keeps all in memory, as it is: %s say nothing there", ", ".join(layout))
        vectors, more = creating(graph_per_tenant(spec, layout))
        registered = tuple(map(dated, _checked(spec).instructions))
        spec = spec.model_copy(update={"incarnation": uuid.uuid4().hex[:16], "instructions": registered})
        try:
            with store_errors(spec.name):
                self._store.create_collection(
                    spec.name,
                    vectors_config=_vectors(spec, vectors),
                    sparse_vectors_config=keywords.CONFIG if spec.keyword else None,
                    metadata={METADATA_KEY: spec.described(), **stored(spec.instructions)},
                    **more,
                )
            spec = self._describe(spec.name, spec.name)
            self._made(spec)
        except StoreRefused as refused:
            try:
                existing = self.get(spec.name)
            except CollectionNotFound:
                raise refused from None
            check_space(existing, spec.space)
            if not self._local:
                require_layout(self._store, existing, layout)
            spec = existing
        self._ensure_indexes(spec.physical)
        self._created(spec)
        return spec

    def _ensure_indexes(self, name: str) -> None:
        if self._local:  # local mode has no payload indexes and warns about each
            return
        for path, params in _INDEXES.items():
            with store_errors(name):
                self._store.create_payload_index(name, field_name=path, field_schema=params, wait=True)

    def get(self, name: str) -> CollectionSpec:
        """The collection's description, straight from Qdrant; `name` may be an alias.

        Raises:
            CollectionNotFound: there is none of this name.
            NewerFormat: a newer Gristmill made it.
            InvalidInput: it was not made by Gristmill.
        """
        name = identifier("name", name)
        physical = self._meaning(name)
        try:
            return self._describe(name, physical)
        except CollectionNotFound:
            # The alias may have moved between the two questions, and what it meant before may be gone.
            if (now := self._meaning(name)) == physical:
                raise
            return self._describe(name, now)

    def _meaning(self, name: str) -> str:
        """The physical collection behind a name: itself, where it is no alias that this key may see."""
        with store_errors(name):
            aliases = self._store.get_aliases().aliases
        return next((each.collection_name for each in aliases if each.alias_name == name), name)

    def names_of(self, spec: CollectionSpec) -> frozenset[str]:
        """Every name that means this collection now, as far as this key may see aliases."""
        with store_errors(spec.name):
            aliases = self._store.get_aliases().aliases
        means = {each.alias_name for each in aliases if each.collection_name == spec.physical}
        return frozenset({spec.name, spec.physical, *means})

    def _describe(self, name: str, physical: str) -> CollectionSpec:
        with store_errors(name):
            info = self._store.get_collection(physical)
        metadata = info.config.metadata or {}
        record = metadata.get(METADATA_KEY)
        if record is None:
            raise InvalidInput(
                f"collection {name!r} exists in Qdrant but was not made by Gristmill, so nothing is known about its "
                "vectors; choose another name",
                collection=name,
            )
        seen = {
            "name": name,
            "physical": physical,
            "bulk_since": since_of(metadata),
            "replicas": info.config.params.replication_factor or 1,
        }
        try:
            return CollectionSpec.read({**record, **seen, "instructions": read_instructions(metadata, name)})
        except InvalidInput as error:
            raise InvalidInput(f"collection {name!r}: its {error}", collection=name) from error

    def list(self) -> builtins.list[CollectionSpec]:
        """Every Gristmill collection's description, by name.

        Others of Qdrant's are passed over; a newer Gristmill's with a line in the log.
        """
        return [spec for name in self.names() if (spec := self._ours(name)) is not None]

    def names(self) -> builtins.list[str]:
        """All of Qdrant's collections, Gristmill's or not, by name."""
        with store_errors():
            return sorted(item.name for item in self._store.get_collections().collections)

    def _ours(self, name: str) -> CollectionSpec | None:
        try:
            return self._describe(name, name)
        except NewerFormat as newer:
            log.warning("collection %r is passed over: %s", name, newer)
        except (InvalidInput, CollectionNotFound):
            pass
        return None

    def update(self, spec: CollectionSpec) -> None:
        """Replace a collection's description. What decides about vectors must be the same: see `ingest.agreement`."""
        with store_errors(_checked(spec).name):
            self._store.update_collection(spec.physical, metadata={METADATA_KEY: spec.described()})

    def register(self, spec: CollectionSpec, wanted: Instruction, *, exactly: bool = False) -> Instruction:
        """Register an instruction as a new version of its name, or with `exactly` under its own: see `store.instructions`.

        Raises:
            CollectionConflict: the version has another text, or too many register under this name at the same time.
            InvalidInput: the collection has as many as it can have.
        """
        return register(self._store, spec, wanted, exactly=exactly)

    def retire(self, spec: CollectionSpec, chosen: Iterable[Instruction]) -> builtins.list[Instruction]:
        """Retire registered instructions."""
        return retire(self._store, spec, chosen)

    def count(self, name: str) -> int:
        """Points in the collection, counted exactly."""
        name = identifier("name", name)
        with store_errors(name):
            return self._store.count(name, exact=True).count

    def delete(self, name: str) -> None:
        """Delete a Gristmill collection with all its points, and what the ledger remembers of it.

        Raises:
            CollectionNotFound: there is none of this name.
            InvalidInput: it was not made by Gristmill, or the name is an alias.
        """
        name = identifier("name", name)
        spec = self.get(name)
        if spec.physical != name:
            raise InvalidInput(
                f"collection {name!r} is an alias of {spec.physical!r}; to delete the collection, say {spec.physical!r}",
                field="name",
                collection=name,
            )
        # Before it is gone: whoever misses it from then on must know that it was meant.
        self._deleted(spec)
        with store_errors(name):
            self._store.delete_collection(name)


def _vectors(spec: CollectionSpec, settings: Mapping[str, Any]) -> models.VectorsConfig:
    """What each vector is like: alike, but for its name."""
    params = models.VectorParams(size=spec.space.dimensions, distance=_DISTANCES[spec.distance], **settings)
    return dict.fromkeys(spec.vectors, params) if spec.lenses else params


def _checked(spec: object) -> CollectionSpec:
    if not isinstance(spec, CollectionSpec):
        raise refuse("spec", "a CollectionSpec", spec)
    return spec


def check_space(spec: CollectionSpec, space: VectorSpace) -> None:
    """Raise SpaceMismatch unless the collection's vectors and this space's may be compared."""
    if spec.space.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"collection {spec.name!r} holds vectors of {spec.space.describe()}, but these would be of "
            f"{space.describe()}; they cannot be compared. Use the collection's own model, or a new collection.",
            field="space",
            collection=spec.name,
            model=space.model,
        )
