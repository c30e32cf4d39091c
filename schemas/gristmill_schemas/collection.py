"""What a collection is: its space, its lenses, its policy for long texts and its registered instructions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar, Final

from pydantic import Field, ValidationInfo, field_validator

from gristmill_schemas.document import canonical_json, hash_of, text_hash
from gristmill_schemas.limits import MAX_INSTRUCTION_CHARS, MAX_INSTRUCTION_VERSION, MAX_LENSES
from gristmill_schemas.space import Distance, VectorSpace
from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import SYSTEM_KEY, CleanText, Identifier, Record


class LongTexts(StrEnum):
    """What happens to a text longer than the chunk size or the model's window."""

    CHUNK = "chunk"  #: cut into overlapping chunks, each its own point
    TRUNCATE = "truncate"  #: cut at the window; the receipt and the job report say so
    REFUSE = "refuse"  #: goes to the dead letters


class ChunkBy(StrEnum):
    """Where long texts are cut, the best place first."""

    TEXT = "text"  #: paragraphs, sentences (Chinese ones at 。！？), words, characters
    MARKDOWN = "markdown"  #: headings by their depth, blocks (paragraphs, lists, tables, code), then as text


class ChunkContext(StrEnum):
    """What stands before each chunk's text where the model reads it."""

    NONE = "none"
    TITLE = "title"  #: the document's title
    HEADINGS = "headings"  #: the headings that the chunk stands under, from the outermost on: `Guide › Install`


