"""Examples instead of a query: stored documents, texts and vectors, wanted or not, become what Qdrant compares with.

A document is the mean of its chunks' vectors, of unit length where its collection compares by cosine, so that it counts
once however long it is. A text is encoded as a query is: one text as the only example finds what a search for it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient, models

from gristmill.arguments import identifier, is_one_id, refuse, text
from gristmill.store.connection import store_errors
from gristmill.store.points import read_point
from gristmill.store.queries import listed
from gristmill.store.vectors import vector_of
from gristmill_schemas import CollectionSpec, Distance, PointSystem, Strategy, point_id
from gristmill_schemas.errors import InvalidInput, SpaceMismatch
from gristmill_schemas.limits import MAX_QUERY_BYTES
from gristmill_schemas.point import ID_PATH, TENANT_PATH
from gristmill_schemas.validation import SYSTEM_KEY, shown

#: Most examples of one call.
_MOST = 256
#: Points per request, vectors included.
_PAGE = 256
_EXPECTED = "an id, {'text': '…'}, or a list of these"

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Example:
    """A stored document, a text or a vector, and the argument that brought it."""

    field: str
    id: str | None = None
    text: str | None = None
    vector: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Examples:
    """What hits shall be like, what they shall not be like, and how the two are weighed."""

    positive: tuple[Example, ...]
    negative: tuple[Example, ...] = ()
    strategy: Strategy = Strategy.AVERAGE_VECTOR

    @property
    def all(self) -> tuple[Example, ...]:
        """Both."""
        return self.positive + self.negative

    @property
    def ids(self) -> list[str]:
        """Those that are stored, each once."""
        return list(dict.fromkeys(each.id for each in self.all if each.id is not None))

    @property
    def texts(self) -> list[str]:
        """Those that are to be encoded, each once."""
        return list(dict.fromkeys(each.text for each in self.all if each.text is not None))

    def require_size(self, spec: CollectionSpec) -> None:
        """Raise SpaceMismatch for a vector that cannot be of this collection's space."""
        for each in self.all:
            if each.vector is not None and len(each.vector) != spec.space.dimensions:
                raise SpaceMismatch(
                    f"{each.field}: expected {spec.space.dimensions} numbers, as vectors of collection {spec.name!r} have "
                    f"(client.embed(texts, collection={spec.name!r}) makes them), got {len(each.vector)}",
                    field=each.field,
                    collection=spec.name,
                )

    def score_kind(self, spec: CollectionSpec) -> str:
        """What a hit's score is: see `SearchHit.score_kind`."""
        return str(spec.distance if self.strategy is Strategy.AVERAGE_VECTOR else self.strategy)

    def asked(
        self, documents: Mapping[str, Vector], texts: Mapping[str, Vector]
    ) -> models.Query | Vector | list[float]:
        """In Qdrant's words, by the vectors of all of them; one alone as it is."""

        def vectors(examples: Iterable[Example]) -> list[Any]:
            return [_vector_of(each, documents, texts) for each in examples]

        positive, negative = vectors(self.positive), vectors(self.negative)
        if len(positive) == 1 and not negative and self.strategy is Strategy.AVERAGE_VECTOR:
            nearest: Vector | list[float] = positive[0]
            return nearest
        given = models.RecommendInput(
            positive=list(map(listed, positive)),
            negative=list(map(listed, negative)),
            strategy=models.RecommendStrategy(self.strategy.value),
        )
        return models.RecommendQuery(recommend=given)

    def others(self, conditions: models.Filter | None, tenant: str | None) -> models.Filter | None:
        """The conditions, and that a document is none of the examples."""
        if not self.ids:
            return conditions
        named = models.FieldCondition(key=ID_PATH, match=models.MatchAny(any=self.ids))
        themselves = models.Filter(must=[named, _owned_by(tenant)])
        return models.Filter(must=conditions, must_not=[themselves])


def _vector_of(example: Example, documents: Mapping[str, Vector], texts: Mapping[str, Vector]) -> Vector | list[float]:
    if example.vector is not None:
        return list(example.vector)
    if example.text is not None:
        return texts[example.text]
    return documents[example.id or ""]


def _owned_by(tenant: str | None) -> models.Condition:
    if tenant is None:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=TENANT_PATH))
    return models.FieldCondition(key=TENANT_PATH, match=models.MatchValue(value=tenant))


def asked_examples(positive: object, negative: object, strategy: Strategy | str) -> Examples:
    """What was given, checked: ids, `{"text": "…"}`, or lists of these."""
    if strategy not in list(Strategy):
        raise refuse("strategy", f"one of {', '.join(Strategy)}", strategy)
    asked = Examples(_examples("positive", positive), _examples("negative", negative), Strategy(strategy))
    if not asked.all:
        raise refuse("positive", f"at least one example, {_EXPECTED}", positive)
    if not asked.positive and asked.strategy is Strategy.AVERAGE_VECTOR:
        raise refuse(
            "positive",
            f"at least one example with strategy='{asked.strategy}' (best_score and sum_scores do with negative ones)",
            positive,
        )
    if len(asked.all) > _MOST:
        raise refuse("positive", f"at most {_MOST} examples, the negative ones included", len(asked.all))
    return asked


