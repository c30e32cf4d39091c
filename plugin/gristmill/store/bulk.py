"""Putting off the index of a collection while much is written, and building it once at the end.

HNSW costs twenty times the write itself. Two settings of Qdrant put it off: `indexing_threshold=0` builds no index for what
is written from now on, and keeps what there is; `m=0`, where nothing is indexed yet, builds no graph.

What was set before lies in the collection's own metadata, which is written before anything is changed and taken away after
everything is restored: so it goes where the collection goes, and whatever is killed in between leaves a mark that the next
look finds. Each holder has a key of its own beside it, since Qdrant replaces metadata key by key.

metadata = {"gristmill": CollectionSpec, "gristmill_bulk": BulkLoad, "gristmill_bulk:<holder>": BulkHolder}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qdrant_client import QdrantClient, models

from gristmill.store.connection import store_errors
from gristmill.store.keywords import KEYWORDS
from gristmill_schemas import BulkHolder, BulkLoad, IndexState, IndexStatus
from gristmill_schemas.collection import IndexSettings

#: Key of the mark among the collection's metadata; holders stand behind a colon.
MARK_KEY = "gristmill_bulk"

_STATES = {
    models.CollectionStatus.GREEN: IndexState.READY,
    models.CollectionStatus.RED: IndexState.FAILED,
}


def since_of(metadata: Mapping[str, Any]) -> float | None:
    """Since when a collection with this metadata is in a bulk load; None where it is not."""
    mark = metadata.get(MARK_KEY)
    return mark.get("since") if isinstance(mark, Mapping) else None


def read_bulk(info: models.CollectionInfo) -> BulkLoad | None:
    """The bulk load that a collection is in.

    Raises:
        NewerFormat: a newer Gristmill began it.
        InvalidInput: its mark cannot be read.
    """
    metadata = info.config.metadata or {}
    if (mark := metadata.get(MARK_KEY)) is None:
        return None
    return BulkLoad.read(mark).model_copy(update={"holders": tuple(map(BulkHolder.read, _holders(info)))})


def _holders(info: models.CollectionInfo) -> Iterator[Any]:
    metadata = info.config.metadata or {}
    return (value for key, value in sorted(metadata.items()) if key.startswith(f"{MARK_KEY}:") and value)


def hold(store: QdrantClient, name: str, holder: BulkHolder, *, again: bool = False) -> bool:
    """Put the index off for this holder's sake, or say again that it still needs that.

    False where it is said again, but was taken away: somebody has switched indexing on by force.
    """
    info = _info(store, name)
    if again and not (info.config.metadata or {}).get(_key(holder.id)):
        return False
    load, marks = read_bulk(info), {_key(holder.id): holder.model_dump(mode="json")}
    if load is None:
        load = BulkLoad(since=holder.since, before=_switched_on(store, name, info))
        marks[MARK_KEY] = load.model_dump(mode="json", exclude={"holders"})
    _update(store, name, metadata=marks)
    if read_bulk(_info(store, name)) is None:  # `restore` took the mark away just now, before it could see this holder
        _update(store, name, metadata={MARK_KEY: load.model_dump(mode="json", exclude={"holders"})})
    # Also where the mark was there already: whoever made it may have been killed before this, or another have restored it.
    if on := _common(load.before, _switched_on(store, name, info)):
        _apply(store, name, _off(on))
    return True


def release(store: QdrantClient, name: str, *holders: str) -> None:
    """These holders need it no more."""
    if holders:
        _update(store, name, metadata=dict.fromkeys(map(_key, holders)))


def restore(store: QdrantClient, name: str, ended: BulkLoad | None = None) -> bool:
    """Set what was set before, and begin to build the index; False where there was nothing to restore, or not yet.

    What somebody else has set meanwhile stays. So does the mark for a holder that came meanwhile, which says what was set
    before.

    Args:
        store: where the collection is.
        name: its physical name.
        ended: the load that is over, as it was seen; with holders that are not in it nothing is restored. None ends any.
    """
    info = _info(store, name)
    load = read_bulk(info)
    if load is None or (ended and not {each.id for each in load.holders} <= {each.id for each in ended.holders}):
        return False
    _apply(store, name, _still_off(load.before, info))
    _update(store, name, metadata=dict.fromkeys((MARK_KEY, *(_key(each.id) for each in load.holders))))
    if not any(_holders(_info(store, name))):
        return True
    _update(store, name, metadata={MARK_KEY: load.model_dump(mode="json", exclude={"holders"})})
    return False


def nudge(store: QdrantClient, name: str) -> None:
    """Make a server that was restarted go on building, which it does at the next write only."""
    _update(store, name, optimizers_config=models.OptimizersConfigDiff())


def index_status(store: QdrantClient, name: str, asked: str) -> tuple[IndexStatus, bool]:
    """How far the index of a physical collection is, under the name that was asked for; and whether it needs a nudge."""
    info = _info(store, name)
    load, failed = read_bulk(info), getattr(info.optimizer_status, "error", "")
    state = IndexState.DEFERRED if load else _STATES.get(info.status, IndexState.BUILDING)
    status = IndexStatus(
        collection=asked,
        state=IndexState.FAILED if failed else state,
        points=info.points_count or 0,
        indexed=_indexed(store, name, info),
        problem=failed,
        bulk=load,
    )
    return status, info.status is models.CollectionStatus.GREY


def _info(store: QdrantClient, name: str) -> models.CollectionInfo:
    with store_errors(name):
        return store.get_collection(name)


def _indexed(store: QdrantClient, name: str, info: models.CollectionInfo) -> int:
    """Points in the graph; of those with lenses, as many as all their graphs have on average.

    Qdrant counts each lens, and keywords as well, which are in an index as soon as they are written.
    """
    indexed = info.indexed_vectors_count or 0
    if indexed and info.config.params.sparse_vectors:
        with_words = models.Filter(must=[models.HasVectorCondition(has_vector=KEYWORDS)])
        with store_errors(name):
            indexed = max(indexed - store.count(name, count_filter=with_words, exact=True).count, 0)
    # Rounded up: a graph that is there is no empty one.
    return -(-indexed // len(_vectors(info)))


def _update(store: QdrantClient, name: str, **changes: Any) -> None:
    with store_errors(name):
        store.update_collection(name, **changes)


def _key(holder: str) -> str:
    return f"{MARK_KEY}:{holder}"


def _switched_on(store: QdrantClient, name: str, info: models.CollectionInfo) -> IndexSettings:
    """What has to be set to 0 so that nothing more is indexed. A graph that is there stays, and with it its setting."""
    threshold = info.config.optimizer_config.indexing_threshold or None
    graphs = not _indexed(store, name, info) or info.config.optimizer_config.indexing_threshold is None
    own = {name: params.hnsw_config.m for name, params in _vectors(info).items() if params.hnsw_config is not None}
    return IndexSettings(
        indexing_threshold=threshold,
        m=info.config.hnsw_config.m or None if graphs else None,
        vectors={name: m for name, m in own.items() if m} if graphs else {},
    )


def _vectors(info: models.CollectionInfo) -> dict[str, models.VectorParams]:
    vectors = info.config.params.vectors
    return {"": vectors} if isinstance(vectors, models.VectorParams) else dict(vectors or {})


def _common(before: IndexSettings, now: IndexSettings) -> IndexSettings | None:
    """Of what the mark remembers, that which is switched on now."""
    found = IndexSettings(
        indexing_threshold=before.indexing_threshold and now.indexing_threshold,
        m=before.m and now.m,
        vectors={name: m for name, m in now.vectors.items() if name in before.vectors},
    )
    return found if found != IndexSettings() else None


def _off(settings: IndexSettings) -> IndexSettings:
    return IndexSettings(
        indexing_threshold=None if settings.indexing_threshold is None else 0,
        m=None if settings.m is None else 0,
        vectors=dict.fromkeys(settings.vectors, 0),
    )


def _still_off(before: IndexSettings, info: models.CollectionInfo) -> IndexSettings:
    """Of what was set before, that which is still as a bulk load sets it."""
    own = {name: params.hnsw_config.m for name, params in _vectors(info).items() if params.hnsw_config is not None}
    return IndexSettings(
        indexing_threshold=None if info.config.optimizer_config.indexing_threshold else before.indexing_threshold,
        m=None if info.config.hnsw_config.m else before.m,
        vectors={name: m for name, m in before.vectors.items() if own.get(name) == 0},
    )


def _apply(store: QdrantClient, name: str, settings: IndexSettings) -> None:
    own = {
        each: models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=m)) for each, m in settings.vectors.items()
    }
    _update(
        store,
        name,
        # Always: even an empty one makes Qdrant look at what there is to build.
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=settings.indexing_threshold),
        hnsw_config=None if settings.m is None else models.HnswConfigDiff(m=settings.m),
        vectors_config=own or None,
    )
