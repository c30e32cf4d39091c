"""Query encoding on the wire: what a client puts into the worker's query queue, and the answer with its codec.

A request names no key: only a token, from which both sides derive where its answer goes. So nobody can have a worker write
anywhere else.

An answer is not JSON but a header and raw numbers, since vectors are what it consists of:

    byte 0     format of this layout
    byte 1     status: 0 vectors follow, 1 the text could not be encoded, 2 the request could not be read
    bytes 2-9  texts and dimensions, two unsigned integers of 32 bits; both 0 unless vectors follow
    then       float32 (texts, dimensions), or the error's message in UTF-8

All numbers are little-endian.

Rerankers are asked in the same way, through a list of their own. For each document their answer has two numbers instead of a
vector: its score, from 0 to 1, and 1 where all of it was read, 0 where its end was cut off at the reranker's window.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from gristmill_schemas.errors import EncodingFailed, GristmillError, InvalidInput, NewerFormat
from gristmill_schemas.limits import MAX_DIMENSIONS, MAX_QUERY_TEXTS, MAX_REQUEST_TEXT_BYTES
from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import CleanText, Identifier

ANSWER_FORMAT = 1
_HEADER = struct.Struct("<BBII")
_FLOAT_BYTES = 4
#: Numbers of each document in a reranker's answer.
SCORE_COLUMNS = 2
#: Characters of an error's message that travel.
_MESSAGE_CHARS = 2_000

#: 128 random bits in hex.
ReplyToken = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class QueryRequest(Stored):
    """Texts to encode, templates already applied."""

    KIND: ClassVar[str] = "query"

    #: Names the answer; nobody can guess it, and it is used once.
    token: ReplyToken
    #: Model whose vectors the caller expects; a worker with another one refuses.
    model_digest: Identifier
    dimensions: int = Field(gt=0, le=MAX_DIMENSIONS)
    normalize: bool = True
    texts: tuple[CleanText, ...] = Field(min_length=1, max_length=MAX_QUERY_TEXTS)
    #: Encode them as documents are: behind queries, in batches as full as they come. Estimates measure so.
    bulk: bool = False
    #: Microseconds since 1970, by the ledger's clock, after which nobody waits for the answer any more. The ledger itself
    #: puts it in when the request is queued; clients do not know that clock.
    deadline_us: int = Field(0, ge=0, lt=2**53)
    #: When it was queued, likewise.
    asked_us: int = Field(0, ge=0, lt=2**53)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if (size := sum(len(text.encode()) for text in self.texts)) > MAX_REQUEST_TEXT_BYTES:
            raise ValueError(f"texts: expected at most {MAX_REQUEST_TEXT_BYTES} bytes together, got {size}")
        return self


class RerankRequest(Stored):
    """One query and the documents to score against it."""

    KIND: ClassVar[str] = "rerank request"

    #: Names the answer; nobody can guess it, and it is used once.
    token: ReplyToken
    #: The reranker that is meant; a worker with another one refuses.
    model_digest: Identifier
    query: CleanText = Field(min_length=1)
    #: What the search is for; None takes the reranker's own.
    instruction: CleanText | None = None
    documents: tuple[CleanText, ...] = Field(min_length=1, max_length=MAX_QUERY_TEXTS)
    #: Microseconds since 1970, as in `QueryRequest`: put in by the ledger.
    deadline_us: int = Field(0, ge=0, lt=2**53)
    #: When it was queued, likewise.
    asked_us: int = Field(0, ge=0, lt=2**53)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        size = sum(len(text.encode()) for text in (self.query, self.instruction or "", *self.documents))
        if size > MAX_REQUEST_TEXT_BYTES:
            raise ValueError(f"documents: expected at most {MAX_REQUEST_TEXT_BYTES} bytes, query included, got {size}")
        return self


class Status(IntEnum):
    """Second byte of an answer."""

    VECTORS = 0
    FAILED = 1  #: a text could not be encoded
    REFUSED = 2  #: the request could not be read, or is for another model


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """Vectors of one request."""

    #: float32 (texts, dimensions), little-endian.
    floats: bytes
    texts: int
    dimensions: int


def pack_answer(floats: bytes, texts: int, dimensions: int) -> bytes:
    """Answer with vectors: the bytes of float32 (texts, dimensions), little-endian."""
    return _HEADER.pack(ANSWER_FORMAT, Status.VECTORS, texts, dimensions) + floats


def pack_failure(message: str, status: Status = Status.FAILED) -> bytes:
    """Answer with an error's message, or the beginning of a long one."""
    return _HEADER.pack(ANSWER_FORMAT, status, 0, 0) + message[:_MESSAGE_CHARS].encode(errors="backslashreplace")


def unpack_answer(body: bytes) -> QueryAnswer:
    """The vectors of an answer.

    Raises:
        EncodingFailed, GristmillError: the worker's own error, in its words.
        NewerFormat: a newer worker wrote it.
        InvalidInput: these bytes are no answer.
    """
    if body and body[0] > ANSWER_FORMAT:
        raise NewerFormat("answer to a query", body[0], ANSWER_FORMAT)
    if len(body) < _HEADER.size:
        raise InvalidInput(f"answer to a query: expected a header of {_HEADER.size} bytes, got {body[:16]!r}")
    _, status, texts, dimensions = _HEADER.unpack_from(body)
    rest = body[_HEADER.size :]
    if status != Status.VECTORS:
        failed = EncodingFailed if status == Status.FAILED else GristmillError
        raise failed(rest.decode(errors="replace"))
    if len(rest) != (expected := texts * dimensions * _FLOAT_BYTES):
        raise InvalidInput(f"answer to a query: expected {expected} bytes of {texts} vectors, got {len(rest)}")
    return QueryAnswer(rest, texts, dimensions)