def asked_vector(value: object) -> Examples:
    """One vector as the only example, checked: finite numbers, not all of them zero."""
    refusal = refuse("vector", "a sequence of finite numbers that are not all zero", value)
    try:
        given = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise refusal from error
    if given.ndim != 1 or given.dtype.kind not in "fiu":
        raise refusal
    with np.errstate(over="ignore"):
        found = given.astype(np.float32)
    if not np.isfinite(found).all() or not found.any():
        raise refusal
    return Examples((Example("vector", vector=tuple(found.tolist())),))


def _examples(field: str, given: object) -> tuple[Example, ...]:
    if given is None:
        return ()
    if is_one_id(given) or isinstance(given, Mapping):
        return (_example(field, given),)
    if isinstance(given, bytes | bytearray) or not isinstance(given, Iterable):
        raise refuse(field, _EXPECTED, given)
    return tuple(_example(f"{field}[{position}]", each) for position, each in enumerate(given))


def _example(field: str, given: Any) -> Example:
    if isinstance(given, Mapping):
        if set(given) == {"text"}:
            return Example(field, text=text(f"{field}.text", given["text"], MAX_QUERY_BYTES))
        if set(given) == {"id"}:
            return Example(field, id=identifier(f"{field}.id", given["id"]))
        raise refuse(field, "an id or {'text': '…'}", dict(given))
    return Example(field, id=identifier(field, given))


def vectors_of(
    store: QdrantClient, spec: CollectionSpec, examples: Examples, tenant: str | None, name: str = ""
) -> dict[str, Vector]:
    """Vectors of the examples that are stored documents, by id; float32 (D,).

    Args:
        store: server or local mode.
        spec: the collection.
        examples: the documents, and others.
        tenant: whose documents they are.
        name: of the vector; the empty one is the collection's own.

    Raises:
        InvalidInput: the collection does not hold one of them, or not for this tenant.
    """
    read = _reader(store, spec, name)
    first = {each: point_id(each, tenant) for each in examples.ids}
    found = read(list(first.values()))
    unknown = [each for each in examples.all if each.id is not None and first[each.id] not in found]
    if unknown:
        raise _unknown(spec, unknown, tenant)
    rest = {each: [point_id(each, tenant, n) for n in range(1, found[key][0].chunks)] for each, key in first.items()}
    found |= read([key for keys in rest.values() for key in keys])
    return {
        each: _mean(spec, [found[key] for key in (first[each], *keys) if key in found]) for each, keys in rest.items()
    }


def _reader(
    store: QdrantClient, spec: CollectionSpec, name: str
) -> Callable[[Sequence[str]], dict[str, tuple[PointSystem, Any]]]:
    def read(ids: Sequence[str]) -> dict[str, tuple[PointSystem, Any]]:
        held: dict[str, tuple[PointSystem, Any]] = {}
        for start in range(0, len(ids), _PAGE):
            page = list(ids[start : start + _PAGE])
            with store_errors(spec.name):
                points = store.retrieve(spec.name, page, with_payload=[SYSTEM_KEY], with_vectors=[name])
            for point in points:
                vector = vector_of(point, name)
                if vector is not None and isinstance(system := read_point(point), PointSystem):
                    held[str(point.id)] = system, vector
        return held

    return read


def _mean(spec: CollectionSpec, chunks: Sequence[tuple[PointSystem, Any]]) -> Vector:
    """Of the chunks of one content: while a document is replaced there are those of two."""
    etag = chunks[0][0].etag
    mean: Vector = np.mean([vector for system, vector in chunks if system.etag == etag], axis=0, dtype=np.float32)
    length = float(np.linalg.norm(mean))
    return mean / np.float32(length) if spec.distance is Distance.COSINE and length else mean


def _unknown(spec: CollectionSpec, unknown: Sequence[Example], tenant: str | None) -> InvalidInput:
    whose = "" if tenant is None else f" of tenant {tenant!r}"
    names = ", ".join(f"{each.field}: {shown(each.id)}" for each in unknown[:5]) + (", …" if len(unknown) > 5 else "")
    return InvalidInput(
        f"{unknown[0].field}: expected ids of documents{whose} that collection {spec.name!r} holds, got some that it does "
        f"not hold: {names}; what was enqueued is there once its job is done (`gristmill receipt {spec.name} ID`)",
        field=unknown[0].field,
        collection=spec.name,
    )
