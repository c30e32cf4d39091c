"""Is a document as it should be? Pure functions over what Qdrant holds of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gristmill.store.points import Seen
from gristmill_schemas import CollectionSpec, Document, Gap, PointSystem, point_id
from gristmill_schemas.point import etag_of


@dataclass(frozen=True, slots=True)
class Subject:
    """One document that should be there."""

    id: str
    tenant: str | None
    #: Version that it should have at least, where that is known.
    version: int | None = None
    #: The caller's word on what its content should be.
    document: Document | None = None
    #: Points of it were seen; it was not merely accepted.
    trace: bool = False
    #: Its identity: the point id of its chunk 0.
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", point_id(self.id, self.tenant))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a subject."""

    subject: Subject
    gap: Gap
    detail: str
    #: What is held of it: its chunk 0, where there is one.
    held: PointSystem | None = None
    #: A point that is not ours lies where its chunk 0 belongs.
    squatted: bool = False

    @property
    def version(self) -> int | None:
        """Version in question: a deletion or dead letter of at least this one explains the problem."""
        if self.subject.version is not None:
            return self.subject.version
        return None if self.held is None else self.held.version


def chunk_ids(held: PointSystem) -> list[str]:
    """Point ids of all chunks that a document should have, chunk 0 first."""
    return [point_id(held.id, held.tenant, chunk) for chunk in range(held.chunks)]


def judge(
    subject: Subject, points: Mapping[str, Seen], spec: CollectionSpec, lacking: Mapping[str, Sequence[str]]
) -> Problem | None:
    """What is wrong with a document, or None.

    Args:
        subject: what should be there.
        points: what is there: at least all of its chunks.
        spec: the collection.
        lacking: names of the vectors that points do not have and should, by their ids.
    """
    first = points.get(subject.key)
    if first is None or first.system is None:
        gap = Gap.INCOMPLETE if subject.trace else Gap.MISSING
        detail = "no chunk 0, which is written last" if subject.trace else "no such point"
        return Problem(subject, gap, first.problem if first else detail, squatted=first is not None)
    held = first.system
    found = (
        _wrong_content(subject, held, spec)
        or _wrong_chunks(held, [points.get(each) for each in chunk_ids(held)])
        or _wrong_vectors(held, spec, lacking)
    )
    return None if found is None else Problem(subject, *found, held)


def _wrong_vectors(
    held: PointSystem, spec: CollectionSpec, lacking: Mapping[str, Sequence[str]]
) -> tuple[Gap, str] | None:
    if held.space != spec.fingerprint:
        return Gap.WRONG_SPACE, f"expected vectors of space {spec.fingerprint}, got {held.space}"
    for number, each in enumerate(chunk_ids(held)):
        if names := lacking.get(each):
            what = " and ".join(f"vector {name!r}" if name else "vector" for name in names)
            return (
                Gap.VECTORLESS,
                f"chunk {number} of {held.chunks} has no {what}: searches by it do not find the document",
            )
    return None


def _wrong_content(subject: Subject, held: PointSystem, spec: CollectionSpec) -> tuple[Gap, str] | None:
    if subject.version is not None and held.version != subject.version:
        if held.version > subject.version:
            return None  # a newer one is there, and the newest wins
        return Gap.STALE, f"expected version {subject.version} or newer, got {held.version}"
    document = subject.document
    if document is None or held.etag == etag_of(subject.key, document.text_hash, document.metadata_hash):
        return None
    same_text = held.text_hash in (document.text_hash, spec.chunking.text_hash(document.text, document.metadata))
    what = "metadata" if same_text else "text"
    return Gap.STALE, f"version {held.version} has another {what} than the document that was given"


def _wrong_chunks(held: PointSystem, chunks: Sequence[Seen | None]) -> tuple[Gap, str] | None:
    for number, seen in enumerate(chunks):
        if seen is None or seen.system is None:
            return Gap.INCOMPLETE, f"chunk {number} of {held.chunks} is not there"
        if (seen.system.version, seen.system.etag) != (held.version, held.etag):
            return Gap.INCOMPLETE, f"chunk {number} of {held.chunks} is of version {seen.system.version}"
    return None


def is_leftover(chunk: PointSystem, first: PointSystem) -> bool:
    """Whether a chunk is one that its document, as chunk 0 describes it, no longer has."""
    return chunk.chunk >= first.chunks and chunk.version <= first.version
