"""What stands around a hit: its neighbours in the document, joined with it into one piece of the text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qdrant_client import QdrantClient

from gristmill.store.connection import store_errors
from gristmill.store.points import read_content, read_point, span_of
from gristmill_schemas import CollectionSpec, FoundChunk, PointSystem, SearchHit, point_id
from gristmill_schemas.validation import SYSTEM_KEY

#: Points per request, texts included.
_PAGE = 256


@dataclass(frozen=True, slots=True)
class _Part:
    version: int
    span: tuple[int, int]
    text: str


def with_passages(store: QdrantClient, spec: CollectionSpec, hits: Sequence[SearchHit], chunks: int) -> list[SearchHit]:
    """The hits, each chunk of theirs with so many neighbours on either side; one look at Qdrant for all of them."""
    wanted = {each for hit in hits for number in _numbers(hit) for each in _around(hit, number, chunks)}
    parts = _parts(store, spec, wanted)
    return [_in_passage(hit, chunks, parts) for hit in hits]


def _numbers(hit: SearchHit) -> Iterable[int]:
    return {hit.chunk, *(each.chunk for each in hit.best_chunks)}


def _around(hit: SearchHit, number: int, chunks: int) -> list[str]:
    numbers = range(max(number - chunks, 0), min(number + chunks, hit.chunks - 1) + 1)
    return [point_id(hit.id, hit.tenant, each) for each in numbers]


def _parts(store: QdrantClient, spec: CollectionSpec, wanted: Iterable[str]) -> dict[str, _Part]:
    ids, parts = sorted(wanted), {}
    for start in range(0, len(ids), _PAGE):
        with store_errors(spec.name):
            points = store.retrieve(
                spec.name, ids[start : start + _PAGE], with_payload=[SYSTEM_KEY, spec.text_key], with_vectors=False
            )
        for point in points:
            if isinstance(system := read_point(point), PointSystem):
                payload = point.payload or {}
                text, _ = read_content(spec, payload)
                parts[str(point.id)] = _Part(system.version, span_of(spec, system.span, payload), text)
    return parts


def _in_passage(hit: SearchHit, chunks: int, parts: Mapping[str, _Part]) -> SearchHit:
    passage, span = _joined(hit, hit.chunk, chunks, parts)
    best = tuple(_chunk_in_passage(hit, each, chunks, parts) for each in hit.best_chunks)
    return hit.model_copy(update={"passage": passage, "passage_span": span, "best_chunks": best})


def _chunk_in_passage(hit: SearchHit, chunk: FoundChunk, chunks: int, parts: Mapping[str, _Part]) -> FoundChunk:
    passage, span = _joined(hit, chunk.chunk, chunks, parts)
    return chunk.model_copy(update={"passage": passage, "passage_span": span})


def _joined(
    hit: SearchHit, number: int, chunks: int, parts: Mapping[str, _Part]
) -> tuple[str | None, tuple[int, int] | None]:
    """The text from the first neighbour to the last, as far as they follow one another without a gap."""
    middle = point_id(hit.id, hit.tenant, number)
    run: list[_Part] = []
    for key in _around(hit, number, chunks):
        part = parts.get(key)
        if part is None or part.version != hit.version:
            if any(each is parts.get(middle) for each in run):
                break
            run = []
        else:
            run.append(part)
    if not run:
        return None, None
    start = run[0].span[0]
    text = ""
    for part in run:
        text += part.text[start + len(text) - part.span[0] :]
    return text, (start, start + len(text))
