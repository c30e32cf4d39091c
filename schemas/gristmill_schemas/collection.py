"""What a collection is: its space, its policy for long texts and its registered instructions."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from gristmill_schemas.limits import MAX_INSTRUCTION_CHARS
from gristmill_schemas.space import Distance, VectorSpace
from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import SYSTEM_KEY, CleanText, Identifier, Record


class LongTexts(StrEnum):
    """What happens to a text longer than the chunk size or the model's window."""

    CHUNK = "chunk"  #: cut into overlapping chunks, each its own point
    TRUNCATE = "truncate"  #: cut at the window; the receipt and the job report say so
    REFUSE = "refuse"  #: goes to the dead letters


class Chunking(Record):
    """Policy for long texts. Sizes are in the model's own tokens."""

    long_texts: LongTexts = LongTexts.CHUNK
    #: Largest chunk. Bounded by the model's window when the worker applies it.
    size: int = Field(default=512, ge=16, le=131_072)
    #: Tokens that neighbouring chunks share.
    overlap: int = Field(default=64, ge=0)

    @field_validator("overlap")
    @classmethod
    def _below_size(cls, value: int, info: ValidationInfo) -> int:
        size = info.data.get("size")
        if size is not None and value >= size:
            raise ValueError(f"expected less than size ({size}), got {value}")
        return value


class Instruction(Record):
    """A registered instruction: say `faq` or `faq@2` instead of the sentence."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    version: int = Field(default=1, ge=1)
    text: CleanText = Field(min_length=1, max_length=MAX_INSTRUCTION_CHARS)

    @property
    def label(self) -> str:
        """`name@version`, as hits report it."""
        return f"{self.name}@{self.version}"


class CollectionSpec(Stored):
    """Stored as the collection's metadata in Qdrant, next to its vectors; all but the names (`docs/names.md`)."""

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
    instructions: tuple[Instruction, ...] = ()

    @property
    def key(self) -> str:
        """What tombstones and roster are kept under: neither outlives its collection, and a copy has its own."""
        return f"{self.physical}@{self.incarnation}" if self.incarnation else self.physical

    def is_meant_by(self, name: str, key: str) -> bool:
        """Whether a parcel for this name, and at the time of enqueueing this key, belongs here as far as can be said."""
        return key == self.key or name in (self.name, self.physical)

    def described(self) -> dict[str, Any]:
        """What is stored with the collection: no name, since a copy under another name would bring the wrong one."""
        return self.model_dump(mode="json", exclude={"name", "physical"})

    @field_validator("text_key")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value == SYSTEM_KEY or "." in value or "[" in value:
            raise ValueError(f"expected a plain payload key other than {SYSTEM_KEY!r}, got {value!r}")
        return value
