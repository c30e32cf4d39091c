"""The fence: what to do with a document, given what Qdrant holds of it. Pure; the newest version wins, in any order.

Chunk 0 speaks for its document: it is written after all other chunks, so where it stands at a version, that version was
complete. Writes are conditional in Qdrant as well (`stored version < mine`); this module decides what is worth trying
and reads, afterwards, what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gristmill_schemas import Document, Outcome, PointSystem, point_id
from gristmill_schemas.point import etag_of


@dataclass(frozen=True, slots=True)
class Task:
    """One document on its way, with its version settled."""

    document: Document
    version: int
    job_id: str

    @property
    def key(self) -> str:
        """The document's identity within its collection: the point id of its chunk 0."""
        return point_id(self.document.id, self.document.tenant)

    @property
    def etag(self) -> str:
        """The document's identity and content in one value."""
        return etag_of(self.key, self.document.text_hash, self.document.metadata_hash)


@dataclass(frozen=True, slots=True)
class Held:
    """What Qdrant and the ledger hold of one document."""

    #: System payload of chunk 0, or None where there is no such point.
    stored: PointSystem | None
    #: Version of its deletion, or None where it was not deleted.
    tombstone: int | None


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
    if stored.version > task.version:
        return Action.YIELD
    same_text = stored.text_hash == task.document.text_hash and stored.space == fingerprint
    same = same_text and stored.metadata_hash == task.document.metadata_hash
    if stored.version == task.version:
        return Action.SETTLE if same else Action.YIELD
    if same:
        return Action.TOUCH
    return Action.METADATA if same_text else Action.ENCODE


def outcome(task: Task, action: Action, held: Held, fingerprint: str) -> Outcome | None:
    """What became of a document, after `action` was tried and `held` read back; None: overtaken midway, try again."""
    match decide(task, held, fingerprint):
        case Action.YIELD:
            return Outcome.SUPERSEDED
        case Action.SETTLE if action is Action.TOUCH:
            return Outcome.SKIPPED
        case Action.SETTLE if action is Action.SETTLE:
            # There before we came: by an earlier delivery of this job, or by another that said the same.
            return Outcome.STORED if held.stored and held.stored.job == task.job_id else Outcome.SKIPPED
        case Action.SETTLE:
            return Outcome.STORED
    return None


def leaves_chunks(task: Task, action: Action, before: Held) -> bool:
    """Whether chunks of an older version may be left behind, so that they must be deleted.

    Either this version replaced one with more chunks, or a loser's late chunks were inserted where the winner has none.
    """
    if action in (Action.YIELD, Action.SETTLE):
        return True
    return action is Action.ENCODE and before.stored is not None and before.stored.chunks > 1
