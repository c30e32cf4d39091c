"""Vector spaces: what must agree before two vectors may be compared, and the templates that are part of it."""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from functools import cached_property
from typing import ClassVar

from pydantic import Field, field_validator

from gristmill_schemas.document import canonical_json
from gristmill_schemas.errors import DimensionsNotSupported, InvalidInput
from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import CleanText, Identifier, ModelDigest, Record


class Pooling(StrEnum):
    """How token states become one vector."""

    LAST = "last"  #: the last token's state: causal decoders such as Qwen3
    MEAN = "mean"  #: the mean over the text's tokens: E5, MiniLM
    CLS = "cls"  #: the first token's state: BGE, ModernBERT embedders
    MAX = "max"  #: the largest of the text's tokens in each dimension
    WEIGHTED = "weightedmean"  #: the mean with weights 1, 2, 3, …: SGPT
    SQRT = "mean_sqrt_len"  #: the sum over the text's tokens, divided by the square root of their number


class Distance(StrEnum):
    """How Qdrant compares vectors."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLID = "euclid"


class ModelTask(StrEnum):
    """What a model is served for."""

    EMBEDDING = "embedding"  #: texts become vectors
    RERANKING = "reranking"  #: a query and a document become one score


class Templates(Record):
    """How an instruction and a text become model input. `{text}` and `{instruction}` are the only placeholders."""

    #: A query without an instruction. Models trained with a default task carry it here.
    query: CleanText = "{text}"
    #: A query with an instruction.
    query_instructed: CleanText = "{instruction}\n{text}"
    #: A document without an instruction.
    document: CleanText = "{text}"
    #: A document with a lens's instruction.
    document_instructed: CleanText = "{instruction}\n{text}"

    @field_validator("query", "document", "query_instructed", "document_instructed")
    @classmethod
    def _has_text(cls, value: str) -> str:
        if "{text}" not in value:
            raise ValueError(f"expected a template with {{text}} in it, got {value!r}")
        return value

    def for_query(self, text: str, instruction: str | None = None) -> str:
        """Model input of a query."""
        return _fill(self.of_query(instruction), text, instruction)

    def of_query(self, instruction: str | None = None) -> str:
        """The template that a query goes into, with its placeholders."""
        return self.query if instruction is None else self.query_instructed

    def for_document(self, text: str, instruction: str | None = None) -> str:
        """Model input of a document."""
        return _fill(self.of_document(instruction), text, instruction)

    def of_document(self, instruction: str | None = None) -> str:
        """The template that a document goes into, with its placeholders."""
        return self.document if instruction is None else self.document_instructed


def _fill(template: str, text: str, instruction: str | None) -> str:
    # One pass, not str.format and not two replaces: the text itself may hold braces or placeholders.
    if template == "{text}":
        return text
    values = {"{text}": text, "{instruction}": instruction or ""}
    return re.sub(r"\{text\}|\{instruction\}", lambda match: values[match[0]], template)


class EncoderInfo(Stored):
    """What a loaded model says about itself; announced by every worker that serves it."""

    KIND: ClassVar[str] = "announcement of a model"

    #: Hub id or folder it was loaded from. A label for people: identity is the digest.
    model: Identifier
    #: Hub commit, where it came from the hub.
    revision: str | None = None
    #: A reranker has no space: it gives scores, and pooling, dimensions and templates describe how it comes to them.
    task: ModelTask = ModelTask.EMBEDDING
    #: Content digest over weights, configuration and tokenizer: the same files give the same digest anywhere.
    digest: ModelDigest
    pooling: Pooling
    #: Size of the model's full vector.
    dimensions: int = Field(gt=0)
    #: Smallest size the model declares for Matryoshka cuts; None: it has declared none.
    min_dimensions: int | None = None
    #: Sizes the model declares, where it lists them one by one.
    matryoshka_dimensions: tuple[int, ...] = ()
    normalize: bool = True
    #: How the model's authors compare its vectors: what a new collection of it does, unless told otherwise.
    distance: Distance = Distance.COSINE
    #: Longest input, in tokens.
    max_tokens: int = Field(gt=0)
    templates: Templates = Templates()
    #: Whether the model was trained to follow instructions. Where not, an instruction is still put before the query.
    instruction_aware: bool = False

    def space(self, dimensions: int | None = None, *, force: bool = False) -> VectorSpace:
        """The space of this model at the given output size (its full size if None).

        Raises:
            DimensionsNotSupported: the model has not declared this size, and `force` is off.
            InvalidInput: it is a reranker.
        """
        if self.task is not ModelTask.EMBEDDING:
            raise InvalidInput(
                f"model: expected one that embeds, got {self.model}, which is a reranker: it scores pairs, and has no "
                "vectors to keep",
                field="model",
                model=self.model,
            )
        size = self.dimensions if dimensions is None else dimensions
        if not 0 < size <= self.dimensions:
            raise DimensionsNotSupported(
                f"dimensions: expected 1 to {self.dimensions} for {self.model}, got {size}",
                field="dimensions",
                model=self.model,
            )
        if not force and not self.declares(size):
            raise DimensionsNotSupported(
                f"dimensions: {self.model} declares {self.declared()}, got {size}; "
                "cutting undeclared sizes costs quality: pass force_dimensions=True (--force-dimensions) if you measured "
                "that it is good enough",
                field="dimensions",
                model=self.model,
            )
        return VectorSpace(
            model=self.model,
            revision=self.revision,
            model_digest=self.digest,
            pooling=self.pooling,
            dimensions=size,
            normalize=self.normalize,
            max_tokens=self.max_tokens,
            templates=self.templates,
            instruction_aware=self.instruction_aware,
        )

    def declares(self, size: int) -> bool:
        """Whether the model says that its vectors may be cut to this size; its full size is one."""
        if not 0 < size <= self.dimensions:
            return False
        listed = size in self.matryoshka_dimensions or size == self.dimensions
        return listed or (self.min_dimensions is not None and size >= self.min_dimensions)

    def declared(self) -> str:
        """The sizes that the model declares, for messages."""
        if self.matryoshka_dimensions:
            return f"the sizes {', '.join(map(str, self.matryoshka_dimensions))}"
        if self.min_dimensions is not None:
            return f"any size from {self.min_dimensions} to {self.dimensions}"
        return f"only its full size {self.dimensions}"


class VectorSpace(Record):
    """Everything that decides what a vector means. Recorded with the collection, checked on every write and search."""

    #: Label and revision are for people; they are not part of the fingerprint, since a copied folder is the same model.
    model: Identifier
    revision: str | None = None
    model_digest: ModelDigest
    pooling: Pooling
    dimensions: int = Field(gt=0)
    normalize: bool = True
    max_tokens: int = Field(gt=0)
    templates: Templates = Templates()
    instruction_aware: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """64 bits in hex over all that changes a vector. Number format is left out: bf16 changes rounding only."""
        identity = self.model_dump(mode="json", exclude={"model", "revision", "instruction_aware"})
        return hashlib.sha256(canonical_json(identity)).hexdigest()[:16]

    def describe(self) -> str:
        """One line for messages."""
        return f"{self.model} ({self.dimensions}-d, {self.pooling} pooling, fingerprint {self.fingerprint})"
