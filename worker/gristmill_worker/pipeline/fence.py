"""The fence: what to do with a document, given what Qdrant holds of it. Pure; the newest version wins, in any order.

Chunk 0 speaks for its document: it is written after all other chunks, so where it stands at a version, that version was
complete *then*. A later writer replaces the other chunks before chunk 0, and may die or be overtaken in between; so a
document of several chunks counts as present only while all of them agree with chunk 0, before and after every action.
Writes are conditional in Qdrant as well (`stored version < mine`); this module decides what is worth trying and reads,
afterwards, what became of it.

None of the records of a document's way is frozen: there are half a dozen for each, and that doubles what making one costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gristmill_schemas import ChunkContext, Chunking, Document, Outcome, PointSystem, point_id
from gristmill_schemas.document import canonical_json, hash_of
from gristmill_schemas.point import etag_of

#: Of a collection whose vectors are made of the text alone.
_PLAIN: Final = Chunking()


@dataclass(slots=True)
class Task:
    """One document on its way, with its version settled."""

    document: Document
    version: int
    job_id: str
    #: Of the collection: what of the metadata goes into vectors, too.
    chunking: Chunking = _PLAIN
    #: The document's identity within its collection: the point id of its chunk 0.
    key: str = field(init=False)
    text_hash: str = field(init=False)
    #: The document's identity and content in one value, whatever its vectors are made of.
    etag: str = field(init=False)
    metadata_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        # At once: `cached_property` has one lock per class before Python 3.12, at which all task threads would queue.
        document = self.document
        self.key = point_id(document.id, document.tenant)
        plain = document.text_hash
        bare = self.chunking.context is ChunkContext.NONE
        self.text_hash = plain if bare else self.chunking.text_hash(document.text, document.metadata)
        metadata = canonical_json(document.metadata)
        self.etag = etag_of(self.key, plain, hash_of(metadata))
        self.metadata_bytes = len(metadata)

    def point_id(self, chunk: int) -> str:
        """The id of one of its chunks."""
        return point_id(self.document.id, self.document.tenant, chunk) if chunk else self.key


@dataclass(slots=True)
class Unchanged:
    """What is known of a document's only chunk where it was found to hold what it should: nothing else was read of it."""

    id: str
    tenant: str | None
    version: int
    text_hash: str
    etag: str
    space: str
    chunk: int = 0
    chunks: int = 1

    @classmethod
    def of(cls, task: Task, version: int, space: str) -> Unchanged:
        """A task's document, at the version that was found."""
        document = task.document
        return cls(document.id, document.tenant, version, task.text_hash, task.etag, space)


@dataclass(slots=True)
class Held:
    """What Qdrant and the ledger hold of one document."""

    #: System payload of chunk 0, or None where there is no such point.
    stored: PointSystem | Unchanged | None
    #: Version of its deletion, or None where it was not deleted.
    tombstone: int | None
    #: Those of the chunks from 1 on that exist; afterwards also one beyond the document's end, a leftover.
    others: tuple[PointSystem, ...] = ()
    #: Why a point under one of the document's ids is not ours, where there is such a point.
    squatter: str | None = None

    @property
    def whole(self) -> bool:
        """Whether all chunks are there, in the version and content of chunk 0."""
        if self.stored is None or self.stored.chunks == 1:
            return self.stored is not None
        version, etag = self.stored.version, self.stored.etag
        matching = {each.chunk for each in self.others if (each.version, each.etag) == (version, etag)}
        return matching.issuperset(range(1, self.stored.chunks))

    @property
    def newest(self) -> int:
        """The highest version seen on any chunk; 0 where there is none."""
        of_first = self.stored.version if self.stored else 0
        return max(of_first, *(each.version for each in self.others)) if self.others else of_first

    @property
    def foreign(self) -> bool:
        """Whether there are chunks that do not belong to what chunk 0 says, and are no newer."""
        stored = self.stored
        return stored is not None and any(
            each.etag != stored.etag and each.version <= stored.version for each in self.others
        )


class Action(StrEnum):
    """What is left to do."""

    ENCODE = "encode"  #: new text: encode and write
    METADATA = "metadata"  #: the same text under other metadata: payload only
    TOUCH = "touch"  #: nothing changed: only the version moves up, so that older late work stays fenced off
    SETTLE = "settle"  #: this very version is there already
    YIELD = "yield"  #: something newer is there, or a deletion


def decide(task: Task, held: Held, fingerprint: str) -> Action:
    """What to do with a document, before writing.

    Args:
        task: the document and its version.
        held: what is there now.
        fingerprint: of the collection's space; a point of another space is encoded again.
    """
    stored = held.stored
    if held.tombstone is not None and held.tombstone >= task.version:
        return Action.YIELD
    if stored is None:
        return Action.ENCODE
    if held.newest > task.version:
        return Action.YIELD
    # A repair takes the hash away, so that the text is encoded again.
    current = stored.space == fingerprint and bool(stored.text_hash)
    # Content decides: what is unchanged stays as it is also where the collection would cut it otherwise by now.
    same = current and stored.etag == task.etag
    same_text = same or (current and stored.text_hash == task.text_hash)
    if stored.version == task.version and not same:
        return Action.YIELD
    if not held.whole or not same_text:
        return Action.ENCODE
    if stored.version == task.version:
        return Action.SETTLE
    return Action.TOUCH if same else Action.METADATA


def outcome(task: Task, action: Action, held: Held, fingerprint: str) -> Outcome | None:
    """What became of a document, after `action` was tried and `held` read back; None: overtaken midway, try again."""
    match decide(task, held, fingerprint):
        case Action.YIELD:
            return Outcome.SUPERSEDED
        case Action.SETTLE if action is Action.TOUCH:
            return Outcome.SKIPPED
        case Action.SETTLE if action is Action.SETTLE:
            # There before we came: by an earlier delivery of this job, or by another that said the same.
            return Outcome.STORED if getattr(held.stored, "job", None) == task.job_id else Outcome.SKIPPED
        case Action.SETTLE:
            return Outcome.STORED
    return None


def leaves_chunks(action: Action, before: Held, after: Held) -> bool:
    """Whether chunks of another version may be left behind, so that they must be deleted.

    Either this version replaced one with more chunks, perhaps written after we had looked; or a loser's late chunks were
    inserted where the winner has none, and the loser may be us, in an earlier life.
    """
    if action in (Action.YIELD, Action.SETTLE) or after.foreign:
        return True
    return action is Action.ENCODE and before.stored is not None and before.stored.chunks > 1