class Chunking(Record):
    """Policy for long texts. Sizes are in the model's own tokens."""

    long_texts: LongTexts = LongTexts.CHUNK
    #: Largest chunk. Bounded by the model's window when the worker applies it.
    size: int = Field(default=512, ge=16, le=131_072)
    #: Tokens that neighbouring chunks share; unless told an eighth of the size, and at most 64.
    overlap: int = Field(default_factory=lambda given: min(64, given.get("size", 512) // 8), ge=0)
    by: ChunkBy = ChunkBy.TEXT
    #: Goes into the vector and the keywords, never into the text that is stored.
    context: ChunkContext = ChunkContext.NONE
    #: Field of the metadata that holds the title.
    title_key: Identifier = "title"

    @field_validator("context", mode="before")
    @classmethod
    def _none_is_none(cls, value: Any) -> Any:
        return ChunkContext.NONE if value is None else value

    @field_validator("overlap")
    @classmethod
    def _below_size(cls, value: int, info: ValidationInfo) -> int:
        size = info.data.get("size")
        if size is not None and value >= size:
            raise ValueError(f"expected less than size ({size}), got {value}")
        return value

    def context_in(self, metadata: Mapping[str, Any]) -> tuple[str, ...]:
        """What the metadata says of every chunk: the title, or the headings above the document, the outermost first."""
        if self.context is ChunkContext.NONE:
            return ()
        said = metadata.get(self.title_key if self.context is ChunkContext.TITLE else HEADINGS_KEY)
        lines = [" ".join(each.split()) for each in _listed(said) if isinstance(each, str)]
        return tuple(filter(None, lines))

    def text_hash(self, text: str, metadata: Mapping[str, Any]) -> str:
        """Of what a document's vectors are made: equal hash means that it need not be encoded again."""
        said = self.context_in(metadata)
        return hash_of("\0".join((*said, text)).encode()) if said else text_hash(text)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


#: Field of the metadata that holds the headings above a document, as the reader of Markdown writes it.
HEADINGS_KEY = "headings"

_NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
#: Vectors that a collection has beside its lenses: its keywords.
TAKEN_NAMES: Final = frozenset({"bm25"})


def _named(value: Any, example: str) -> Any:
    if isinstance(value, str) and not re.fullmatch(_NAME, value):
        raise ValueError(
            f"expected 1 to 64 of a-z, 0-9, _ and -, the first a letter or a digit, such as {example}, got {value[:80]!r}"
        )
    return value


def _sentence(value: str, purpose: str) -> str:
    if not value.strip():
        raise ValueError(f"expected a sentence that says what {purpose}, got a blank one")
    return value


class Instruction(Record):
    """A registered instruction: say `faq` or `faq@2` instead of the sentence. A version's text never changes."""

    name: str = Field(pattern=_NAME)
    version: int = Field(default=1, ge=1, le=MAX_INSTRUCTION_VERSION)
    text: CleanText = Field(min_length=1, max_length=MAX_INSTRUCTION_CHARS)
    #: Seconds since 1970, by the clock of whoever did it.
    registered_at: float | None = None
    #: Since when the name alone does not mean this version any more; None while it may.
    retired_at: float | None = None

    @property
    def label(self) -> str:
        """`name@version`, as hits report it."""
        return f"{self.name}@{self.version}"

    @field_validator("name", mode="before")
    @classmethod
    def _a_name(cls, value: Any) -> Any:
        return _named(value, "faq")

    @field_validator("text")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        return _sentence(value, "a search is for")


class Lens(Record):
    """A named vector of a collection: its texts once more, each encoded under this document instruction."""

    name: str = Field(pattern=_NAME)
    #: What documents are encoded for. Decides what the vectors mean, so it never changes.
    document: CleanText = Field(min_length=1, max_length=MAX_INSTRUCTION_CHARS)
    #: What queries are encoded for unless they bring an instruction: a sentence, a registered name, or a preset.
    query: CleanText | None = Field(default=None, min_length=1, max_length=MAX_INSTRUCTION_CHARS)

    @field_validator("name", mode="before")
    @classmethod
    def _a_name(cls, value: Any) -> Any:
        if isinstance(value, str) and value in TAKEN_NAMES:
            raise ValueError(f"expected another name, since a collection's keywords have it, got {value!r}")
        return _named(value, "legal")

    @field_validator("document", "query")
    @classmethod
    def _not_blank(cls, value: str | None) -> str | None:
        return None if value is None else _sentence(value, "texts are encoded for")


class CollectionSpec(Stored):
    """Stored as the collection's metadata in Qdrant, beside its vectors; all but the names (`docs/explanation/names.md`)."""

    KIND: ClassVar[str] = "description of a collection"

    #: The name that was asked for.
    name: Identifier
    #: What that name meant when it was asked: itself, or the collection behind an alias.
    physical: Identifier = Field(default_factory=lambda known: known.get("name", ""))
    #: Given anew to every collection that is created, so that one of the same name is not taken for it.
    incarnation: str = ""
    space: VectorSpace
    distance: Distance = Distance.COSINE
    #: Payload key that holds the text.
    text_key: Identifier = "text"
    chunking: Chunking = Chunking()
    #: Texts can be searched for their words, too.
    keyword: bool = False
    #: Every document has a tenant, and whoever asks names one.
    tenants: bool = False
    #: Further vectors of every text, by name, beside the one without.
    lenses: tuple[Lens, ...] = Field(default=(), max_length=MAX_LENSES)
    #: By name and version. Kept beside the description, each under a key of its own, so that no two writers meet.
    instructions: tuple[Instruction, ...] = ()
    #: Since when its index is put off for a bulk load; None where it is not. Kept beside the description, not in it.
    bulk_since: float | None = None
    #: Copies that Qdrant keeps of each point. Qdrant's own setting, not part of the description.
    replicas: int = Field(default=1, ge=1)

    @property
    def key(self) -> str:
        """What tombstones and roster are kept under: neither outlives its collection, and a copy has its own."""
        return f"{self.physical}@{self.incarnation}" if self.incarnation else self.physical

    @cached_property
    def fingerprint(self) -> str:
        """64 bits in hex over all that decides about a point's vectors: the space, and where there are lenses, those."""
        if not self.lenses:
            return self.space.fingerprint
        views = sorted((lens.name, lens.document) for lens in self.lenses)
        return hashlib.sha256(canonical_json([self.space.fingerprint, views])).hexdigest()[:16]

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors that a model makes of each text: none for the first, then those of the lenses."""
        return ("", *(lens.name for lens in self.lenses))

    def is_meant_by(self, name: str, key: str) -> bool:
        """Whether a parcel for this name, and at the time of enqueueing this key, belongs here as far as can be said."""
        return key == self.key or name in (self.name, self.physical)

    def described(self) -> dict[str, Any]:
        """What is stored with the collection: no name, since a copy under another name would bring the wrong one."""
        beside = {"name", "physical", "bulk_since", "replicas", "instructions"}
        return self.model_dump(mode="json", exclude=beside)

    @field_validator("text_key")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value == SYSTEM_KEY or "." in value or "[" in value:
            raise ValueError(f"expected a plain payload key other than {SYSTEM_KEY!r}, got {value!r}")
        return value


class BulkHolder(Stored):
    """A process, or a promise of some hours, for whose sake a collection's index is put off."""

    KIND: ClassVar[str] = "holder of a bulk load"

    id: str
    #: Seconds since 1970, by the ledger's clock: when it began, and until when it counts unless it says so again.
    since: float
    until: float
    #: Where it runs, for people.
    host: str = ""
    #: Names the machine and its table of processes, where `pid` can be looked up; empty where it cannot.
    machine: str = ""
    pid: int | None = None


class IndexSettings(Record):
    """What decides whether Qdrant builds an index; None and absent: not ours to touch."""

    #: Kilobytes of vectors from which on a segment gets an index; 0 is never.
    indexing_threshold: int | None = None
    #: Edges per node of the graph; 0 is no graph.
    m: int | None = None
    #: The same of vectors that have settings of their own, by name.
    vectors: dict[str, int] = Field(default_factory=dict)


class BulkLoad(Stored):
    """Stored in the collection's metadata in Qdrant as long as its index is put off."""

    KIND: ClassVar[str] = "mark of a bulk load"

    #: Seconds since 1970, by the ledger's clock.
    since: float
    #: What was set before, and will be again.
    before: IndexSettings
    #: Stored beside it one by one, so that no two writers meet.
    holders: tuple[BulkHolder, ...] = ()


class IndexState(StrEnum):
    """How far the index of a collection is."""

    READY = "ready"  #: nothing is left to build; segments too small for an index are read whole, which is as fast
    BUILDING = "building"  #: searches are right, and slower
    DEFERRED = "deferred"  #: put off for a bulk load: searches are right, and slow
    FAILED = "failed"  #: Qdrant says why


class IndexStatus(Record):
    """A collection's index, as Qdrant sees it now."""

    collection: str
    state: IndexState
    points: int
    #: Vectors in the index.
    indexed: int
    #: Why it failed.
    problem: str = ""
    #: The bulk load, while there is one.
    bulk: BulkLoad | None = None


class FieldIndex(Record):
    """An index over a field of the metadata, by which filters on it do not read every document."""

    #: Path of the field, as Qdrant has it: `lang`, `author.name`, `"a.b"`.
    field: str
    #: keyword, integer, float, bool, datetime, uuid, geo or text.
    type: str
    #: Points that have the field.
    points: int
    #: What differs from Qdrant's defaults.
    options: dict[str, Any] = Field(default_factory=dict)
